package cgroup

import (
	"errors"
	"reflect"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"gantry/runtime/cgroup/systemd"
)

func words(props []systemd.Property) (out []string) {
	for _, p := range props {
		out = append(out, p.String())
	}
	return out
}

func TestProperties(t *testing.T) {
	at := func(v int) func() (int, error) { return func() (int, error) { return v, nil } }
	no := func() (int, error) { return 0, errors.New("asked for the version") }
	for _, tc := range []struct {
		why     string
		kind    systemd.Kind
		res     *specs.LinuxResources
		version func() (int, error)
		want    string
		file    string // a setting after rounding
	}{
		{"nothing", systemd.V2, &specs.LinuxResources{}, no, "", ""},
		{"memory and swap", systemd.V2, memory(64<<20, 128<<20), no, "MemorySwapMax=@t 67108864 MemoryMax=@t 67108864", ""},
		{"memory without limit", systemd.V2, memory(-1, -1), no, "MemorySwapMax=@t 18446744073709551615 MemoryMax=@t 18446744073709551615", ""},
		{"quota is rounded up", systemd.V2, &specs.LinuxResources{CPU: &specs.LinuxCPU{Quota: ptr(int64(12345)), Period: ptr(uint64(100000))}}, no,
			"CPUQuotaPeriodUSec=@t 100000 CPUQuotaPerSecUSec=@t 130000", "cpu.max=13000 100000"},
		{"quota alone, of the period in force", systemd.V2, &specs.LinuxResources{CPU: &specs.LinuxCPU{Quota: ptr(int64(25000))}}, no,
			"CPUQuotaPerSecUSec=@t 500000", "cpu.max=25000"},
		{"no quota", systemd.V2, &specs.LinuxResources{CPU: &specs.LinuxCPU{Quota: ptr(int64(-1))}}, no,
			"CPUQuotaPerSecUSec=@t 18446744073709551615", "cpu.max=max"},
		{"idle", systemd.V2, &specs.LinuxResources{CPU: &specs.LinuxCPU{Idle: ptr(int64(1)), Shares: ptr(uint64(1024))}}, at(252), "CPUWeight=@t 0", ""},
		{"idle before systemd knew it", systemd.V2, &specs.LinuxResources{CPU: &specs.LinuxCPU{Idle: ptr(int64(1)), Shares: ptr(uint64(1024))}}, at(249), "CPUWeight=@t 100", ""},
		{"not idle", systemd.V2, &specs.LinuxResources{CPU: &specs.LinuxCPU{Idle: ptr(int64(0)), Shares: ptr(uint64(1024))}}, no, "CPUWeight=@t 100", ""},
		{"processors", systemd.V2, &specs.LinuxResources{CPU: &specs.LinuxCPU{Cpus: "0-1", Mems: "0"}}, no, "AllowedCPUs=@ay [0x3] AllowedMemoryNodes=@ay [0x1]", ""},
		{"pids", systemd.V2, &specs.LinuxResources{Pids: &specs.LinuxPids{Limit: ptr(int64(7))}}, no, "TasksMax=@t 7", "pids.max=7"},
		{"any number of pids", systemd.V2, &specs.LinuxResources{Pids: &specs.LinuxPids{Limit: ptr(int64(-1))}}, no, "TasksMax=@t 18446744073709551615", "pids.max=max"},
		{"weight of I/O, not that of a device", systemd.V2, &specs.LinuxResources{BlockIO: ioAll}, no, "IOWeight=@t 4950", ""},
		{"unified", systemd.V2, &specs.LinuxResources{Unified: map[string]string{"memory.high": " 1048576\n", "memory.min": "max", "pids.max": "0", "cpu.max": "max 50000", "misc.max": "sev 1"}}, no,
			"CPUQuotaPeriodUSec=@t 50000 CPUQuotaPerSecUSec=@t 18446744073709551615 MemoryHigh=@t 1048576 MemoryMin=@t 18446744073709551615 TasksMax=@t 1", ""},
		{"v1", systemd.V1, &specs.LinuxResources{
			CPU:    &specs.LinuxCPU{Shares: ptr(uint64(512)), Quota: ptr(int64(12345)), Period: ptr(uint64(50000)), Cpus: "1"},
			Memory: memory(64<<20, 0).Memory, BlockIO: ioAll, Pids: &specs.LinuxPids{Limit: ptr(int64(5))}}, no,
			"CPUShares=@t 512 AllowedCPUs=@ay [0x2] MemoryLimit=@t 67108864 BlockIOWeight=@t 500 TasksMax=@t 5 CPUQuotaPeriodUSec=@t 50000 CPUQuotaPerSecUSec=@t 250000",
			"cpu.cfs_quota_us=12500"},
		{"v1, memory without limit", systemd.V1, memory(-1, -1), no, "MemoryLimit=@t 18446744073709551615", ""},
		{"v1, a new period", systemd.V1, &specs.LinuxResources{CPU: &specs.LinuxCPU{Period: ptr(uint64(50000))}}, no, "CPUQuotaPeriodUSec=@t 50000", ""},
	} {
		ss := settingsFor(t, tc.kind, tc.res)
		props, out, err := properties(tc.kind, ss, 50000, tc.version)
		if err != nil {
			t.Errorf("%s: %v", tc.why, err)
			continue
		}
		if got := strings.Join(words(props), " "); got != tc.want {
			t.Errorf("%s:\n got %s\nwant %s", tc.why, got, tc.want)
		}
		if tc.file != "" && !strings.Contains(" "+strings.Join(lines(out), " ")+" ", " "+tc.file) {
			t.Errorf("%s: %q lacks %s", tc.why, lines(out), tc.file)
		}
		if len(out) != len(ss) {
			t.Errorf("%s: %d settings of %d", tc.why, len(out), len(ss))
		}
	}
	for _, file := range []string{"cpu.max", "memory.max", "cpuset.cpus", "pids.max"} {
		for _, value := range []string{"", "x", "1 2 3", "-7"} {
			ss := settingsFor(t, systemd.V2, &specs.LinuxResources{Unified: map[string]string{file: value}})
			if props, _, err := properties(systemd.V2, ss, 0, no); err == nil && len(props) > 0 && !strings.HasPrefix(file, "cpu.max") {
				t.Errorf("%s=%q: %v", file, value, props)
			}
		}
	}
}

func settingsFor(t *testing.T, kind systemd.Kind, res *specs.LinuxResources) []setting {
	t.Helper()
	var ss []setting
	var err error
	if kind == systemd.V2 {
		ss, _, err = planV2(res, v2State{})
	} else {
		ss, _, err = planV1(res, v1State{})
	}
	if err != nil {
		t.Fatal(err)
	}
	return ss
}

func TestDeviceProperties(t *testing.T) {
	const none, strict = `DeviceAllow=@a(ss) []`, `DevicePolicy="strict"`
	for _, tc := range []struct {
		why  string
		in   []specs.LinuxDeviceCgroup
		want []string
	}{
		{"all", []specs.LinuxDeviceCgroup{{Allow: true}}, []string{none, `DevicePolicy="auto"`}},
		{"none", []specs.LinuxDeviceCgroup{denyAll}, []string{none, strict, none}},
		{"some", []specs.LinuxDeviceCgroup{denyAll, dev(true, "c", 1, 3, "rwm"), dev(true, "b", 8, 1, "r"), dev(true, "c", 136, -1, "rw"), dev(true, "b", -1, -1, "m"), dev(true, "c", -1, 5, "r")},
			[]string{none, strict, `DeviceAllow=[("block-*", "m",), ("/dev/block/8:1", "r",), ("/dev/char/1:3", "rwm",), ("char-136", "rw",)]`}},
		{"all but one is more than systemd can say", []specs.LinuxDeviceCgroup{{Allow: true}, dev(false, "c", 1, 11, "r")}, []string{none, strict}},
		{"an exception from an exception too", []specs.LinuxDeviceCgroup{denyAll, dev(true, "c", 1, -1, "rwm"), dev(false, "c", 1, 11, "r")}, []string{none, strict}},
	} {
		rules, err := deviceRules(tc.in, false)
		if err != nil {
			t.Fatal(err)
		}
		if got := words(deviceProperties(rules)); !reflect.DeepEqual(got, tc.want) {
			t.Errorf("%s:\n got %q\nwant %q", tc.why, got, tc.want)
		}
	}
}

func TestSystemdPaths(t *testing.T) {
	if systemd.Running() {
		t.Skip("needs a host without systemd")
	}
	_, err := New("system.slice:x:y", Options{Systemd: true, ID: "y"})
	if !errdefs.IsUnavailable(err) || !strings.Contains(err.Error(), "systemd not running on this host, cannot use systemd cgroups manager") {
		t.Error(err)
	}
}
