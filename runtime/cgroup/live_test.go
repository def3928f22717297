package cgroup

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

func writeNew(dir, file string) error { return os.WriteFile(filepath.Join(dir, file), nil, 0o600) }

const childEnv = "GANTRY_CGROUP_CHILD"

func TestMain(m *testing.M) {
	if what := os.Getenv(childEnv); what != "" {
		child(what)
		os.Exit(0)
	}
	prepareHost()
	os.Exit(m.Run())
}

// child waits for a line, so that the test can put it somewhere, then acts and
// waits again until its input ends.
func child(what string) {
	line := make([]byte, 1)
	os.Stdin.Read(line)
	switch what {
	case "eat":
		b := make([]byte, 64<<20)
		for i := range b {
			b[i] = 1
		}
	case "spin":
		for t := time.Now(); time.Since(t) < 50*time.Millisecond; {
		}
	case "rerun":
		rerun()
	case "access":
		for _, a := range os.Args[1:] {
			fmt.Println(a, access1(a))
		}
	case "devices":
		for _, p := range []string{"/dev/null", "/dev/kmsg"} {
			f, err := os.Open(p)
			fmt.Println(p, err == nil)
			if err == nil {
				f.Close()
			}
		}
	}
	fmt.Println("done")
	io.Copy(io.Discard, os.Stdin)
}

// process is a child of the test, ended with it.
type process struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out io.Reader
}

func start(t *testing.T, what string, files ...*os.File) *process {
	t.Helper()
	return startWith(t, what, nil, files...)
}

func startWith(t *testing.T, what string, args []string, files ...*os.File) *process {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe, args...)
	cmd.Env = append(os.Environ(), childEnv+"="+what, "GOMAXPROCS=1")
	cmd.ExtraFiles = files
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p := &process{cmd, in, out}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	return p
}

func (p *process) pid() int { return p.cmd.Process.Pid }

// act lets the child go and returns what it says up to "done".
func (p *process) act(t *testing.T) string {
	t.Helper()
	if _, err := p.in.Write([]byte("\n")); err != nil {
		t.Fatal(err)
	}
	var said []byte
	b := make([]byte, 256)
	for !strings.Contains(string(said), "done\n") {
		n, err := p.out.Read(b)
		said = append(said, b[:n]...)
		if err != nil {
			break
		}
	}
	return string(said)
}

func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: makes cgroups")
	}
}

func name(t *testing.T) string {
	return "/gantry-test-" + strconv.Itoa(os.Getpid()) + "/" + strings.ToLower(t.Name())
}

func ctx5(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// made gives a cgroup on this host that goes with the test.
func made(t *testing.T) *Manager {
	t.Helper()
	needRoot(t)
	m, err := New(name(t), Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Create(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { drop(t, m) })
	return m
}

func drop(t *testing.T, m *Manager) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if err := errors.Join(m.Kill(ctx), m.Delete(ctx)); err != nil {
		t.Error(err)
	}
	if m.Exists() {
		t.Error("directories are left")
	}
	for _, p := range m.Paths() {
		_ = unix.Rmdir(filepath.Dir(p)) // the parent of all tests; busy while others run
	}
}

func v1Only(t *testing.T) {
	t.Helper()
	if Mode() == V2 {
		t.Skip("needs cgroup v1")
	}
}

func file(t *testing.T, m *Manager, controller, file string) string {
	t.Helper()
	dir, ok := m.Paths()[controller]
	if !ok {
		t.Skipf("needs the %s controller", controller)
	}
	s, err := readFile(dir, file)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestLimitsV1(t *testing.T) {
	v1Only(t)
	m := made(t)
	warns, err := m.Set(&specs.LinuxResources{
		Memory:  &specs.LinuxMemory{Limit: ptr(int64(64 << 20)), Swap: ptr(int64(128 << 20)), Reservation: ptr(int64(32 << 20)), Swappiness: ptr(uint64(10))},
		CPU:     &specs.LinuxCPU{Shares: ptr(uint64(512)), Quota: ptr(int64(20000)), Period: ptr(uint64(50000)), Burst: ptr(uint64(1000)), Cpus: "0"},
		Pids:    &specs.LinuxPids{Limit: ptr(int64(33))},
		BlockIO: &specs.LinuxBlockIO{},
		Devices: []specs.LinuxDeviceCgroup{denyAll, dev(true, "c", 10, 229, "rwm")},
	})
	if err != nil || len(warns) > 0 {
		t.Fatal(err, warns)
	}
	for _, w := range []struct{ controller, file, want string }{
		{"memory", "memory.limit_in_bytes", "67108864"}, {"memory", "memory.memsw.limit_in_bytes", "134217728"},
		{"memory", "memory.soft_limit_in_bytes", "33554432"}, {"memory", "memory.swappiness", "10"},
		{"cpu", "cpu.shares", "512"}, {"cpu", "cpu.cfs_quota_us", "20000"}, {"cpu", "cpu.cfs_period_us", "50000"}, {"cpu", "cpu.cfs_burst_us", "1000"},
		{"cpuset", "cpuset.cpus", "0"}, {"pids", "pids.max", "33"},
	} {
		if got := file(t, m, w.controller, w.file); got != w.want {
			t.Errorf("%s: %s, want %s", w.file, got, w.want)
		}
	}
	if file(t, m, "cpuset", "cpuset.mems") == "" {
		t.Error("cpuset.mems is empty: nothing could join")
	}
	list := file(t, m, "devices", "devices.list")
	for _, want := range []string{"c 10:229 rwm", "c 1:3 rwm", "b *:* m"} {
		if !strings.Contains(list, want) {
			t.Errorf("devices.list lacks %q:\n%s", want, list)
		}
	}
	if strings.Contains(list, "a *:*") {
		t.Error("all devices are allowed")
	}

	// Raise and lower again: each order of writes, each way.
	for _, mb := range []int64{256, 16, 64} {
		if err := m.Update(memory(mb<<20, 2*mb<<20)); err != nil {
			t.Fatal(err)
		}
	}
	for _, quota := range []int64{500, 100000} { // below and above the old period and burst
		c := &specs.LinuxCPU{Quota: ptr(quota * 2), Period: ptr(uint64(quota) * 10), Burst: ptr(uint64(quota))}
		if quota == 500 {
			c = &specs.LinuxCPU{Quota: ptr(int64(1000)), Period: ptr(uint64(1000)), Burst: ptr(uint64(0))}
		}
		if err := m.Update(&specs.LinuxResources{CPU: c}); err != nil {
			t.Fatal(err)
		}
	}
	if got := file(t, m, "devices", "devices.list"); got != list {
		t.Errorf("an update without devices changed them:\n%s", got)
	}
	if err := m.Update(&specs.LinuxResources{Devices: []specs.LinuxDeviceCgroup{denyAll, dev(true, "c", 10, 200, "rw")}}); err != nil {
		t.Fatal(err)
	}
	if got := file(t, m, "devices", "devices.list"); strings.Contains(got, "10:229") || !strings.Contains(got, "c 10:200 rw") || !strings.Contains(got, "c 1:3 rwm") {
		t.Errorf("updated devices:\n%s", got)
	}
}

func TestLimitsV2(t *testing.T) {
	if Mode() != V2 {
		t.Skip("needs cgroup v2 alone")
	}
	m := made(t)
	warns, err := m.Set(&specs.LinuxResources{
		Memory:         &specs.LinuxMemory{Limit: ptr(int64(64 << 20)), Swap: ptr(int64(128 << 20)), Reservation: ptr(int64(32 << 20))},
		CPU:            &specs.LinuxCPU{Shares: ptr(uint64(1024)), Quota: ptr(int64(20000)), Period: ptr(uint64(50000)), Burst: ptr(uint64(1000)), Cpus: "0"},
		Pids:           &specs.LinuxPids{Limit: ptr(int64(33))},
		BlockIO:        &specs.LinuxBlockIO{Weight: ptr(uint16(500))},
		HugepageLimits: []specs.LinuxHugepageLimit{{Pagesize: "2MB", Limit: 4 << 20}},
		Unified:        map[string]string{"memory.high": "50331648"},
	})
	if err != nil || len(warns) > 0 {
		t.Fatal(err, warns)
	}
	has := func(file, want string) {
		t.Helper()
		if got, err := readFile(m.Paths()[""], file); err != nil || got != want {
			t.Errorf("%s: %q, want %q, %v", file, got, want, err)
		}
	}
	has("memory.max", "67108864")
	has("memory.swap.max", "67108864")
	has("memory.low", "33554432")
	has("memory.high", "50331648")
	has("cpu.weight", "100")
	has("cpu.max", "20000 50000")
	has("cpu.max.burst", "1000")
	has("cpuset.cpus", "0")
	has("pids.max", "33")
	has("hugetlb.2MB.max", "4194304")

	// Raise and lower again, each way; without swap, all of it, the limit alone.
	for _, mb := range []int64{256, 16, 64} {
		if err := m.Update(memory(mb<<20, mb<<20)); err != nil {
			t.Fatal(err)
		}
	}
	has("memory.swap.max", "0")
	if err := m.Update(memory(32<<20, -1)); err != nil {
		t.Fatal(err)
	}
	has("memory.swap.max", "max")
	if err := m.Update(memory(48<<20, 0)); err != nil {
		t.Fatal(err)
	}
	has("memory.max", "50331648")
	if err := m.Update(memory(-1, -1)); err != nil {
		t.Fatal(err)
	}
	has("memory.max", "max")
	// Below and above the old period and burst.
	for _, c := range []*specs.LinuxCPU{
		{Quota: ptr(int64(1000)), Period: ptr(uint64(1000)), Burst: ptr(uint64(0))},
		{Quota: ptr(int64(200000)), Period: ptr(uint64(1000000)), Burst: ptr(uint64(100000))},
		{Quota: ptr(int64(5000)), Period: ptr(uint64(10000)), Burst: ptr(uint64(2000))},
		{Period: ptr(uint64(20000))},
	} {
		if err := m.Update(&specs.LinuxResources{CPU: c}); err != nil {
			t.Fatal(err)
		}
	}
	has("cpu.max", "5000 20000")
	if err := m.Update(&specs.LinuxResources{CPU: &specs.LinuxCPU{Quota: ptr(int64(-1))}, Pids: &specs.LinuxPids{Limit: ptr(int64(-1))}}); err != nil {
		t.Fatal(err)
	}
	has("cpu.max", "max 20000")
	has("pids.max", "max")
}

// TestNoInternalProcess makes a cgroup below one that holds a process: the kernel
// gives it no controllers, and only a limit that needs one fails.
func TestNoInternalProcess(t *testing.T) {
	if Mode() != V2 {
		t.Skip("needs cgroup v2 alone")
	}
	above := made(t)
	p := start(t, "wait")
	if err := above.AddPid(p.pid()); err != nil {
		t.Fatal(err)
	}
	m, err := New(name(t)+"/below", Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Create(); err != nil {
		t.Fatal(err)
	}
	if _, err := m.Set(nil); err != nil {
		t.Errorf("no limits: %v", err)
	}
	_, err = m.Set(memory(64<<20, 0))
	if !errors.Is(err, errdefs.ErrUnavailable) || !strings.Contains(err.Error(), `"memory"`) {
		t.Errorf("a limit: %v", err)
	}
	if err := m.Delete(ctx5(t)); err != nil {
		t.Error(err)
	}

	// The other way round: what hands controllers down takes no process.
	if err := errors.Join(above.Kill(ctx5(t))); err != nil {
		t.Fatal(err)
	}
	p.cmd.Wait()
	if err := m.Create(); err != nil {
		t.Fatal(err)
	}
	other := start(t, "wait")
	if err := above.AddPid(other.pid()); !errors.Is(err, unix.EBUSY) || !errors.Is(err, errdefs.ErrFailedPrecondition) {
		t.Errorf("join: %v", err)
	}
	if err := m.AddPid(other.pid()); err != nil {
		t.Fatal(err)
	}
	if dir, err := above.DirOf(other.pid()); err != nil || dir != m.Paths()[""] {
		t.Errorf("the process is in %s, %v", dir, err)
	}
	if dir, err := above.DirOf(os.Getpid()); !errors.Is(err, errdefs.ErrNotFound) {
		t.Errorf("we are in %s, %v", dir, err)
	}
}

func TestMissingController(t *testing.T) {
	v1Only(t)
	m := made(t)
	if _, ok := m.Paths()["rdma"]; ok {
		t.Skip("needs a host without the rdma controller")
	}
	_, err := m.Set(&specs.LinuxResources{Rdma: rdma})
	if !errors.Is(err, errdefs.ErrUnavailable) || !strings.Contains(err.Error(), `"rdma"`) {
		t.Fatal(err)
	}
}

func TestJoinFreezeKill(t *testing.T) {
	m := made(t)
	fds, err := m.JoinFDs()
	if err != nil {
		t.Fatal(err)
	}
	dir, err := m.DirFD()
	if err != nil {
		t.Fatal(err)
	}
	var p *process
	if Mode() == V2 {
		dir.Close()
		p = start(t, "wait")
		if err := m.AddPid(p.pid()); err != nil {
			t.Fatal(err)
		}
	} else {
		if dir != nil {
			t.Error("a directory to clone into on v1")
		}
		if n := len(fds); n < 2 {
			t.Fatalf("%d files to join by", n)
		}
		p = start(t, "add")
		if err := m.AddPid(p.pid()); err != nil {
			t.Fatal(err)
		}
		// A process of one thread, as the runtime's child is.
		sh := exec.Command("/bin/sh", "-c", `for f; do echo 0 > /proc/self/fd/$f || exit 1; done; cat /proc/self/cgroup`, "sh")
		for i, f := range fds {
			sh.ExtraFiles = append(sh.ExtraFiles, f)
			sh.Args = append(sh.Args, strconv.Itoa(3+i))
		}
		out, err := sh.CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		if got := strings.Count(string(out), name(t)+"\n"); got != len(fds) {
			t.Errorf("joined %d of %d:\n%s", got, len(fds), out)
		}
	}
	for _, f := range fds {
		f.Close()
	}
	pids, err := m.Pids()
	if err != nil || !slices.Equal(pids, []int{p.pid()}) {
		t.Fatal(pids, err)
	}
	ctx := ctx5(t)
	for range 3 {
		if err := m.Freeze(ctx); err != nil {
			t.Fatal(err)
		}
		if f, err := m.Frozen(); err != nil || !f {
			t.Fatal(f, err)
		}
		if err := m.Thaw(ctx); err != nil {
			t.Fatal(err)
		}
		if f, err := m.Frozen(); err != nil || f {
			t.Fatal(f, err)
		}
	}
	if err := m.Freeze(ctx); err != nil { // what is frozen dies too
		t.Fatal(err)
	}
	again, err := Load(m.Paths())
	if err != nil || !reflect.DeepEqual(again.Paths(), m.Paths()) {
		t.Fatal(again, err)
	}
	if err := again.Kill(ctx); err != nil {
		t.Fatal(err)
	}
	if ws, _ := p.cmd.Process.Wait(); ws.Sys().(interface{ Signal() unix.Signal }).Signal() != unix.SIGKILL {
		t.Error(ws)
	}
	if err := again.Kill(ctx); err != nil {
		t.Error("again:", err)
	}
}

// TestDelete removes what a container made below, and what is busy until its
// last process is gone.
func TestDelete(t *testing.T) {
	m := made(t)
	for _, p := range m.Paths() {
		if err := os.MkdirAll(filepath.Join(p, "inner", "most"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	p := start(t, "wait")
	if err := m.AddPid(p.pid()); err != nil {
		t.Fatal(err)
	}
	ctx := ctx5(t)
	deleted := make(chan error)
	go func() { deleted <- m.Delete(ctx) }()
	if err := m.Kill(ctx); err != nil {
		t.Error(err)
	}
	p.cmd.Wait()
	if err := <-deleted; err != nil {
		t.Fatal(err)
	}
	if m.Exists() {
		t.Fatal("still there")
	}
	if err := m.Delete(ctx); err != nil {
		t.Error("again:", err)
	}
	if _, err := m.Pids(); !errdefs.IsNotFound(err) {
		t.Errorf("pids: %v", err)
	}
	if _, err := m.Stats(); !errdefs.IsNotFound(err) {
		t.Errorf("stats: %v", err)
	}
	if err := m.Freeze(ctx); !errdefs.IsNotFound(err) {
		t.Errorf("freeze: %v", err)
	}
}

func TestDeleteGivesUp(t *testing.T) {
	m := made(t)
	p := start(t, "wait")
	if err := m.AddPid(p.pid()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := m.Delete(ctx); !errors.Is(err, unix.EBUSY) {
		t.Fatal(err)
	}
}

func TestStatsGrow(t *testing.T) {
	m := made(t)
	p := start(t, "spin")
	if err := m.AddPid(p.pid()); err != nil {
		t.Fatal(err)
	}
	before, err := m.Stats()
	if err != nil {
		t.Fatal(err)
	}
	p.act(t)
	after, err := m.Stats()
	if err != nil {
		t.Fatal(err)
	}
	if Mode() == V2 {
		grownV2(t, before.V2, after.V2)
		return
	}
	a, b := before.V1, after.V1
	if b.CPU.Usage.Total <= a.CPU.Usage.Total || b.CPU.Usage.User == 0 || len(b.CPU.Usage.PerCPU) == 0 {
		t.Errorf("cpu: %v, then %v", a.CPU, b.CPU)
	}
	if b.Memory == nil || b.Memory.Usage.Usage == 0 || b.Memory.Usage.Limit == 0 {
		t.Errorf("memory: %v", b.Memory)
	}
	if b.Pids == nil || b.Pids.Current == 0 || b.Pids.Limit != 0 {
		t.Errorf("pids: %v", b.Pids)
	}
	if b.MemoryOomControl == nil {
		t.Error("no oom control")
	}
}

func grownV2(t *testing.T, a, b *StatsV2) {
	t.Helper()
	if b.CPU.UsageUsec <= a.CPU.UsageUsec {
		t.Errorf("cpu: %v, then %v", a.CPU, b.CPU)
	}
	if b.Memory == nil || b.Memory.Usage == 0 || b.Memory.UsageLimit != unlimited || b.Memory.Anon == 0 {
		t.Errorf("memory: %v", b.Memory)
	}
	if b.Pids == nil || b.Pids.Current == 0 || b.Pids.Limit != unlimited {
		t.Errorf("pids: %v", b.Pids)
	}
	if b.MemoryEvents == nil {
		t.Error("no memory events")
	}
}

func TestOOM(t *testing.T) {
	m := made(t)
	if _, err := m.Set(memory(8<<20, 8<<20)); err != nil {
		t.Fatal(err)
	}
	events, stop, err := m.OOM()
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	p := start(t, "eat")
	if err := m.AddPid(p.pid()); err != nil {
		t.Fatal(err)
	}
	p.act(t)
	select {
	case _, ok := <-events:
		if !ok {
			t.Fatal("closed")
		}
	case <-ctx5(t).Done():
		t.Fatal("no event")
	}
	p.cmd.Wait()
	if n, err := m.OOMKilled(); err != nil || n == 0 {
		t.Fatal(n, err)
	}
	if err := m.Delete(ctx5(t)); err != nil {
		t.Fatal(err)
	}
	for range events { // ends when the cgroup is gone
	}
}

func TestOOMStop(t *testing.T) {
	m := made(t)
	events, stop, err := m.OOM()
	if err != nil {
		t.Fatal(err)
	}
	stop()
	stop()
	if _, ok := <-events; ok {
		t.Fatal("an event")
	}
}

// TestCreateUndoes makes the last directory fail.
func TestCreateUndoes(t *testing.T) {
	v1Only(t)
	needRoot(t)
	m, err := New(name(t), Options{})
	if err != nil {
		t.Fatal(err)
	}
	c := m.drv.(*legacy)
	c.dirs = append(slices.Clone(c.dirs), dir{mount: mount{point: "/proc", keys: []string{"zz"}}, path: "/proc/gantry-no/x"})
	if err := m.Create(); err == nil {
		t.Fatal("made a directory in /proc")
	}
	if m.Exists() {
		t.Error("directories are left")
	}
}

// TestDevices opens a device that the rules allow and one that they don't.
func TestDevices(t *testing.T) {
	m := made(t)
	if _, err := m.Set(nil); err != nil {
		t.Fatal(err)
	}
	p := start(t, "devices")
	if err := m.AddPid(p.pid()); err != nil {
		t.Fatal(err)
	}
	if got := p.act(t); got != "/dev/null true\n/dev/kmsg false\ndone\n" {
		t.Fatal(got)
	}
}

// onUnified drives the unified hierarchy of a hybrid host (or of a v2 one) as
// v2: it has no controllers there, but all else.
func onUnified(t *testing.T) *Manager {
	t.Helper()
	needRoot(t)
	h, err := readHost()
	if err != nil {
		t.Fatal(err)
	}
	ds, err := h.dirs(name(t))
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(ds, func(d dir) bool { return d.mount.unified })
	if i < 0 {
		t.Skip("needs a mounted unified hierarchy")
	}
	m := &Manager{host: h, drv: &unified{mount: ds[i].mount, path: ds[i].path}}
	if err := m.Create(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { drop(t, m) })
	return m
}

func TestUnifiedProcesses(t *testing.T) {
	m := onUnified(t)
	ctx := ctx5(t)
	p := start(t, "wait")
	if err := m.AddPid(p.pid()); err != nil {
		t.Fatal(err)
	}
	if pids, err := m.Pids(); err != nil || !slices.Equal(pids, []int{p.pid()}) {
		t.Fatal(pids, err)
	}
	if err := m.Freeze(ctx); err != nil {
		t.Fatal(err)
	}
	if f, err := m.Frozen(); err != nil || !f {
		t.Fatal(f, err)
	}
	if err := m.Kill(ctx); err != nil {
		t.Fatal(err)
	}
	p.cmd.Wait()
	if f, err := m.Frozen(); err != nil || f {
		t.Fatal("still frozen after the kill", err)
	}
	st, err := m.Stats()
	if err != nil || st.V2 == nil || st.V2.CPU.UsageUsec == 0 {
		t.Fatal(st, err)
	}
	if _, _, err := m.OOM(); Mode() == Hybrid && !errors.Is(err, errdefs.ErrNotImplemented) {
		t.Error(err)
	}
	if _, err := m.Set(&specs.LinuxResources{Unified: map[string]string{"nosuch.max": "1"}}); !errors.Is(err, errdefs.ErrUnavailable) || !strings.Contains(err.Error(), `"nosuch"`) {
		t.Error(err)
	}
}

// TestUnifiedDevices attaches, replaces and tries the compiled rules.
func TestUnifiedDevices(t *testing.T) {
	m := onUnified(t)
	try := func(want string) {
		t.Helper()
		p := start(t, "devices")
		if err := m.AddPid(p.pid()); err != nil {
			t.Fatal(err)
		}
		if got := p.act(t); got != want {
			t.Errorf("%swant %s", got, want)
		}
		p.in.Close()
		p.cmd.Wait()
	}
	if _, err := m.Set(nil); err != nil {
		t.Fatal(err)
	}
	try("/dev/null true\n/dev/kmsg false\ndone\n")
	if err := m.Update(&specs.LinuxResources{Devices: []specs.LinuxDeviceCgroup{denyAll, dev(true, "c", 1, 11, "r")}}); err != nil {
		t.Fatal(err)
	}
	try("/dev/null true\n/dev/kmsg true\ndone\n")
	if err := m.Update(&specs.LinuxResources{Devices: []specs.LinuxDeviceCgroup{{Allow: true}, dev(false, "c", 1, 11, "r")}}); err != nil {
		t.Fatal(err)
	}
	try("/dev/null true\n/dev/kmsg false\ndone\n")
	// All is allowed, as to a privileged container: nothing leads to a denial.
	if err := m.Update(&specs.LinuxResources{Devices: []specs.LinuxDeviceCgroup{{Allow: true}}}); err != nil {
		t.Fatal(err)
	}
	try("/dev/null true\n/dev/kmsg true\ndone\n")
	d, err := m.DirFD()
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	r, err := os.Open(m.Paths()[""])
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	ps, err := attached(int(r.Fd()))
	closeAll(ps)
	if err != nil || len(ps) != 0 { // none is asked
		t.Fatalf("%d programs attached: %v", len(ps), err)
	}
}

// TestCreateRootless leaves out the hierarchy that it may not write.
func TestCreateRootless(t *testing.T) {
	v1Only(t)
	needRoot(t)
	m, err := New(name(t), Options{Rootless: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { drop(t, m) })
	c := m.drv.(*legacy)
	want := m.Paths()
	c.dirs = append(slices.Clone(c.dirs), dir{mount: mount{point: "/sys/kernel", keys: []string{"zz"}}, path: "/sys/kernel/gantry-no"})
	if err := m.Create(); err != nil {
		t.Fatal(err)
	}
	if got := m.Paths(); !reflect.DeepEqual(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}
