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

// descriptors sets how many more descriptors the daemon may have than it has, and
// returns how many are possible again.
func descriptors(t *testing.T, e *engine.Engine, more int) {
	t.Helper()
	fds, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", e.PID()))
	if err != nil {
		t.Fatal(err)
	}
	var limit unix.Rlimit
	if err := unix.Prlimit(e.PID(), unix.RLIMIT_NOFILE, nil, &limit); err != nil {
		t.Fatal(err)
	}
	limit.Cur = limit.Max
	if more >= 0 {
		limit.Cur = uint64(len(fds) + more)
	}
	if err := unix.Prlimit(e.PID(), unix.RLIMIT_NOFILE, &limit, nil); err != nil {
		t.Fatal(err)
	}
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
// what fails leaves nothing, and all is well when they are back.
func TestDescriptorsShort(t *testing.T) {
	e := start(t)
	e.Must("run", "-d", "--name", "bg", image, "sh", "-c", "ulimit -n; sleep 1000")
	limit := ""
	eventually(t, "it has told its limit", func() bool { limit = e.Must("logs", "bg"); return limit != "" })

	descriptors(t, e, 8)
	var held []net.Conn
	for range 64 {
		c, err := net.Dial("unix", e.Socket())
		if err != nil {
			break // the backlog is full
		}
		held = append(held, c)
	}
	time.Sleep(300 * time.Millisecond)
	before := cpu(t, e.PID())
	time.Sleep(time.Second)
	if used := cpu(t, e.PID()) - before; used > 600*time.Millisecond {
		t.Errorf("the daemon used %v of CPU in a second of waiting", used)
	}
	for _, c := range held {
		c.Close()
	}
	eventually(t, "clients are answered again", func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		return e.Cmd(ctx, "ps").Run() == nil
	})

	failed := 0
	for more := 2; more < 40; more += scale(1, 3) {
		descriptors(t, e, more)
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		out, err := e.Cmd(ctx, "run", "--rm", "--name", "few", "-p", "80", image, "echo", "well").CombinedOutput()
		if ctx.Err() != nil {
			t.Errorf("with %d descriptors more: no answer", more)
		}
		cancel()
		descriptors(t, e, -1)
		if err != nil {
			failed++
			if !strings.Contains(string(out), "too many open files") {
				t.Errorf("with %d descriptors more: %s", more, out)
			}
		}
		e.Docker("rm", "-f", "few")
	}
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
