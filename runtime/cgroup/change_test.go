package cgroup

import (
	"path/filepath"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// An update that the kernel refuses leaves nothing changed, though its first settings
// were taken.
func TestRefusedUpdateIsTakenBack(t *testing.T) {
	m := made(t)
	if _, err := m.Set(&specs.LinuxResources{
		Memory: &specs.LinuxMemory{Limit: ptr(int64(64 << 20))},
		CPU:    &specs.LinuxCPU{Shares: ptr(uint64(512)), Quota: ptr(int64(20000)), Period: ptr(uint64(50000))},
		Pids:   &specs.LinuxPids{Limit: ptr(int64(33))},
	}); err != nil {
		t.Fatal(err)
	}
	before := values(t, m)
	for name, bad := range map[string]*specs.LinuxResources{
		"processors": {
			CPU:  &specs.LinuxCPU{Shares: ptr(uint64(700)), Quota: ptr(int64(500000)), Period: ptr(uint64(100000)), Cpus: "4000"},
			Pids: &specs.LinuxPids{Limit: ptr(int64(44))}, Memory: &specs.LinuxMemory{Limit: ptr(int64(32 << 20))},
		},
		"period": {
			CPU:  &specs.LinuxCPU{Shares: ptr(uint64(800)), Quota: ptr(int64(30000)), Period: ptr(uint64(5))},
			Pids: &specs.LinuxPids{Limit: ptr(int64(-1))}, Memory: &specs.LinuxMemory{Limit: ptr(int64(128 << 20))},
		},
	} {
		if err := m.Update(bad); err == nil {
			t.Errorf("%s: the kernel takes it", name)
		}
		for file, was := range before {
			if now := values(t, m)[file]; now != was {
				t.Errorf("%s: %s is %q, was %q", name, file, now, was)
			}
		}
	}
}

// values are the limits in force, of either version, by their paths.
func values(t *testing.T, m *Manager) map[string]string {
	t.Helper()
	out := map[string]string{}
	for _, dir := range m.Paths() {
		for _, file := range []string{
			"memory.limit_in_bytes", "memory.max", "cpu.shares", "cpu.weight", "cpu.cfs_quota_us", "cpu.cfs_period_us", "cpu.max", "pids.max", "cpuset.cpus",
		} {
			if v, err := readFile(dir, file); err == nil {
				out[filepath.Join(dir, file)] = v
			}
		}
	}
	if len(out) == 0 {
		t.Fatal("no limits to be read")
	}
	return out
}
