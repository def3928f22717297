package exec

import (
	"crypto/rand"
	"encoding/hex"
	"slices"
	"sync"
	"time"

	"github.com/docker/docker/api/types/backend"
	containertypes "github.com/docker/docker/api/types/container"

	"gantry/api/errdefs"
	"gantry/daemon/stream"
)

// state of an exec.
type state int

const (
	created state = iota
	running       // Start has taken it
	exited
)

// exec is one process, from its creation to its pruning.
type exec struct {
	id, container string
	opts          containertypes.ExecOptions
	keys          []byte

	started chan struct{} // closed when the process runs, or can't
	done    chan struct{} // closed when the exit has been committed

	mu    sync.Mutex
	state state        // guarded by mu
	pid   int          // guarded by mu; stays when it has exited
	code  int          // guarded by mu; good once exited
	stale bool         // guarded by mu; a sweep has seen it exited
	tail  *stream.Tail // guarded by mu; the attached client's stream, nil without
}

func newExec(container string, o containertypes.ExecOptions, keys []byte) *exec {
	var b [32]byte
	rand.Read(b[:]) //nolint:errcheck // never fails
	return &exec{
		id: hex.EncodeToString(b[:]), container: container, opts: o, keys: keys,
		started: make(chan struct{}), done: make(chan struct{}),
	}
}

// take moves the exec from created to running, once.
func (x *exec) take() error {
	x.mu.Lock()
	defer x.mu.Unlock()
	switch x.state {
	case exited:
		return errdefs.Conflict("exec command %s has already run", x.id)
	case running:
		return errdefs.Conflict("exec command %s is already running", x.id)
	}
	x.state = running
	return nil
}

func (x *exec) connected(t *stream.Tail) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.tail = t
}

// release has what the shim holds of the output taken: the process has ended, and nobody
// waits for a client that reads slowly.
func (x *exec) release() {
	x.mu.Lock()
	tail := x.tail
	x.tail = nil
	x.mu.Unlock()
	if tail != nil {
		tail.Over()
	}
}

func (x *exec) setPid(pid int) {
	x.mu.Lock()
	x.pid = pid
	x.mu.Unlock()
	close(x.started)
}

// finish commits the end, and the start's failure where there was no process.
func (x *exec) finish(code int) {
	x.mu.Lock()
	x.state, x.code = exited, code
	x.opts.Env = nil // nobody asks for it any more
	x.mu.Unlock()
	select {
	case <-x.started:
	default:
		close(x.started)
	}
	close(x.done)
}

func (x *exec) inspect() *backend.ExecInspect {
	x.mu.Lock()
	defer x.mu.Unlock()
	out := &backend.ExecInspect{
		ID: x.id, ContainerID: x.container, Running: x.state == running, Pid: x.pid,
		OpenStdin: x.opts.AttachStdin, OpenStdout: x.opts.AttachStdout, OpenStderr: x.opts.AttachStderr,
		DetachKeys: []byte{}, CanRemove: x.stale,
		ProcessConfig: &backend.ExecProcessConfig{
			Tty: x.opts.Tty, Entrypoint: x.opts.Cmd[0], Arguments: x.opts.Cmd[1:], User: x.opts.User, Privileged: &x.opts.Privileged,
		},
	}
	if x.opts.DetachKeys != "" { // Docker tells no default
		out.DetachKeys = x.keys
	}
	if x.state == exited {
		code := x.code
		out.ExitCode = &code
	}
	return out
}

func (x *exec) is(s state) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.state == s
}

// What is kept of execs that have ended: as with dockerd they go with the second sweep
// that sees them, and tell after the first that they may.
const (
	sweepEvery = 5 * time.Minute
	keepMost   = 10000
	keepSize   = 64 << 20 // of their commands, in bytes
)

// mostAlive bounds those that run or wait for their start; containers' limits of
// processes do not know of the latter.
const mostAlive = 10000

// size is about what an exec that has ended takes in memory, in bytes.
func (x *exec) size() int {
	n := 512
	for _, arg := range x.opts.Cmd {
		n += len(arg)
	}
	return n
}

// addNew is add unless there are too many.
func (s *Service) addNew(x *exec) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.execs)-len(s.ended) >= mostAlive {
		return false
	}
	s.execs[x.id] = x
	return true
}

func (s *Service) add(x *exec) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.execs[x.id] = x
}

func (s *Service) find(id string) (*exec, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if x := s.execs[id]; x != nil {
		return x, nil
	}
	return nil, errdefs.NotFound("No such exec instance: %s", id)
}

// finished notes an end and drops the oldest where there are too many.
func (s *Service) finished(x *exec) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ended = append(s.ended, x)
	s.endedSize += x.size()
	for len(s.ended) > keepMost || s.endedSize > keepSize {
		s.dropOldest()
	}
}

// dropOldest: the caller holds mu.
func (s *Service) dropOldest() {
	delete(s.execs, s.ended[0].id)
	s.endedSize -= s.ended[0].size()
	s.ended[0], s.ended = nil, s.ended[1:]
}

// prune sweeps until the daemon ends.
func (s *Service) prune() {
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			s.sweep()
		case <-s.life.Done():
			return
		}
	}
}

// sweep drops what the sweep before has seen.
func (s *Service) sweep() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.dropEnded(func(x *exec) bool {
		x.mu.Lock()
		defer x.mu.Unlock()
		if x.stale {
			delete(s.execs, x.id)
			return true
		}
		x.stale = true
		return false
	})
}

// dropEnded: the caller holds mu.
func (s *Service) dropEnded(which func(*exec) bool) {
	s.ended = slices.DeleteFunc(s.ended, func(x *exec) bool {
		gone := which(x)
		if gone {
			s.endedSize -= x.size()
		}
		return gone
	})
}

// forgetCreated drops the execs of a container that has ended which were never started.
func (s *Service) forgetCreated(container string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for id, x := range s.execs {
		if x.container == container && x.is(created) {
			delete(s.execs, id)
		}
	}
}

// forget drops the execs of a container that has gone.
func (s *Service) forget(container string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for id, x := range s.execs {
		if x.container == container {
			delete(s.execs, id)
		}
	}
	s.dropEnded(func(x *exec) bool { return x.container == container })
}

// running are the ids of a container's execs that have not ended, sorted; nil for none.
func (s *Service) running(container string) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var ids []string
	for id, x := range s.execs {
		if x.container == container && !x.is(exited) {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids
}
