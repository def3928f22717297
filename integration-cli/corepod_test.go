package integrationcli

import (
	"os"
	"strings"
	"testing"

	"gantry/internal/testutil/corealone"
	"gantry/internal/testutil/leak"
	"gantry/internal/testutil/pod"
)

// TestCoreDiesUnderPod kills the core under a pod, twice: sandbox and containers go on, are
// the same to the next core, and go without a trace.
func TestCoreDiesUnderPod(t *testing.T) {
	c := corealone.Start(t)
	p, err := pod.Core{Socket: c.Socket(), Dir: c.Dir}.Begin("one", "two")
	t.Cleanup(func() {
		if t.Failed() {
			p.Kill()
		}
	})
	if err != nil {
		t.Fatalf("%v\n%s", err, c.Log())
	}
	for range 2 {
		c.Kill()
		c.Launch()
		if err := p.Check(); err != nil {
			t.Errorf("%v\n%s", err, c.Log())
		}
	}
	if err := p.End(); err != nil {
		t.Errorf("%v\n%s", err, c.Log())
	}
	eventually(t, "nothing is left", func() bool { return shimsOf(c.Dir) == 0 })
	if table, err := os.ReadFile("/proc/self/mountinfo"); err != nil || strings.Contains(string(table), c.Dir+"/") {
		t.Errorf("mounts are left: %v", err)
	}
	if left := leak.RemoveCgroups(c.Dir); len(left) > 0 {
		t.Errorf("cgroups are left in use: %v", left)
	}
}

// shimsOf counts the shims that were told a directory.
func shimsOf(dir string) (n int) {
	for _, line := range leak.Take(dir, "none") {
		if strings.HasPrefix(line, "process ") {
			n++
		}
	}
	return n
}
