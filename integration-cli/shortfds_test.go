package integrationcli

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"gantry/internal/testutil/engine"
)

// crowd holds connections to an engine that may have few descriptors, so that it has
// none left, or as many as a test wants.
type crowd struct {
	t     *testing.T
	e     *engine.Engine
	limit uint64
	old   unix.Rlimit
	conns []net.Conn
}

// goHome gives everything back.
func (c *crowd) goHome() {
	c.leave(len(c.conns))
	if err := unix.Prlimit(c.e.PID(), unix.RLIMIT_NOFILE, &c.old, nil); err != nil {
		c.t.Error(err)
	}
}

// newCrowd lowers the engine's limit until goHome.
func newCrowd(t *testing.T, e *engine.Engine) *crowd {
	t.Helper()
	c := &crowd{t: t, e: e, limit: 320} // above every number that the engine holds already
	if err := unix.Prlimit(e.PID(), unix.RLIMIT_NOFILE, nil, &c.old); err != nil {
		t.Fatal(err)
	}
	limit := unix.Rlimit{Cur: c.limit, Max: c.old.Max}
	if err := unix.Prlimit(e.PID(), unix.RLIMIT_NOFILE, &limit, nil); err != nil {
		t.Fatal(err)
	}
	return c
}

// used is how many descriptors the engine has.
func (c *crowd) used() uint64 {
	fds, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", c.e.PID()))
	if err != nil {
		c.t.Fatal(err)
	}
	return uint64(len(fds))
}

// fill connects until the engine has no descriptor left, but perhaps a last one that it
// waits with for whom to refuse.
func (c *crowd) fill() {
	c.t.Helper()
	eventually(c.t, "the descriptors are used up", func() bool {
		for range c.limit - min(c.limit, c.used()) {
			conn, err := net.Dial("unix", c.e.Socket())
			if err != nil {
				break // the backlog is full
			}
			c.conns = append(c.conns, conn)
		}
		return c.used() >= c.limit-1
	})
}

// leave gives n descriptors back; the first connections are surely not refused ones.
func (c *crowd) leave(n int) {
	for _, conn := range c.conns[:n] {
		conn.Close()
	}
	c.conns = c.conns[n:]
}

// cpu is the time that a process has used.
func cpu(t *testing.T, pid int) time.Duration {
	t.Helper()
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		t.Fatal(err)
	}
	var user, sys int
	f := strings.Fields(string(raw[strings.LastIndexByte(string(raw), ')')+1:]))
	fmt.Sscan(f[11], &user)
	fmt.Sscan(f[12], &sys)
	return time.Duration(user+sys) * 10 * time.Millisecond
}

// TestDescriptorsShort takes the daemon's descriptors away: it neither spins nor dies,
// whoever asks is answered, what fails leaves nothing, and all is well when they are back.
func TestDescriptorsShort(t *testing.T) {
	engine.CoreInside(t, "what the engine lacks it does not")
	e := start(t)
	e.Must("run", "-d", "--name", "bg", image, "sh", "-c", "ulimit -n; sleep 1000")
	limit := ""
	eventually(t, "it has told its limit", func() bool { limit = e.Must("logs", "bg"); return limit != "" })

	few := newCrowd(t, e)
	few.fill()
	time.Sleep(300 * time.Millisecond)
	before := cpu(t, e.PID())
	time.Sleep(time.Second)
	if used := cpu(t, e.PID()) - before; used > 600*time.Millisecond {
		t.Errorf("the daemon used %v of CPU in a second of waiting", used)
	}

	failed := 0
	for more := 0; more < 40; more += scale(1, 3) {
		few.fill()
		few.leave(more)
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		how := "--rm"
		if more < 6 { // docker would wait for the streams of what it was refused to start
			how = "-d"
		}
		out, err := e.Cmd(ctx, "run", how, "--name", "few", "-p", "80", image, "echo", "well").CombinedOutput()
		if ctx.Err() != nil {
			t.Errorf("with %d descriptors more: no answer", more)
		}
		cancel()
		few.leave(min(len(few.conns), 40))
		if err != nil {
			failed++
			refused := strings.Contains(string(out), "unable to upgrade to tcp, received 503") // docker's words for a stream
			if !refused && !strings.Contains(string(out), "too many open files") {
				t.Errorf("with %d descriptors more: %s", more, out)
			}
		}
		e.Docker("rm", "-f", "few")
	}
	few.goHome()
	if failed == 0 {
		t.Error("no run failed")
	}
	if got := e.Must("run", "--rm", image, "sh", "-c", "ulimit -n"); got != limit {
		t.Errorf("a container may have %s descriptors, was %s", got, limit)
	}
	if s := status(e, "bg"); s != "running" {
		t.Errorf("the container in the background is %s", s)
	}
	e.Place().Agree(t)
}

// TestProcessesShort leaves no room for a shim: the start fails and leaves nothing. A Go
// program that gets no thread dies; then the next daemon has to find nothing.
func TestProcessesShort(t *testing.T) {
	engine.CoreInside(t, "what the engine lacks it does not")
	e := start(t)
	e.Must("run", "-d", "--name", "bg", image, "sleep", "1000")
	e.Must("create", "--name", "few", image, "true")
	confine(t, e, "pids", "pids.max", "max")
	dir := filepath.Join("/sys/fs/cgroup/pids", fmt.Sprintf("gantry-short-%d", e.PID()))
	for _, more := range []int{0, 2, 6} {
		now, err := os.ReadFile(filepath.Join(dir, "pids.current"))
		if err != nil {
			t.Fatal(err)
		}
		var n int
		fmt.Sscan(string(now), &n)
		os.WriteFile(filepath.Join(dir, "pids.max"), []byte(itoa(n+more)), 0)
		r := e.Docker("start", "-a", "few")
		os.WriteFile(filepath.Join(dir, "pids.max"), []byte("max"), 0)
		if r.Code != 0 {
			t.Logf("with %d processes more: %s", more, r.Stderr)
		}
		select {
		case <-e.Ended():
			t.Log("the daemon got no thread and ended")
			e.Launch()
		case <-time.After(100 * time.Millisecond):
		}
		eventually(t, "it is down", func() bool { return status(e, "few") != "running" })
		e.Place().Agree(t)
	}
	if s := status(e, "bg"); s != "running" {
		t.Errorf("the container in the background is %s", s)
	}
	e.Must("start", "-a", "few")
}
