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

// child is a shim that this process has executed, and reaps.
type child struct {
	pid   int
	pidfd *os.File
	done  chan struct{} // closed when it has ended; status is set then
	// status is how it ended, in words.
	status string
}

// execute runs the command as a session of its own and reaps it when it ends. No
// thread waits meanwhile.
func execute(cmd *exec.Cmd) (*child, error) {
	var fd int
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, PidFD: &fd}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	c := &child{pid: cmd.Process.Pid, done: make(chan struct{})}
	cmd.Process.Release() // its own descriptor; never fails after a start
	if err := unix.SetNonblock(fd, true); err != nil {
		return nil, fmt.Errorf("pidfd: %w", err)
	}
	c.pidfd = os.NewFile(uintptr(fd), "pidfd")
	go c.reap() // ends with the shim
	return c, nil
}

func (c *child) reap() {
	defer close(c.done)
	defer c.pidfd.Close()
	raw, err := c.pidfd.SyscallConn()
	if err == nil {
		err = raw.Read(func(uintptr) bool {
			var ws unix.WaitStatus
			pid, err := unix.Wait4(c.pid, &ws, unix.WNOHANG, nil)
			if pid == 0 && err == nil || errors.Is(err, unix.EINTR) {
				return false
			}
			c.status = inWords(ws)
			return true
		})
	}
	if err != nil {
		c.status = err.Error()
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
