package container

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// agentWait is how long a seccomp agent may take to accept what is sent to it.
const agentWait = 30 * time.Second

func (k *creation) handListener(ctx context.Context, listener *os.File, pid int) error {
	state := k.c.hookState(specs.StateCreating)
	state.Pid = pid
	return handListener(ctx, k.Spec.Linux.Seccomp, state, listener, pid)
}

func (c *Container) handListener(ctx context.Context, listener *os.File, pid int) error {
	return handListener(ctx, c.rec.Spec.Linux.Seccomp, c.hookState(specs.StateRunning), listener, pid)
}

// handListener sends the descriptor of the listener of process pid, which it closes, to
// the agent that the profile names (runtime-spec, "The Container Process State"). The
// process may go on meanwhile: what it is not to do alone waits for the agent.
func handListener(ctx context.Context, s *specs.LinuxSeccomp, state specs.State, listener *os.File, pid int) error {
	if listener == nil {
		return errors.New("seccomp: no listener has come")
	}
	defer listener.Close()
	b, err := json.Marshal(specs.ContainerProcessState{
		Version: specs.Version, Fds: []string{specs.SeccompFdName}, Pid: pid, Metadata: s.ListenerMetadata, State: state,
	})
	if err != nil {
		return fmt.Errorf("encode seccomp state: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, agentWait)
	defer cancel()
	conn, err := dialUnix(ctx, s.ListenerPath)
	if err != nil {
		return fmt.Errorf("failed to connect with seccomp agent specified in the seccomp profile: %w", err)
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	if err := sendWith(conn, b, listener); err != nil {
		return fmt.Errorf("cannot send seccomp fd to %s: %w", s.ListenerPath, err)
	}
	return nil
}

// sendWith sends all of b, and a descriptor beside its first bytes.
func sendWith(conn *net.UnixConn, b []byte, f *os.File) error {
	return lend(f, func(fd int) error {
		n, _, err := conn.WriteMsgUnix(b, unix.UnixRights(fd), nil)
		if err == nil && n < len(b) {
			_, err = conn.Write(b[n:])
		}
		return err
	})
}

// dialUnix connects to a stream socket, whose path may be longer than an address.
func dialUnix(ctx context.Context, path string) (*net.UnixConn, error) {
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	conn, err := (&net.Dialer{}).DialContext(ctx, "unix", fmt.Sprintf("/proc/self/fd/%d/%s", dir.Fd(), filepath.Base(path)))
	if err != nil {
		if op, ok := errors.AsType[*net.OpError](err); ok {
			op.Addr = &net.UnixAddr{Name: path, Net: "unix"}
		}
		return nil, err
	}
	return conn.(*net.UnixConn), nil
}
