package tally

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
)

func TestParseList(t *testing.T) {
	got, err := parseList("0-2,5\n")
	if err != nil || !slices.Equal(got, []int{0, 1, 2, 5}) {
		t.Errorf("got %v, %v", got, err)
	}
	if _, err := parseList("x"); err == nil {
		t.Error("no error for a list that is none")
	}
}

func TestPerOperation(t *testing.T) {
	got := PerOperation(map[string]float64{"execs": 10, "syncs": 5}, map[string]float64{"execs": 50, "syncs": 6},
		map[string]float64{"syncs": 1}, 2, 10)
	if got["execs"] != 4 || got["syncs"] != 0 {
		t.Errorf("got %v", got)
	}
}

// TestCount runs a known number of programs in a cgroup, and one outside it.
func TestCount(t *testing.T) {
	tracefs := t.TempDir()
	if err := syscall.Mount("tracefs", tracefs, "tracefs", 0, ""); err != nil {
		t.Skipf("needs root and tracefs: %v", err)
	}
	defer syscall.Unmount(tracefs, syscall.MNT_DETACH)
	root := "/sys/fs/cgroup/unified"
	if _, err := os.Stat(root); err != nil {
		root = "/sys/fs/cgroup"
	}
	if _, err := os.Stat(filepath.Join(root, "cgroup.procs")); err != nil {
		t.Skipf("needs cgroup v2: %v", err)
	}
	group, err := os.MkdirTemp(root, "tally-test-")
	if err != nil {
		t.Skipf("needs a writable cgroup v2: %v", err)
	}
	defer os.Remove(group)
	c, err := Open(tracefs, group)
	if err != nil {
		t.Skipf("needs perf counters of cgroups: %v", err)
	}
	defer c.Close()
	if out, err := exec.Command("sh", "-c", "echo $$ >"+group+"/cgroup.procs && /bin/true && sync /tmp && :").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if err := exec.Command("true").Run(); err != nil {
		t.Fatal(err)
	}
	got, err := c.Read()
	if err != nil {
		t.Fatal(err)
	}
	if got["execs"] != 2 || got["forks"] != 2 || got["syncs"] != 1 {
		t.Errorf("got %v", got)
	}
}
