package task

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	taskapi "github.com/containerd/containerd/api/runtime/task/v3"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/types/known/emptypb"

	"gantry/api/errdefs"
)

// Kill sends a signal; a process that has ended is NotFound. A KILL of the init ends the
// task even when its shim does not answer: the shim is then killed and the task cleaned
// up as that of any dead shim. Should the connection be lost under it, it is sent again
// on the next one; of a task whose shim has died it is NotFound.
func (m *Manager) Kill(ctx context.Context, id, execID string, signal uint32, all bool) error {
	s, err := m.get(ctx, id)
	if err != nil {
		return err
	}
	timeout := callTimeout
	final := execID == "" && signal == uint32(unix.SIGKILL)
	if final && !all {
		timeout = killTimeout
	}
	req := &taskapi.KillRequest{ID: id, ExecID: execID, Signal: signal, All: all}
	if !final {
		return s.call(ctx, timeout, "Kill", req, &emptypb.Empty{})
	}
	err = s.ask(ctx, timeout, "Kill", req, &emptypb.Empty{}) // a second one does no harm
	if errors.Is(err, errGone) {
		return errdefs.NotFound("task %s not found", id)
	}
	if !errors.Is(err, context.DeadlineExceeded) || s.answers(ctx) {
		return err
	}
	if downErr := m.putDown(ctx, s); downErr != nil {
		return fmt.Errorf("%w; it could not be killed: %w", err, downErr)
	}
	return nil
}

// answers says whether the shim does anything at all: a call may just take its time.
func (s *shim) answers(ctx context.Context) bool {
	err := s.call(context.WithoutCancel(ctx), answerTimeout, "Connect", &taskapi.ConnectRequest{ID: s.id}, &taskapi.ConnectResponse{})
	return !errors.Is(err, context.DeadlineExceeded)
}

// putDown kills a shim that does not answer and waits until its death has been noticed,
// which ends the task. One that serves other tasks too is left alone.
func (m *Manager) putDown(ctx context.Context, s *shim) error {
	if m.homes.shared(s) {
		return errors.New("its shim serves other containers too")
	}
	fd, pid, err := s.process()
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	s.log.WarnContext(ctx, "shim does not answer, killing it", "shim", pid)
	if err := killGroup(fd); err != nil {
		return fmt.Errorf("kill shim %d: %w", pid, err)
	}
	timer := time.NewTimer(deathTimeout)
	defer timer.Stop()
	select {
	case <-s.gone:
		return nil
	case <-s.stopping:
		return errClosed
	case <-timer.C: // it sleeps in the kernel
		return fmt.Errorf("shim %d is still there %v after its kill", pid, deathTimeout)
	}
}

// killShim kills a shim that has been asked to end and in a moment is still there.
func (m *Manager) killShim(ctx context.Context, s *shim) error {
	if m.homes.shared(s) {
		return nil
	}
	return s.endProcess(ctx)
}

// endProcess waits a moment for the end of the shim's process, then kills it.
func (s *shim) endProcess(ctx context.Context) error {
	fd, pid, err := s.process()
	if err != nil {
		return nil //nolint:nilerr // it has ended
	}
	defer unix.Close(fd)
	if endsWithin(fd, shutdownWait) {
		return nil
	}
	s.log.WarnContext(ctx, "shim does not end, killing it", "shim", pid)
	if err := killGroup(fd); err != nil {
		return fmt.Errorf("kill shim %d: %w", pid, err)
	}
	return nil
}

// endsWithin waits for the end of a process.
func endsWithin(pidfd int, d time.Duration) bool {
	for deadline := time.Now().Add(d); ; {
		left := max(time.Until(deadline), 0)
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}, int(left.Milliseconds()))
		if !errors.Is(err, unix.EINTR) {
			return n > 0
		}
	}
}

// signalGroup is PIDFD_SIGNAL_PROCESS_GROUP of linux/pidfd.h, since Linux 6.9.
const signalGroup = 1 << 2

// killGroup kills a process with the group that it leads, where the kernel can: a
// runtime that a shim waits for, or a hook, would go on without it.
func killGroup(pidfd int) error {
	if unix.PidfdSendSignal(pidfd, unix.SIGKILL, nil, signalGroup) == nil {
		return nil
	}
	err := unix.PidfdSendSignal(pidfd, unix.SIGKILL, nil, 0)
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	return err
}

// process returns a descriptor of the shim's process, and its pid. Candidates are the
// pid in the bundle and the parent of the init; what the number means now is checked
// while the descriptor keeps it from meaning something else unnoticed.
func (s *shim) process() (fd, pid int, err error) {
	for _, pid := range []int{s.bundle.pid(fileShimPID), parent(int(s.initPID()))} {
		if pid < 2 {
			continue
		}
		fd, err := unix.PidfdOpen(pid, 0)
		if err != nil {
			continue
		}
		if (s.bundle.serves(pid) || listensAt(pid, s.boot.Address)) && unix.PidfdSendSignal(fd, 0, nil, 0) == nil {
			return fd, pid, nil
		}
		unix.Close(fd)
	}
	return 0, 0, errors.New("its shim's process was not found")
}

// initPID is that of the init as its shim has noted it, 0 when it has not.
func (b *bundle) initPID() uint32 { return uint32(b.pid(fileInitPID)) }

// pid is the number in a file of the bundle, 0 when there is none.
func (b *bundle) pid(file string) int {
	raw, err := os.ReadFile(filepath.Join(b.path, file))
	if err != nil {
		return 0
	}
	pid, err := strconv.ParseUint(strings.TrimSpace(string(raw)), 10, 31)
	if err != nil {
		return 0
	}
	return int(pid)
}

// serves says whether a process is the bundle's shim: it works in the bundle and was
// told the task's id.
func (b *bundle) serves(pid int) bool {
	dir := fmt.Sprintf("/proc/%d", pid)
	at, err := os.Stat(dir + "/cwd")
	if err != nil {
		return false
	}
	own, err := os.Stat(b.path)
	if err != nil || !os.SameFile(at, own) {
		return false
	}
	line, err := os.ReadFile(dir + "/cmdline")
	return err == nil && bytes.Contains(append([]byte{0}, line...), []byte("\x00-id\x00"+b.id+"\x00"))
}

// listensAt says whether a process is the shim of ours that was told to serve there.
func listensAt(pid int, address string) bool {
	line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	return err == nil && address != "" && bytes.Contains(line, []byte("\x00-socket\x00"+address+"\x00"))
}

// parent is the parent of a process, 0 when it is not known.
func parent(pid int) int {
	if pid == 0 {
		return 0
	}
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	f := bytes.Fields(raw[bytes.LastIndexByte(raw, ')')+1:]) // the name before may hold anything
	if len(f) < 2 {
		return 0
	}
	ppid, _ := strconv.Atoi(string(f[1]))
	return ppid
}
