// Package keeper runs the processes that hold the streams of containers under shims
// that are not ours; see shim/keeper for what such a process does. There is one for each
// container that runs, and it outlives the daemon.
//
// On disk, beside the stream sockets:
//
//	<id>.sock           where the keeper serves, as our shim would
//	<id>.fifos/         there from before the keeper until after it
//	  pid               the keeper's
//	  init.0 .1 .2      fifos: stdin, stdout and stderr of the init
//	  <exec id>.0 …     those of an exec
package keeper

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"gantry/api/errdefs"
	"gantry/api/failpoint"
	"gantry/api/keylock"
	"gantry/api/shimwire"
	"gantry/libctr/core/task"
)

// Config of Keepers; constant after New.
type Config struct {
	Dir    string // of the stream sockets
	Binary string // our shim's; "" is the one beside this executable
	Debug  bool
}

// Keepers are those of all containers. Safe for concurrent use.
//
// Lock order: a lane, then mu.
type Keepers struct {
	cfg Config
	log *slog.Logger

	lanes keylock.Locks // by container; held across the making and ending of its keeper

	mu    sync.Mutex
	known map[string]*process // by container; guarded by mu
}

// Streams are those of one process.
type Streams struct {
	Output   string // a shimwire.LogURI or StreamURI
	Stdin    bool
	Terminal bool // everything the terminal shows is stdout
}

// New makes Keepers; it does no I/O.
func New(cfg Config, log *slog.Logger) *Keepers {
	return &Keepers{cfg: cfg, log: log, known: map[string]*process{}}
}

// Close leaves the keepers to the next daemon.
func (k *Keepers) Close() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	clear(k.known)
	return nil
}

// undoTime bounds the taking back of a begin that failed, where there is nothing to say.
const undoTime = 2 * time.Second

const fifosSuffix = ".fifos"

func (k *Keepers) fifos(id string) string   { return filepath.Join(k.cfg.Dir, id+fifosSuffix) }
func (k *Keepers) pidFile(id string) string { return filepath.Join(k.fifos(id), "pid") }
func (k *Keepers) socket(id string) string  { return filepath.Join(k.cfg.Dir, id+".sock") }

// Keeps says whether a container has a keeper, or had one that died.
func (k *Keepers) Keeps(id string) bool {
	_, err := os.Stat(k.fifos(id))
	return err == nil
}

// Begin makes the fifos of a container's init, which it returns for the task, and has a
// keeper hold them. On error nothing is left.
func (k *Keepers) Begin(ctx context.Context, id string, s Streams) (_ task.IO, err error) {
	unlock, err := k.lanes.Lock(ctx, id)
	if err != nil {
		return task.IO{}, err
	}
	defer unlock()
	if err := k.end(ctx, id); err != nil { // of a run that was cut off
		return task.IO{}, err
	}
	defer func() {
		if err != nil {
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoTime)
			defer cancel()
			err = errors.Join(err, k.end(ctx, id))
		}
	}()
	if err := os.Mkdir(k.fifos(id), 0o700); err != nil {
		return task.IO{}, fmt.Errorf("make directory of fifos: %w", err)
	}
	failpoint.Hit("daemon/keeper.begin.directory")
	io, err := k.open(ctx, id, "", s)
	failpoint.Hit("daemon/keeper.begin.opened")
	return io, err
}

// Adopt has a keeper hold the streams of an init that runs; the one that does so
// already, as a rule. It fails once they have been ended.
func (k *Keepers) Adopt(ctx context.Context, id string, s Streams) error {
	unlock, err := k.lanes.Lock(ctx, id)
	if err != nil {
		return err
	}
	defer unlock()
	_, err = k.open(ctx, id, "", s)
	return err
}

// BeginExec is Begin for an exec.
func (k *Keepers) BeginExec(ctx context.Context, id, exec string, s Streams) (_ task.IO, err error) {
	defer func() {
		if err != nil {
			err = errors.Join(err, k.EndExec(context.WithoutCancel(ctx), id, exec))
		}
	}()
	return k.open(ctx, id, exec, s)
}

// open makes the fifos that are missing and has them opened.
func (k *Keepers) open(ctx context.Context, id, exec string, s Streams) (task.IO, error) {
	io := task.IO{Stdout: k.fifo(id, exec, 1), Terminal: s.Terminal}
	if s.Stdin {
		io.Stdin = k.fifo(id, exec, 0)
	}
	if !s.Terminal {
		io.Stderr = k.fifo(id, exec, 2)
	}
	for _, path := range []string{io.Stdin, io.Stdout, io.Stderr} {
		if path == "" {
			continue
		}
		if err := unix.Mkfifo(path, 0o600); err != nil && !errors.Is(err, unix.EEXIST) {
			return task.IO{}, &os.PathError{Op: "mkfifo", Path: path, Err: err}
		}
	}
	request := shimwire.Fifos{
		Proc: exec, Output: s.Output, Terminal: s.Terminal,
		Stdin: io.Stdin, Stdout: io.Stdout, Stderr: io.Stderr,
	}
	err := shimwire.OpenFifos(ctx, k.socket(id), request)
	if isUnavailable(err) && exec == "" {
		if err = k.launch(id, request, pause); err == nil {
			failpoint.Hit("daemon/keeper.begin.launched")
			err = shimwire.OpenFifos(ctx, k.socket(id), request)
		}
	}
	if err != nil {
		return task.IO{}, fmt.Errorf("keep streams: %w", err)
	}
	if exec == "" && !k.knows(id) {
		if err := k.take(id, request); err != nil {
			k.log.WarnContext(ctx, "mind keeper of an earlier daemon", "container", id, "err", err)
		}
	}
	return io, nil
}

// initName is what the init is called where execs have their ids.
const initName = "init"

func (k *Keepers) fifo(id, exec string, n int) string {
	if exec == "" {
		exec = initName
	}
	return filepath.Join(k.fifos(id), fmt.Sprintf("%s.%d", exec, n))
}

// CloseStdin ends the keeper's side of a process's stdin, after what is being written.
// The shim's own side is to be closed by the task API.
func (k *Keepers) CloseStdin(ctx context.Context, id, exec string) error {
	c, err := shimwire.Dial(ctx, k.socket(id), shimwire.Hello{Proc: exec, Stdin: true})
	if errdefs.IsNotFound(err) || isUnavailable(err) || errdefs.IsFailedPrecondition(err) {
		return nil // it has none
	}
	if err != nil {
		return err
	}
	defer c.Close()
	return c.CloseStdin()
}

// EndExec ends the streams of an exec that the shim has deleted. The end of what is not
// there is no error.
func (k *Keepers) EndExec(ctx context.Context, id, exec string) error {
	err := shimwire.EndFifos(ctx, k.socket(id), exec)
	if isUnavailable(err) {
		err = nil
	}
	failpoint.Hit("daemon/keeper.end-exec.ended")
	for n := range 3 {
		if rerr := os.Remove(k.fifo(id, exec, n)); rerr != nil && !errors.Is(rerr, fs.ErrNotExist) {
			err = errors.Join(err, rerr)
		}
	}
	return err
}

// Execs are the ids of a container's execs whose fifos are there.
func (k *Keepers) Execs(id string) (execs []string) {
	names, _ := filepath.Glob(filepath.Join(k.fifos(id), "*.1"))
	for _, path := range names {
		if exec := strings.TrimSuffix(filepath.Base(path), ".1"); exec != initName {
			execs = append(execs, exec)
		}
	}
	return execs
}

// End ends the streams of a container whose task has been deleted, and its keeper.
// The end of what is not there is no error.
func (k *Keepers) End(ctx context.Context, id string) error {
	if !k.Keeps(id) {
		return nil
	}
	unlock, err := k.lanes.Lock(ctx, id)
	if err != nil {
		return err
	}
	defer unlock()
	return k.end(ctx, id)
}

// end is called in the container's lane.
func (k *Keepers) end(ctx context.Context, id string) error {
	if !k.Keeps(id) {
		return nil
	}
	if !k.knows(id) {
		k.take(id, shimwire.Fifos{}) //nolint:errcheck // there is none
	}
	p := k.forget(id) // it is not missed
	err := shimwire.EndFifos(ctx, k.socket(id), "")
	if err != nil && p != nil {
		if !isUnavailable(err) {
			k.log.WarnContext(ctx, "keeper does not end, and is killed", "container", id, "err", err)
		}
		if err := p.end(); err != nil { // its files stay, by which the next end finds it
			return err
		}
		err = nil
	}
	if err == nil || isUnavailable(err) {
		err = removeIfThere(k.socket(id)) // of one that was killed
	}
	failpoint.Hit("daemon/keeper.end.ended")
	return errors.Join(err, os.RemoveAll(k.fifos(id)))
}

// isUnavailable says that nobody serves the socket.
func isUnavailable(err error) bool { return errors.Is(err, errdefs.ErrUnavailable) }

func removeIfThere(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// Sweep ends the keepers of all containers but those that live. It is called once,
// before the first Begin.
func (k *Keepers) Sweep(ctx context.Context, live func(id string) bool) {
	found, _ := filepath.Glob(filepath.Join(k.cfg.Dir, "*"+fifosSuffix))
	for _, dir := range found {
		id := strings.TrimSuffix(filepath.Base(dir), fifosSuffix)
		if live(id) {
			continue
		}
		if err := k.End(ctx, id); err != nil {
			k.log.WarnContext(ctx, "end keeper without container", "container", id, "err", err)
		}
	}
}
