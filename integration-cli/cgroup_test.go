package integrationcli

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"gantry/internal/testutil/engine"
)

// limit is a resource as the command line asks for it, and its file in the container's
// cgroup, with cgroup v1 and v2; "" where there is none.
type limit struct {
	option       string
	v1, v2       string
	file1, file2 string
}

var limits = []limit{
	{"--memory=64m", "67108864", "67108864", "memory/memory.limit_in_bytes", "memory.max"},
	{"--memory-swap=96m", "", "33554432", "", "memory.swap.max"},
	{"--memory-reservation=32m", "33554432", "33554432", "memory/memory.soft_limit_in_bytes", "memory.low"},
	{"--pids-limit=33", "33", "33", "pids/pids.max", "pids.max"},
	{"--cpu-shares=2048", "2048", "", "cpu/cpu.shares", ""},
	{"--cpu-shares=1024", "", "100", "", "cpu.weight"},
	{"--cpu-quota=25000", "25000", "25000 50000", "cpu/cpu.cfs_quota_us", "cpu.max"},
	{"--cpu-period=50000", "50000", "", "cpu/cpu.cfs_period_us", ""},
	{"--cpuset-cpus=0", "0", "0", "cpuset/cpuset.cpus", "cpuset.cpus"},
	{"--cpuset-mems=0", "0", "0", "cpuset/cpuset.mems", "cpuset.mems"},
	{"--device-read-bps=DISK:1mb", "NUMBER 1048576", "NUMBER rbps=1048576 wbps=max riops=max wiops=999", "blkio/blkio.throttle.read_bps_device", "io.max"},
	{"--device-write-iops=DISK:999", "NUMBER 999", "", "blkio/blkio.throttle.write_iops_device", ""},
}

// TestCgroupFiles reads what each limit has become.
func TestCgroupFiles(t *testing.T) {
	e := start(t)
	_, err := os.Stat("/sys/fs/cgroup/cgroup.controllers")
	unified := err == nil
	disk, number := aDisk()
	var options, files, want []string
	for _, l := range limits {
		value, file := l.v1, "/sys/fs/cgroup/"+l.file1
		if unified {
			value, file = l.v2, "/sys/fs/cgroup/"+l.file2
		}
		if strings.Contains(l.option, "DISK") && disk == "" {
			t.Logf("%s: there is no disk", l.option)
			continue
		}
		if value == "" && (strings.HasPrefix(l.option, "--cpu-shares") || l.option == "--memory-swap=96m") && !unified {
			continue // another of the list, or this kernel counts no swap
		}
		options = append(options, strings.ReplaceAll(l.option, "DISK", disk))
		if value != "" {
			files, want = append(files, file), append(want, strings.ReplaceAll(value, "NUMBER", number))
		}
	}
	read := "for f in " + strings.Join(files, " ") + "; do echo $(cat $f 2>&1); done"
	got := e.Docker(append(append([]string{"run", "--rm", "--cgroupns", "private"}, options...), image, "sh", "-c", read)...)
	lines := strings.Split(strings.TrimSpace(got.Stdout), "\n")
	for i, f := range files {
		if i >= len(lines) || lines[i] != want[i] {
			t.Errorf("%s holds %q, want %q", f, at(lines, i), want[i])
		}
	}
	if got.Code != 0 {
		t.Errorf("%v", got)
	}
	e.Clean(t)
	warned(t, e, unified)
}

// warned asks for what this kernel may not have.
func warned(t *testing.T, e *engine.Engine, unified bool) {
	const cut = "docker: Error response from daemon: kernel does not support CPU real-time scheduler"
	if got := e.Docker("run", "--rm", "--cpu-rt-period", "10000", "--cpu-rt-runtime", "5000", image, "true"); unified && (got.Code != 125 || !strings.HasPrefix(got.Stderr, cut)) {
		t.Errorf("real time on cgroup v2: %+v", got)
	}
	if !unified {
		return
	}
	for option, want := range map[string]string{
		"--memory-swappiness=10": "Your kernel does not support memory swappiness capabilities or the cgroup is not mounted. Memory swappiness discarded.",
		"--oom-kill-disable":     "Your kernel does not support OomKillDisable. OomKillDisable discarded.",
	} {
		if got := e.Docker("run", "--rm", "-m", "64m", option, image, "true"); got.Code != 0 || !strings.Contains(got.Stderr, want) {
			t.Errorf("%s: %+v", option, got)
		}
	}
}

func at(lines []string, i int) string {
	if i < len(lines) {
		return lines[i]
	}
	return ""
}

// aDisk is a whole disk of this machine and its number, "" where there is none.
func aDisk() (path, number string) {
	found, _ := filepath.Glob("/sys/block/[vsx]d[a-z]/dev")
	for _, f := range found {
		raw, err := os.ReadFile(f)
		path = "/dev/" + filepath.Base(filepath.Dir(f))
		if _, statErr := os.Stat(path); err == nil && statErr == nil {
			return path, strings.TrimSpace(string(raw))
		}
	}
	return "", ""
}
