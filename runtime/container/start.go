package container

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"gantry/runtime/hooks"
	"gantry/runtime/hop"
	"gantry/runtime/program"
)

// listen makes the socket whose first connection starts the container. Its
// path goes through a descriptor, for it may be longer than an address.
func listen(dir string) (*os.File, error) {
	d, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("start socket: %w", err)
	}
	f := os.NewFile(uintptr(fd), listenerName)
	if err := unix.Fchmod(fd, 0o600); err != nil { // the mode that bind gives it
		f.Close()
		return nil, fmt.Errorf("start socket: %w", err)
	}
	if err := unix.Bind(fd, &unix.SockaddrUnix{Name: listenerPath(d)}); err != nil {
		f.Close()
		return nil, fmt.Errorf("bind start socket: %w", err)
	}
	if err := unix.Listen(fd, 1); err != nil {
		f.Close()
		return nil, fmt.Errorf("listen on start socket: %w", err)
	}
	return f, nil
}

func listenerPath(dir *os.File) string {
	return fmt.Sprintf("/proc/self/fd/%d/%s", dir.Fd(), listenerName)
}

// Start lets the init run its command and returns once it does. An error of the
// final execve is a *CommandError with Late set. A container that is not
// waiting for its start is errdefs.ErrFailedPrecondition.
func (c *Container) Start(ctx context.Context) error {
	if err := c.startLocked(ctx); err != nil {
		return err
	}
	if h := c.rec.Spec.Hooks; h != nil { // without the lock: one may last
		if err := hooks.Run(ctx, h.Poststart, c.hookState(specs.StateRunning), hooks.Options{Name: "poststart", Dir: c.rec.Bundle}); err != nil {
			c.Kill(context.WithoutCancel(ctx), unix.SIGKILL, false)
			return err
		}
	}
	return nil
}

func (c *Container) startLocked(ctx context.Context) error {
	unlock, err := c.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	switch s := c.status(); s {
	case specs.StateCreated:
	case specs.StateStopped, specs.StateCreating:
		return fmt.Errorf("cannot start a container that has stopped: %w", errdefs.ErrFailedPrecondition)
	default:
		return fmt.Errorf("cannot start an already running container: %w", errdefs.ErrFailedPrecondition)
	}
	if err := c.startContainerHooks(ctx); err != nil {
		return err
	}
	if err := c.releaseTold(ctx); err != nil {
		return err
	}
	os.Remove(filepath.Join(c.dir(), listenerName))
	return nil
}

// releaseTold is release, with its hops noted where they are wanted.
func (c *Container) releaseTold(ctx context.Context) error {
	timeline := c.takeTimeline()
	defer timeline.Close()
	in, end := hop.Begin(ctx, "release init")
	defer end()
	begun := time.Now()
	err := c.release(ctx)
	if err == nil && timeline != nil && hop.Wanted(in) {
		tellStart(in, timeline, c.Pid(), begun, time.Now())
	}
	return err
}

// release connects to the init and hears how its execve went.
func (c *Container) release(ctx context.Context) error {
	d, err := os.Open(c.dir())
	if err != nil {
		return err
	}
	defer d.Close()
	conn, err := (&net.Dialer{}).DialContext(ctx, "unix", listenerPath(d))
	if err != nil {
		if errors.Is(err, unix.ECONNREFUSED) {
			return fmt.Errorf("cannot start a container that has stopped: %w", errdefs.ErrFailedPrecondition)
		}
		return fmt.Errorf("start init: %w", err)
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	answer, err := io.ReadAll(io.LimitReader(conn, 1<<16))
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.Is(err, unix.ECONNRESET):
		return fmt.Errorf("cannot start a container that has stopped: %w", errdefs.ErrFailedPrecondition)
	case err != nil:
		return fmt.Errorf("hear from init: %w", err)
	case len(answer) < 4:
		return c.unsaid()
	}
	label, errno := string(answer[4:]), unix.Errno(binary.NativeEndian.Uint32(answer))
	if command, ok := strings.CutPrefix(label, "exec "); ok {
		return lateError(command, errno)
	}
	return &program.Error{Label: label, Errno: errno}
}
