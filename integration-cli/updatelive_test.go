package integrationcli

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// limitsOf are a running container's limits as the kernel has them, of either version of
// cgroups.
func limitsOf(t *testing.T, pid int) string {
	t.Helper()
	raw, err := os.ReadFile("/proc/" + itoa(pid) + "/cgroup")
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for line := range strings.Lines(string(raw)) {
		f := strings.SplitN(strings.TrimSpace(line), ":", 3)
		dir := filepath.Join("/sys/fs/cgroup", f[1], f[2])
		for _, file := range []string{
			"memory.limit_in_bytes", "memory.memsw.limit_in_bytes", "memory.max", "memory.swap.max", "cpu.shares", "cpu.weight",
			"cpu.cfs_quota_us", "cpu.max", "cpuset.cpus", "pids.max",
		} {
			if v, err := os.ReadFile(filepath.Join(dir, file)); err == nil {
				out = append(out, file+"="+strings.TrimSpace(string(v)))
			}
		}
	}
	return strings.Join(out, " ")
}

// TestUpdateLive: what is given is in force at once, and what is refused changes nothing,
// neither the record nor what comes before it in the cgroup.
func TestUpdateLive(t *testing.T) {
	t.Parallel()
	e := start(t)
	e.Must("run", "-d", "--name", "web", "-m", "64m", "--cpu-shares", "512", image, "sleep", "1000")
	pid := inspect(t, e, "web").State.Pid
	e.Must("update", "-m", "128m", "--memory-swap", "256m", "--cpu-shares", "1024", "--pids-limit", "50", "--cpu-period", "50000", "--cpu-quota", "20000", "web")
	now := limitsOf(t, pid)
	for _, want := range []string{"=134217728", "pids.max=50", "20000"} {
		if !strings.Contains(now, want) {
			t.Errorf("no %s in force: %s", want, now)
		}
	}
	for _, c := range []struct {
		args []string
		text string
	}{
		{[]string{"--cpu-shares", "2048", "--pids-limit", "60", "--memory-swap", "8m"}, ""}, // below the limit in force: the kernel refuses it
		{[]string{"--cpu-shares", "2048", "-m", "512m"}, "Memory limit should be smaller than already set memoryswap limit, update the memoryswap at the same time"},
		{[]string{"--cpu-shares", "2048", "--cpus", "1"}, "Conflicting options: Nano CPUs cannot be updated as CPU Period has already been set"},
		{[]string{"--cpu-shares", "2048", "--cpuset-cpus", "4000"}, "Requested CPUs are not available"},
		{[]string{"--restart", "always:3"}, "maximum retry count can only be used with 'on-failure'"},
	} {
		before := inspect(t, e, "web").HostConfig.Resources
		if r := e.Docker(append(append([]string{"update"}, c.args...), "web")...); r.Code == 0 || !strings.Contains(r.Stderr, c.text) {
			t.Errorf("update %s: %d %s", strings.Join(c.args, " "), r.Code, r.Stderr)
		}
		if got := limitsOf(t, pid); got != now {
			t.Errorf("update %s: %s\nwas %s", strings.Join(c.args, " "), got, now)
		}
		after := inspect(t, e, "web").HostConfig.Resources
		if after.CPUShares != before.CPUShares || after.Memory != before.Memory || after.MemorySwap != before.MemorySwap || *after.PidsLimit != *before.PidsLimit {
			t.Errorf("update %s: the record is %+v", strings.Join(c.args, " "), after)
		}
	}
	e.Must("run", "-d", "--rm", "--name", "brief", image, "sleep", "1000")
	if r := e.Docker("update", "--restart", "always", "brief"); !strings.Contains(r.Stderr, "Restart policy cannot be updated because AutoRemove is enabled for the container") {
		t.Errorf("policy of what goes by itself: %s", r.Stderr)
	}
}
