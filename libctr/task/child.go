package task

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// child is the process of a shim: one that this core has executed, and reaps, or one
// that an earlier core has, which pid 1 reaps.
type child struct {
	pid   int
	pidfd *os.File
	done  chan struct{} // closed when it has ended; status is set then
	// status is how it ended, in words.
	status string
}

// execute runs the command as a session of its own and reaps it when it ends.
func execute(cmd *exec.Cmd) (*child, error) {
	var fd int
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, PidFD: &fd}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	pid := cmd.Process.Pid
	cmd.Process.Release() // its own descriptor; never fails after a start
	return watch(pid, fd)
}

// watch waits for the end of a process, without a thread. It owns the descriptor.
func watch(pid, pidfd int) (*child, error) {
	if err := unix.SetNonblock(pidfd, true); err != nil {
		unix.Close(pidfd)
		return nil, fmt.Errorf("pidfd: %w", err)
	}
	c := &child{pid: pid, pidfd: os.NewFile(uintptr(pidfd), "pidfd"), done: make(chan struct{})}
	go c.reap() // ends with the process
	return c, nil
}

func (c *child) reap() {
	defer close(c.done)
	defer c.pidfd.Close()
	raw, err := c.pidfd.SyscallConn()
	if err == nil {
		err = raw.Read(func(fd uintptr) bool {
			n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0)
			return n > 0 || err != nil && !errors.Is(err, unix.EINTR)
		})
	}
	if err != nil {
		c.status = err.Error()
		return
	}
	var ws unix.WaitStatus
	if pid, err := unix.Wait4(c.pid, &ws, unix.WNOHANG, nil); err == nil && pid == c.pid {
		c.status = inWords(ws)
	}
}

func inWords(ws unix.WaitStatus) string {
	if ws.Signaled() {
		return "signal: " + ws.Signal().String()
	}
	return fmt.Sprintf("exit status %d", ws.ExitStatus())
}

// kill ends it at once; it is reaped soon after.
func (c *child) kill() {
	raw, err := c.pidfd.SyscallConn()
	if err != nil {
		return // has ended
	}
	_ = raw.Control(func(fd uintptr) { _ = unix.PidfdSendSignal(int(fd), unix.SIGKILL, nil, 0) })
}

// end is err with how the process has ended, if it has within a moment.
func (c *child) end(err error) error {
	select {
	case <-c.done:
		return fmt.Errorf("shim has ended (%s): %w", c.status, err)
	case <-time.After(shutdownWait):
		return err
	}
}
