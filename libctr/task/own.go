package task

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"gantry/api/failpoint"
	"gantry/api/shimwire"
	"gantry/api/undo"
	"gantry/api/unixsocket"
)

// own says whether the binary is our own shim, of the same installation: then the core
// executes the serving process itself.
func (m *Manager) own(binary string) bool {
	return filepath.Base(binary) == shimwire.Binary && filepath.Dir(binary) == m.cfg.ShimDir
}

// serve executes our shim, which ends by itself when its task is deleted. The core makes
// the socket, so that it need not wait until the shim listens, and is the shim's parent;
// when the core dies pid 1 adopts the shim. How to reach the shim is noted before it
// exists: a core that dies here leaves a bundle with nobody at its address, or with a
// shim that has no task. What it returns is the shim's pid.
func (m *Manager) serve(ctx context.Context, s *shim, u *undo.Stack) (pid int, err error) {
	_, span := m.tracer.Start(ctx, "launch shim")
	defer func() { endSpan(span, err) }()
	path, err := m.socketPath()
	if err != nil {
		return 0, err
	}
	s.boot = bootstrap{Version: 3, Address: "unix://" + path, Protocol: protocolTTRPC,
		OneTask: s.bundle.group == "" && !s.boot.Sandbox, Group: s.bundle.group, Sandbox: s.boot.Sandbox}
	if err := s.boot.save(s.bundle); err != nil {
		return 0, fmt.Errorf("note bootstrap parameters: %w", err)
	}
	failpoint.Hit("libctr/task.serve.saved")
	l, err := listen(path)
	if err != nil {
		return 0, err
	}
	defer l.Close()
	u.Add("remove shim's socket", func(context.Context) error { return os.Remove(path) })
	failpoint.Hit("libctr/task.serve.listening")
	if s.child, err = m.execute(s, l); err != nil {
		return 0, fmt.Errorf("start failed: %w", err)
	}
	u.Add("kill shim", func(context.Context) error { s.child.kill(); return nil })
	failpoint.Hit("libctr/task.serve.executed")
	return s.child.pid, s.bundle.notePID(s.child.pid)
}

// notePID keeps the pid of the bundle's shim.
func (b *bundle) notePID(pid int) error {
	if err := os.WriteFile(filepath.Join(b.path, fileShimPID), []byte(strconv.Itoa(pid)), 0o644); err != nil {
		return fmt.Errorf("note shim's pid: %w", err)
	}
	return nil
}

// socketPath names a socket that no other shim, not even of the same container, has had.
func (m *Manager) socketPath() (string, error) {
	dir := m.socketDir()
	if err := os.MkdirAll(dir, 0o711); err != nil {
		return "", fmt.Errorf("make directory of shim sockets: %w", err)
	}
	var name [16]byte
	rand.Read(name[:])
	return filepath.Join(dir, hex.EncodeToString(name[:])), nil
}

// socketDir is this core's own.
func (m *Manager) socketDir() string {
	if m.cfg.SocketDir != "" {
		return m.cfg.SocketDir
	}
	return filepath.Join(m.cfg.State, "s")
}

// listen makes a socket that only our user may connect to, and that stays when the
// listener is closed.
func listen(path string) (*net.UnixListener, error) {
	name, release, err := unixsocket.Near(path)
	if err != nil {
		return nil, fmt.Errorf("listen: %w", err)
	}
	defer release()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: name, Net: "unix"})
	if err != nil {
		return nil, err
	}
	l.SetUnlinkOnClose(false)
	if err := os.Chmod(path, 0o600); err != nil {
		l.Close()
		os.Remove(path)
		return nil, err
	}
	return l, nil
}

func (m *Manager) execute(s *shim, l *net.UnixListener) (*child, error) {
	socket, err := l.File()
	if err != nil {
		return nil, err
	}
	defer socket.Close()
	program, err := m.programs.open(s.binary)
	if err != nil {
		return nil, err
	}
	defer unix.Close(program)
	flags := []string{"-socket", s.boot.Address, "-listen-fd", "3"}
	if s.boot.OneTask {
		flags = append(flags, "-one-task")
	}
	c := m.shimCommand(s.bundle, s.binary, "serve", flags...)
	// By our own number: in the child, os/exec may have put another file in the place of program.
	cmd := exec.Command(fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), program), c.args...)
	cmd.Args[0], cmd.Dir, cmd.Env = s.binary, c.dir, append(append(c.env, "GOMAXPROCS=1"), m.cfg.ShimEnv...) // as its own start call does
	cmd.ExtraFiles = []*os.File{socket}
	if s.fifo != nil { // what a shim prints when it can't go on
		cmd.Stderr = s.fifo
	}
	return execute(cmd)
}

// seeOff sees to it that a shim whose task has been deleted ends, as it does by itself.
// Until then its container is not launched again: it still holds the root file system.
func (m *Manager) seeOff(s *shim) {
	if s.child == nil {
		fd, pid, err := s.process()
		if err != nil {
			return // it has ended
		}
		if s.child, err = watch(pid, fd); err != nil {
			s.log.Warn("watch the end of a shim", "err", err)
			return
		}
	}
	m.mu.Lock()
	m.leaving[s.key] = s.child
	m.mu.Unlock()
	m.background(func() {
		defer func() {
			m.mu.Lock()
			defer m.mu.Unlock()
			if m.leaving[s.key] == s.child {
				delete(m.leaving, s.key)
			}
		}()
		timer := time.NewTimer(farewellTimeout)
		defer timer.Stop()
		select {
		case <-s.child.done:
		case <-m.life.Done():
		case <-timer.C:
			s.log.Warn("shim has no task any more and does not end, killing it", "shim", s.child.pid)
			s.child.kill()
		}
	})
}

// awaitLeft waits a while for the shim of an earlier run.
func (m *Manager) awaitLeft(ctx context.Context, k key) {
	m.mu.Lock()
	c := m.leaving[k]
	m.mu.Unlock()
	if c == nil {
		return
	}
	timer := time.NewTimer(leftTimeout)
	defer timer.Stop()
	select {
	case <-c.done:
	case <-timer.C: // some reader of its output is behind
	case <-ctx.Done():
	}
}
