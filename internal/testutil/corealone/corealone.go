// Package corealone runs the built "gantryd core" on directories of its own, and
// drives it with the real ctr.
package corealone

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"gantry/internal/testutil/busybox"
	"gantry/internal/testutil/engine"
	"gantry/internal/testutil/leak"
	"gantry/internal/testutil/need"
)

// Core is a running "gantryd core". See Start.
type Core struct {
	Dir       string // holds root/, state/, the socket and the configuration
	Namespace string // that Ctr works in, of this core only
	t         testing.TB
	ctr       string
	cmd       *exec.Cmd
	ended     chan struct{}
	exit      error // how cmd has ended, once ended is closed
	log       *os.File
	before    leak.State
}

var serial atomic.Uint32

// Start runs a core with further lines in its configuration, which is of version 3,
// and waits until it serves. At the end of the test it is stopped, and nothing of it
// may be left: the test removes its tasks.
func Start(t testing.TB, config ...string) *Core {
	t.Helper()
	need.Root(t, "runs real containers")
	dir, err := os.MkdirTemp(cmp.Or(os.Getenv(engine.DirVariable), "/tmp"), "gcore-") // short: sockets have 108 bytes
	if err != nil {
		t.Fatal(err)
	}
	c := &Core{Dir: dir, t: t, ctr: need.Command(t, "ctr"), Namespace: fmt.Sprintf("core-test-%d-%d", os.Getpid(), serial.Add(1))}
	if c.log, err = os.Create(c.path("log")); err != nil {
		t.Fatal(err)
	}
	c.Configure(config...)
	c.before = leak.Take(dir, "none")
	t.Cleanup(c.close)
	c.Launch()
	return c
}

// Configure writes the file for the next launch.
func (c *Core) Configure(lines ...string) {
	c.t.Helper()
	text := fmt.Sprintf("version = 3\nroot = %q\nstate = %q\n%s\n", c.path("root"), c.path("state"), strings.Join(lines, "\n"))
	if err := os.WriteFile(c.path("core.toml"), []byte(text), 0o600); err != nil {
		c.t.Fatal(err)
	}
}

func (c *Core) path(name string) string { return filepath.Join(c.Dir, name) }

// Socket is the path of the gRPC socket.
func (c *Core) Socket() string { return c.path("c.sock") }

// Launch starts the process, also again after its end.
func (c *Core) Launch() {
	c.t.Helper()
	if err := c.TryLaunch(); err != nil {
		c.t.Fatalf("%v\n%s", err, c.Log())
	}
}

// TryLaunch is Launch of one that may end before it serves.
func (c *Core) TryLaunch(env ...string) error {
	c.t.Helper()
	cmd := exec.Command(engine.Binary(c.t, "gantryd"), "core", "--config", c.path("core.toml"), "--address", c.Socket(), "--log-level", "debug")
	cmd.Stdout, cmd.Stderr = c.log, c.log
	cmd.Env = append(append(os.Environ(), "GORACE=atexit_sleep_ms=0 log_path="+c.path("race")), env...)
	if err := cmd.Start(); err != nil {
		c.t.Fatal(err)
	}
	ended := make(chan struct{})
	c.cmd, c.ended = cmd, ended
	go func() { c.exit = cmd.Wait(); close(ended) }()
	deadline := time.After(30 * time.Second)
	for {
		if conn, err := net.Dial("unix", c.Socket()); err == nil { // ctr would wait for the socket
			conn.Close()
			if _, err := c.Try("version"); err == nil {
				return nil
			}
		}
		select {
		case <-ended:
			return fmt.Errorf("gantryd core ended: %w", c.exit)
		case <-deadline:
			return errors.New("gantryd core does not answer")
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// PID of the process.
func (c *Core) PID() int { return c.cmd.Process.Pid }

// Signal sends a signal to the process.
func (c *Core) Signal(s syscall.Signal) {
	c.t.Helper()
	if err := c.cmd.Process.Signal(s); err != nil {
		c.t.Fatal(err)
	}
}

// Kill ends the process as a crash would.
func (c *Core) Kill() { c.t.Helper(); c.Signal(syscall.SIGKILL); _ = c.Ended() }

// Terminate asks the process to end, and waits until it has, without an error.
func (c *Core) Terminate() {
	c.t.Helper()
	c.Signal(syscall.SIGTERM)
	if err := c.Ended(); err != nil {
		c.t.Errorf("gantryd core: %v\n%s", err, c.Log())
	}
}

// Ended waits for the end of the process and returns how it was.
func (c *Core) Ended() error {
	c.t.Helper()
	select {
	case <-c.ended:
		return c.exit
	case <-time.After(30 * time.Second):
		_ = c.cmd.Process.Kill()
		return fmt.Errorf("process %d does not end", c.PID())
	}
}

// Log is what the process has written.
func (c *Core) Log() string {
	raw, _ := os.ReadFile(c.log.Name())
	return string(raw)
}

// Cmd prepares a ctr command, which is killed with ctx.
func (c *Core) Cmd(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, c.ctr, append([]string{"--address", c.Socket(), "-n", c.Namespace}, args...)...)
	cmd.WaitDelay = 2 * time.Second
	return cmd
}

// Try runs a ctr command and returns what it printed.
func (c *Core) Try(args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 40*time.Second)
	defer cancel()
	out, err := c.Cmd(ctx, args...).CombinedOutput()
	return string(out), err
}

// Ctr runs a ctr command that must succeed.
func (c *Core) Ctr(args ...string) string {
	c.t.Helper()
	out, err := c.Try(args...)
	if err != nil {
		c.t.Fatalf("ctr %s: %v\n%s\ncore:\n%s", strings.Join(args, " "), err, out, c.Log())
	}
	return out
}

// Image gives the core the test image and returns its name.
func (c *Core) Image() string {
	c.t.Helper()
	const name = "docker.io/library/busybox:test"
	path := c.path("image.tar")
	if err := os.WriteFile(path, busybox.Archive(c.t, busybox.Config{}, name), 0o600); err != nil {
		c.t.Fatal(err)
	}
	defer os.Remove(path)
	c.Ctr("images", "import", path)
	return name
}

// Remove takes away a container and its task, in whatever state it is.
func (c *Core) Remove(id string) {
	c.t.Helper()
	_, _ = c.Try("tasks", "rm", "-f", id)
	c.Ctr("containers", "rm", id)
}

func (c *Core) close() {
	select {
	case <-c.ended:
		if c.t.Failed() { // a new one takes away what the old one has left
			_ = c.TryLaunch()
		}
	default:
	}
	for _, id := range strings.Fields(c.ids()) {
		_, _ = c.Try("tasks", "rm", "-f", id)
		_, _ = c.Try("containers", "rm", id)
	}
	select {
	case <-c.ended:
	default:
		c.Terminate()
	}
	if c.t.Failed() {
		c.t.Logf("the core's log:\n%s", c.Log())
	}
	c.removeCgroups()
	if found, _ := filepath.Glob(c.path("race") + ".*"); len(found) > 0 {
		raw, _ := os.ReadFile(found[0])
		c.t.Errorf("data race:\n%s", bytes.TrimSpace(raw))
	}
	leak.Check(c.t, c.before, c.Dir, "none")
	_ = c.log.Close()
	if err := os.RemoveAll(c.Dir); err != nil {
		c.t.Error(err)
	}
}

func (c *Core) ids() string {
	out, _ := c.Try("containers", "ls", "-q")
	return out
}

// removeCgroups removes those that containers were put below, which nobody else does: ctr
// takes the namespace's name, other clients of tests that of the directory.
func (c *Core) removeCgroups() {
	for _, name := range []string{c.Namespace, leak.Instance(c.Dir)} {
		dirs, _ := filepath.Glob("/sys/fs/cgroup/*/" + name)
		for _, dir := range append(dirs, filepath.Join("/sys/fs/cgroup", name)) {
			if err := os.Remove(dir); err != nil && !errors.Is(err, os.ErrNotExist) {
				c.t.Error(err)
			}
		}
	}
}
