package cgroup

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"gantry/runtime/cgroup/systemd"
)

// scoped gives a cgroup that systemd keeps and that goes with the test.
func scoped(t *testing.T, o Options) *Manager {
	t.Helper()
	needRoot(t)
	if !systemd.Running() {
		t.Skip("needs systemd as the host's init")
	}
	o.Systemd, o.ID = true, strings.ToLower(t.Name())
	m, err := New("gantry-test.slice:gantry:"+o.ID, o)
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Create(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.Kill(context.Background()); err != nil {
			t.Error(err)
		}
		if err := m.Delete(context.Background()); err != nil {
			t.Error(err)
		}
		if m.Exists() || unitProperty(t, m, "LoadState") == "loaded" {
			t.Errorf("%s is left", m.Unit().Name)
		}
	})
	return m
}

// begun is scoped with limits and a process in it.
func begun(t *testing.T, o Options, res *specs.LinuxResources) (*Manager, *process) {
	t.Helper()
	m := scoped(t, o)
	warnings, err := m.Set(res)
	if err != nil || len(warnings) > 0 {
		t.Fatal(warnings, err)
	}
	if res != nil { // room for the placeholder
		hasFiles(t, m, map[string]string{"pids.max": itoa(*res.Pids.Limit + 1)})
	}
	p := start(t, "devices")
	if err := m.AddPid(p.pid()); err != nil {
		t.Fatal(err)
	}
	if err := m.Joined(); err != nil {
		t.Fatal(err)
	}
	if pids, err := m.Pids(); err != nil || !slices.Equal(pids, []int{p.pid()}) {
		t.Fatalf("%v in the cgroup, not %d alone: %v", pids, p.pid(), err)
	}
	return m, p
}

func unitProperty(t *testing.T, m *Manager, name string) string {
	t.Helper()
	out, err := exec.Command("systemctl", "show", "-p", name, "--value", m.Unit().Name).CombinedOutput()
	if err != nil {
		t.Fatalf("systemctl: %v: %s", err, out)
	}
	return strings.TrimSpace(string(out))
}

func hasUnit(t *testing.T, m *Manager, want map[string]string) {
	t.Helper()
	for name, value := range want {
		if got := unitProperty(t, m, name); got != value {
			t.Errorf("%s=%s, want %s", name, got, value)
		}
	}
}

func hasFiles(t *testing.T, m *Manager, want map[string]string) {
	t.Helper()
	for name, value := range want {
		controller, _, _ := strings.Cut(name, ".")
		if m.Kind() == V2 {
			controller = ""
		}
		if got := file(t, m, controller, name); got != value {
			t.Errorf("%s is %q, want %q", name, got, value)
		}
	}
}

func limited() *specs.LinuxResources {
	r := memory(64<<20, 96<<20)
	r.CPU = &specs.LinuxCPU{Shares: ptr(uint64(512)), Quota: ptr(int64(20500)), Period: ptr(uint64(100000)), Cpus: "0", Mems: "0"}
	r.Pids = &specs.LinuxPids{Limit: ptr(int64(30))}
	r.Devices = []specs.LinuxDeviceCgroup{denyAll}
	return r
}

func TestSystemdScope(t *testing.T) {
	m, p := begun(t, Options{Annotations: map[string]string{"org.systemd.property.TimeoutStopSec": "uint32 7"}}, limited())
	if out := p.act(t); out != "/dev/null true\n/dev/kmsg false\ndone\n" {
		t.Error(out)
	}
	hasUnit(t, m, map[string]string{
		"Slice": "gantry-test.slice", "Delegate": "yes", "DefaultDependencies": "no", "TimeoutStopUSec": "7s", "TasksMax": "30",
		"CPUQuotaPerSecUSec": "210ms", "CPUQuotaPeriodUSec": "100ms", "AllowedCPUs": "0", "DevicePolicy": "strict", "ActiveState": "active",
	})
	for _, d := range []string{"/dev/char/1:3 rwm", "char-136 rwm", "char-* m"} {
		if got := unitProperty(t, m, "DeviceAllow"); !strings.Contains(got, d) {
			t.Errorf("DeviceAllow is %q without %s", got, d)
		}
	}
	if m.Kind() == V2 {
		hasUnit(t, m, map[string]string{"MemoryMax": "67108864", "MemorySwapMax": "33554432", "CPUWeight": "59"})
		hasFiles(t, m, map[string]string{"memory.max": "67108864", "memory.swap.max": "33554432", "cpu.max": "21000 100000", "cpu.weight": "59", "pids.max": "30", "cpuset.cpus": "0"})
	} else {
		hasUnit(t, m, map[string]string{"MemoryLimit": "67108864", "CPUShares": "512"})
		hasFiles(t, m, map[string]string{"memory.limit_in_bytes": "67108864", "cpu.cfs_quota_us": "21000", "cpu.shares": "512", "pids.max": "30", "cpuset.cpus": "0"})
	}
}

// TestSystemdUpdate changes a part, from what a state file keeps; what systemd writes
// again by itself at a reload must be the same.
func TestSystemdUpdate(t *testing.T) {
	made, p := begun(t, Options{}, limited())
	m, err := LoadScope(made.Paths(), *made.Unit())
	if err != nil {
		t.Fatal(err)
	}
	r := &specs.LinuxResources{CPU: &specs.LinuxCPU{Quota: ptr(int64(40000))}, Pids: &specs.LinuxPids{Limit: ptr(int64(20))},
		Devices: []specs.LinuxDeviceCgroup{denyAll, dev(true, "c", 1, 11, "r")}}
	if err := m.Update(r); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("systemctl", "daemon-reload").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if out := p.act(t); out != "/dev/null true\n/dev/kmsg true\ndone\n" {
		t.Error(out)
	}
	hasUnit(t, m, map[string]string{"TasksMax": "20", "CPUQuotaPerSecUSec": "400ms", "CPUQuotaPeriodUSec": "100ms"})
	if m.Kind() == V2 {
		hasUnit(t, m, map[string]string{"MemoryMax": "67108864"})
		hasFiles(t, m, map[string]string{"memory.max": "67108864", "cpu.max": "40000 100000", "pids.max": "20", "cpu.weight": "59"})
	} else {
		hasUnit(t, m, map[string]string{"MemoryLimit": "67108864"})
		hasFiles(t, m, map[string]string{"memory.limit_in_bytes": "67108864", "cpu.cfs_quota_us": "40000", "pids.max": "20", "cpu.shares": "512"})
	}
	if frozen, err := m.Frozen(); err != nil || frozen {
		t.Error("frozen by the update", err)
	}
	if err := m.Update(&specs.LinuxResources{Pids: &specs.LinuxPids{Limit: ptr(int64(-1))}}); err != nil {
		t.Fatal(err)
	}
	hasUnit(t, m, map[string]string{"TasksMax": "infinity"})
}

// TestSystemdTwice: a scope of a name that runs is refused, and one that has failed
// makes place.
func TestSystemdTwice(t *testing.T) {
	m, _ := begun(t, Options{}, nil)
	again, err := New("gantry-test.slice:gantry:"+strings.ToLower(t.Name()), Options{Systemd: true, ID: "x"})
	if err != nil {
		t.Fatal(err)
	}
	if err := again.Create(); !errdefs.IsAlreadyExists(err) {
		t.Errorf("a second scope of the name: %v", err)
	}
	if !m.Exists() {
		t.Error("the first one is gone")
	}
}

// TestSystemdRefuses: what systemd refuses is told, and nothing is left of it.
func TestSystemdRefuses(t *testing.T) {
	needRoot(t)
	if !systemd.Running() {
		t.Skip("needs systemd as the host's init")
	}
	m, err := New("gantry-test.slice:gantry:refused", Options{Systemd: true, ID: "refused",
		Annotations: map[string]string{"org.systemd.property.NoSuchThing": "true"}})
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Create(); err == nil || !strings.Contains(err.Error(), "gantry-refused.scope") {
		t.Errorf("a property that there is not: %v", err)
	}
	if m.Exists() || unitProperty(t, m, "LoadState") == "loaded" {
		t.Error("something is left")
	}
}

// TestSystemdEnds: when the last process has gone the scope goes too, and deleting
// what is gone is no error.
func TestSystemdEnds(t *testing.T) {
	m, p := begun(t, Options{}, nil)
	p.in.Write([]byte("\n"))
	p.in.Close()
	p.cmd.Wait()
	for deadline := time.Now().Add(20 * time.Second); unitProperty(t, m, "ActiveState") == "active"; time.Sleep(100 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the scope is there without a process")
		}
	}
	if err := m.Delete(context.Background()); err != nil {
		t.Error(err)
	}
}

// TestSystemdNested: below its scope a container makes cgroups as it likes, and they
// go with it.
func TestSystemdNested(t *testing.T) {
	m, p := begun(t, Options{}, nil)
	dir := keeper(m)
	inner := filepath.Join(dir, "inner")
	if err := os.Mkdir(inner, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := writeFile(inner, "cgroup.procs", fmt.Sprint(p.pid())); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("systemctl", "daemon-reload").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if pids, err := m.Pids(); err != nil || !slices.Equal(pids, []int{p.pid()}) {
		t.Error(pids, err)
	}
}

// keeper is the directory that systemd itself looks at.
func keeper(m *Manager) string {
	if dir, ok := m.Paths()["name=systemd"]; ok {
		return dir
	}
	return m.Paths()[""]
}
