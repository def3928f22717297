package integrationcli

import (
	"fmt"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"gantry/internal/testutil/corealone"
	"gantry/internal/testutil/pod"
)

// prompt bounds a call that does not need the stuck shim: 2 s, which a list waits for
// each shim at most, and what a busy machine adds.
const prompt = 9 * time.Second

// TestCoreStuckShims stops shims as a signal does, while clients of the core use all that
// does not need them, and starts a core among them.
func TestCoreStuckShims(t *testing.T) {
	c := corealone.Start(t)
	base := c.Image()
	shims := map[string]int{}
	run := func(id string) {
		t.Helper()
		c.Ctr("run", "-d", "--runtime", "io.containerd.gantry.v2", base, id, "sleep", "1000")
		shims[id] = coreShim(t, c, id)
	}
	run("well")
	well := shims["well"]
	delete(shims, "well")
	for n := range scale(10, 3) {
		run(fmt.Sprint("stuck", n))
	}
	signal := func(s syscall.Signal) {
		for _, pid := range shims {
			_ = syscall.Kill(pid, s)
		}
	}
	signal(syscall.SIGSTOP)
	defer signal(syscall.SIGCONT)
	timed := func(args ...string) string {
		t.Helper()
		began := time.Now()
		out := c.Ctr(args...)
		if took := time.Since(began); took > prompt {
			t.Errorf("ctr %v took %v", args, took)
		}
		return out
	}
	others := func(after string) {
		for _, args := range [][]string{
			{"tasks", "ls"}, {"tasks", "ps", "well"}, {"tasks", "exec", "--exec-id", "x", "well", "true"}, {"tasks", "metrics", "well"},
			{"tasks", "pause", "well"}, {"tasks", "resume", "well"}, {"run", "--rm", "--runtime", "io.containerd.gantry.v2", base, "other" + after, "true"},
			{"containers", "ls"}, {"containers", "info", "stuck0"}, {"containers", "label", "stuck0", "a=" + after},
			{"images", "ls"}, {"images", "check"}, {"images", "tag", "--force", base, "docker.io/library/tag:1"}, {"images", "rm", "--sync", "docker.io/library/tag:1"},
			{"content", "ls"}, {"snapshots", "ls"}, {"snapshots", "usage"}, {"namespaces", "ls"}, {"plugins", "ls"}, {"version"},
			{"leases", "create", "--id", "collect" + after}, {"leases", "delete", "--sync", "collect" + after},
		} {
			timed(args...)
		}
		began := time.Now()
		if err := (pod.Core{Socket: c.Socket(), Dir: c.Dir}).Live(); err != nil {
			t.Errorf("sandbox: %v", err)
		}
		if took := time.Since(began); took > prompt {
			t.Errorf("a sandbox's life took %v", took)
		}
	}
	others("1")
	for _, args := range [][]string{{"tasks", "ps", "stuck0"}, {"tasks", "metrics", "stuck0"}}[:scale(2, 0)] { // they wait
		began := time.Now()
		out, err := c.Try(args...)
		if took := time.Since(began); err == nil || took > 20*time.Second {
			t.Errorf("ctr %v: %v after %v\n%s", args, err, took, out)
		}
	}

	c.Kill()
	began := time.Now()
	c.Launch()
	if took := time.Since(began); took > prompt {
		t.Errorf("the core took %v to start", took)
	}
	others("2")
	if out := timed("tasks", "ls"); strings.Count(out, "stuck") != len(shims) {
		t.Errorf("tasks whose shims are stuck:\n%s", out)
	}
	signal(syscall.SIGCONT)
	eventually(t, "all answer again", func() bool {
		return strings.Count(c.Ctr("tasks", "ls"), "RUNNING") == len(shims)+1
	})
	for id, pid := range shims {
		if now := coreShim(t, c, id); now != pid {
			t.Errorf("%s has shim %d, and had %d", id, now, pid)
		}
		c.Remove(id)
	}
	if now := coreShim(t, c, "well"); now != well {
		t.Errorf("the shim that was well is %d, and was %d", now, well)
	}
	c.Remove("well")
}

// coreShim is the pid of a task's shim.
func coreShim(t *testing.T, c *corealone.Core, id string) int {
	t.Helper()
	for _, line := range strings.Split(c.Ctr("tasks", "ls"), "\n") {
		f := strings.Fields(line)
		if len(f) < 2 || f[0] != id {
			continue
		}
		pid, err := strconv.Atoi(f[1])
		if err == nil {
			pid, err = parentOf(pid)
		}
		if err != nil || pid < 2 {
			t.Fatalf("shim of %s: %d, %v", id, pid, err)
		}
		return pid
	}
	t.Fatalf("no task %s", id)
	return 0
}
