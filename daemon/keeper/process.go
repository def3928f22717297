package keeper

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"gantry/api/errdefs"
	"gantry/api/failpoint"
	"gantry/api/shimwire"
)

// process is a keeper at work: our child, or that of a daemon before us.
type process struct {
	init shimwire.Fifos
	kill func()
	done chan struct{} // closed when it has ended, and been reaped
	wait time.Duration // before it is replaced
}

// launch starts a keeper, which would be replaced after wait. Its socket listens when
// launch returns.
func (k *Keepers) launch(id string, init shimwire.Fifos, wait time.Duration) (err error) {
	binary, err := k.binary()
	if err != nil {
		return err
	}
	l, err := shimwire.Listen(k.socket(id))
	if err != nil {
		return err
	}
	defer l.Close()
	defer func() {
		if err != nil {
			err = errors.Join(err, removeIfThere(k.socket(id)))
		}
	}()
	socket, err := l.File()
	if err != nil {
		return err
	}
	defer socket.Close()
	args := []string{"-namespace", "moby", "-id", id, "-socket", k.socket(id), "-listen-fd", "3"}
	if k.cfg.Debug {
		args = append(args, "-debug")
	}
	cmd := exec.Command(binary, append(args, "keep")...)
	cmd.Dir, cmd.Env = "/", append(environ(), "GOMAXPROCS=1")
	cmd.ExtraFiles = []*os.File{socket}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start keeper: %w", err)
	}
	failpoint.Hit("daemon/keeper.launch.started")
	p := &process{init: init, wait: wait, done: make(chan struct{}), kill: func() {
		cmd.Process.Kill() //nolint:errcheck // it has ended
	}}
	go func() { // ends with the keeper
		cmd.Wait() //nolint:errcheck // however it ended
		close(p.done)
	}()
	pid := []byte(strconv.Itoa(cmd.Process.Pid))
	if err := os.WriteFile(k.pidFile(id), pid, 0o600); err != nil { // a daemon after us could not mind it
		return errors.Join(fmt.Errorf("note keeper's pid: %w", err), p.end())
	}
	k.mind(id, p)
	return nil
}

// take minds the keeper of a container that a daemon before us has started, if it is there.
func (k *Keepers) take(id string, init shimwire.Fifos) error {
	raw, err := os.ReadFile(k.pidFile(id))
	if err != nil {
		return err
	}
	pid, err := strconv.Atoi(string(raw))
	if err != nil {
		return err
	}
	fd, err := unix.PidfdOpen(pid, unix.PIDFD_NONBLOCK)
	if err != nil {
		return err
	}
	f := os.NewFile(uintptr(fd), "pidfd")
	if !isKeeper(pid, id) { // looked at while the pid can't become another's
		f.Close()
		return unix.ESRCH
	}
	rc, err := f.SyscallConn()
	if err != nil {
		f.Close()
		return err
	}
	p := &process{init: init, wait: pause, done: make(chan struct{}), kill: func() {
		rc.Control(func(fd uintptr) { unix.PidfdSendSignal(int(fd), unix.SIGKILL, nil, 0) }) //nolint:errcheck // it has ended
	}}
	go func() { // ends with the keeper
		defer close(p.done)
		defer f.Close()
		rc.Read(ended) //nolint:errcheck // no deadline is set, and nobody else closes it
	}()
	k.mind(id, p)
	return nil
}

// ended says whether the process of a pidfd has ended.
func ended(fd uintptr) bool {
	n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0)
	return n > 0 || err != nil && !errors.Is(err, unix.EINTR)
}

// isKeeper says whether the process is what its pid file says.
func isKeeper(pid int, id string) bool {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	words := strings.Split(strings.TrimSuffix(string(raw), "\x00"), "\x00")
	return err == nil && filepath.Base(words[0]) == shimwire.Binary && words[len(words)-1] == "keep" && slices.Contains(words, id)
}

// killTime bounds the wait for a keeper that has been killed: it may be asleep on a disk.
const killTime = 5 * time.Second

// end kills the process and waits for its end.
func (p *process) end() error {
	p.kill()
	timer := time.NewTimer(killTime)
	defer timer.Stop()
	select {
	case <-p.done:
		return nil
	case <-timer.C:
		return errdefs.Unavailable("keeper does not die")
	}
}

// environ is ours without what says something about this process alone.
func environ() []string {
	return slices.DeleteFunc(os.Environ(), func(kv string) bool {
		name, _, _ := strings.Cut(kv, "=")
		return slices.Contains([]string{"NOTIFY_SOCKET", "LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "WATCHDOG_PID", "WATCHDOG_USEC"}, name)
	})
}

func (k *Keepers) binary() (string, error) {
	if k.cfg.Binary != "" {
		return k.cfg.Binary, nil
	}
	self, err := os.Executable()
	if err != nil {
		return "", err
	}
	return filepath.Join(filepath.Dir(self), shimwire.Binary), nil
}

// A keeper that died is not replaced at once, nor one that lived shortly soon again.
const (
	pause     = time.Second
	longPause = 30 * time.Second
)

// mind puts another keeper in the place of one that dies before it is forgotten: without
// it the container would stand still when its fifos are full.
func (k *Keepers) mind(id string, p *process) {
	k.mu.Lock()
	k.known[id] = p
	k.mu.Unlock()
	begun := time.Now()
	go func() { // ends when the keeper is forgotten or replaced, half a minute after at most
		<-p.done
		if !k.missed(id, p) {
			return
		}
		k.log.Warn("keeper of a container's streams died", "container", id)
		if time.Since(begun) > longPause {
			p.wait = pause
		}
		for told := false; ; p.wait = min(2*p.wait, longPause) {
			time.Sleep(p.wait)
			err := k.replace(id, p)
			if err != nil && !told {
				k.log.Error("replace keeper, to be tried again", "container", id, "err", err)
				told = true
			}
			if !k.missed(id, p) { // there is another, which is minded too
				return
			}
		}
	}()
}

// replaceTimeout bounds the wait for the container's lane too.
const replaceTimeout = time.Minute

// replace starts another keeper in the place of p, which is dead, if it is missed.
func (k *Keepers) replace(id string, p *process) error {
	ctx, cancel := context.WithTimeout(context.Background(), replaceTimeout)
	defer cancel()
	unlock, err := k.lanes.Lock(ctx, id)
	if err != nil {
		return err
	}
	defer unlock()
	if !k.missed(id, p) {
		return nil
	}
	if err := k.launch(id, p.init, min(2*p.wait, longPause)); err != nil {
		return err
	}
	err = shimwire.OpenFifos(ctx, k.socket(id), p.init)
	if err != nil { // it is of no use: its death has it replaced
		k.mu.Lock()
		next := k.known[id]
		k.mu.Unlock()
		next.kill()
	}
	return err
}

func (k *Keepers) missed(id string, p *process) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.known[id] == p
}

func (k *Keepers) knows(id string) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.known[id] != nil
}

func (k *Keepers) forget(id string) *process {
	k.mu.Lock()
	defer k.mu.Unlock()
	p := k.known[id]
	delete(k.known, id)
	return p
}
