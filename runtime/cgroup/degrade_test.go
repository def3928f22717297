package cgroup

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/containerd/errdefs"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

const hostEnv = "GANTRY_CGROUP_HOST"

// prepareHost changes what this process sees of the cgroup file systems, in a mount
// namespace that otherHost has made for it: "umount NAME", "readonly" or "remount".
func prepareHost() {
	what, name, _ := strings.Cut(os.Getenv(hostEnv), " ")
	if what == "" {
		return
	}
	os.Unsetenv(hostEnv)
	err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, "")
	h, e := readHost()
	if err = errors.Join(err, e); err != nil {
		fmt.Fprintln(os.Stderr, "prepare:", err)
		os.Exit(2)
	}
	for _, m := range h.mounts {
		switch {
		case what == "umount" && m.keys[0] == name:
			err = errors.Join(err, unix.Unmount(m.point, unix.MNT_DETACH))
		case what == "readonly":
			err = errors.Join(err, unix.Mount("", m.point, "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY, ""))
		case what == "remount" && m.unified: // as a container sees it: its own cgroup is the root
			err = errors.Join(err, unix.Unmount(m.point, unix.MNT_DETACH), unix.Mount("cgroup2", m.point, "cgroup2", 0, ""))
		case what == "remount":
			err = errors.Join(err, unix.Unmount(m.point, unix.MNT_DETACH), unix.Mount("cgroup", m.point, "cgroup", 0, strings.Join(m.options(), ",")))
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "prepare:", err)
		os.Exit(2)
	}
}

// otherHost runs tests of this package where the host is as what says, with further
// namespaces.
func otherHost(t *testing.T, what string, flags uintptr, run string) {
	t.Helper()
	needRoot(t)
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe, "-test.v", "-test.run", "^("+run+")$")
	cmd.Env = append(os.Environ(), hostEnv+"="+what)
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS | flags}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for name := range strings.SplitSeq(run, "|") {
		if !strings.Contains(string(out), "--- PASS: "+name+" ") {
			t.Errorf("%s did not pass:\n%s", name, out)
		}
	}
}

// inNamespace runs the tests as a container does: in a cgroup namespace below the root,
// with mounts of its own.
func inNamespace(t *testing.T) {
	m := made(t)
	t.Setenv(hostEnv, "remount")
	p := startWith(t, "rerun", []string{"-test.v", "-test.run", "^(" + everyday + ")$"})
	if err := m.AddPid(p.pid()); err != nil {
		t.Fatal(err)
	}
	out := p.act(t)
	for name := range strings.SplitSeq(everyday, "|") {
		if !strings.Contains(out, "--- PASS: "+name+" ") {
			t.Errorf("%s did not pass:\n%s", name, out)
		}
	}
}

// rerun runs this program with the same arguments in new namespaces.
func rerun() {
	os.Unsetenv(childEnv)
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stdout
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWCGROUP}
	if err := cmd.Run(); err != nil {
		fmt.Println(err)
	}
}

const everyday = "TestJoinFreezeKill|TestDevices|TestDelete"

// TestDegrade runs containers' cgroups on hosts that lack something.
func TestDegrade(t *testing.T) {
	h, err := readHost()
	if err != nil {
		t.Fatal(err)
	}
	t.Run("no name=systemd", func(t *testing.T) {
		v1Only(t)
		otherHost(t, "umount name=systemd", 0, everyday)
	})
	t.Run("no unified hierarchy", func(t *testing.T) {
		v1Only(t)
		otherHost(t, "umount ", 0, everyday)
	})
	t.Run("no pids controller", func(t *testing.T) {
		v1Only(t)
		otherHost(t, "umount pids", 0, everyday+"|TestWithoutPids")
	})
	t.Run("no freezer", func(t *testing.T) {
		if h.kind != Hybrid {
			t.Skip("needs a hybrid host, whose unified hierarchy can freeze too")
		}
		otherHost(t, "umount freezer", 0, everyday)
	})
	t.Run("read-only", func(t *testing.T) { otherHost(t, "readonly", 0, "TestReadonlyHost") })
	t.Run("cgroup namespace, outer mounts", func(t *testing.T) {
		v1Only(t) // v2 lets nobody move a process out of his namespace
		otherHost(t, "none", syscall.CLONE_NEWCGROUP, everyday)
	})
	t.Run("cgroup namespace", inNamespace)
}

// TestWithoutPids: what is not asked for is not missed.
func TestWithoutPids(t *testing.T) {
	if m, err := New("/x", Options{}); err != nil || m.Kind() == V2 || m.Paths()["pids"] != "" {
		t.Skip("needs a host without the pids controller")
	}
	m := made(t)
	if warnings, err := m.Set(&specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: ptr(int64(64 << 20))}}); err != nil || len(warnings) > 0 {
		t.Error(warnings, err)
	}
	_, err := m.Set(&specs.LinuxResources{Pids: &specs.LinuxPids{Limit: ptr(int64(5))}})
	if !errdefs.IsUnavailable(err) || !strings.Contains(err.Error(), `set pids.max: the cgroup controller "pids" is not available`) {
		t.Error(err)
	}
}

// TestBorrow: on a hybrid host a limit is written where its controller is, if that is
// the unified hierarchy.
func TestBorrow(t *testing.T) {
	const unified = "/sys/fs/cgroup/unified"
	if on, err := readFile(unified, "cgroup.subtree_control"); err == nil && !strings.Contains(on, "hugetlb") {
		t.Cleanup(func() { _ = writeFile(unified, "cgroup.subtree_control", "-hugetlb") })
	}
	m := made(t)
	v1 := m.Paths()["hugetlb"] != ""
	root, err := readFile(unified, "cgroup.controllers")
	if m.Kind() != Hybrid || v1 || err != nil || !strings.Contains(root, "hugetlb") {
		t.Skip("needs a hybrid host with the hugetlb controller in v2")
	}
	sizes, err := os.ReadDir("/sys/kernel/mm/hugepages")
	if err != nil || len(sizes) == 0 {
		t.Skip("needs huge pages")
	}
	if _, err := m.Set(&specs.LinuxResources{
		Memory:         &specs.LinuxMemory{Limit: ptr(int64(64 << 20))},
		HugepageLimits: []specs.LinuxHugepageLimit{{Pagesize: "2MB", Limit: 4 << 20}},
	}); err != nil {
		t.Fatal(err)
	}
	if got := file(t, m, "", "hugetlb.2MB.max"); got != "4194304" {
		t.Error(got)
	}
	if got := file(t, m, "memory", "memory.limit_in_bytes"); got != "67108864" {
		t.Error(got)
	}
}

// TestReadonlyHost: without privileges it goes on without a cgroup, with them it says
// what it could not make.
func TestReadonlyHost(t *testing.T) {
	m, err := New(name(t), Options{})
	if err != nil {
		t.Fatal(err)
	}
	for _, dir := range m.Paths() {
		if err := unix.Access(filepath.Dir(filepath.Dir(dir)), unix.W_OK); err != unix.EROFS {
			t.Skip("needs a host whose cgroups are read-only")
		}
	}
	if err := m.Create(); !errors.Is(err, unix.EROFS) || !strings.Contains(err.Error(), "mkdir") {
		t.Error(err)
	}
	m, err = New(name(t), Options{Rootless: true})
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Create(); err != nil || !m.Absent() {
		t.Error(m.Absent(), err)
	}
	warnings, err := m.Set(&specs.LinuxResources{Pids: &specs.LinuxPids{Limit: ptr(int64(5))}})
	if err != nil || len(warnings) != 1 || !strings.Contains(warnings[0], "pids.max") {
		t.Error(warnings, err)
	}
}

// TestThreaded: below a cgroup with threaded children there are threaded ones only.
func TestThreaded(t *testing.T) {
	outer := onUnified(t)
	dir := outer.Paths()[""]
	if err := os.Mkdir(filepath.Join(dir, "thread"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := writeFile(filepath.Join(dir, "thread"), "cgroup.type", "threaded"); err != nil {
		t.Fatal(err)
	}
	drv := outer.drv.(*unified)
	inner := &Manager{host: outer.host, drv: &unified{mount: drv.mount, path: filepath.Join(dir, "inner")}}
	if err := inner.Create(); err != nil {
		t.Fatal(err)
	}
	_, err := inner.Set(&specs.LinuxResources{Unified: map[string]string{"memory.max": "1048576"}})
	if !errdefs.IsFailedPrecondition(err) || !strings.Contains(err.Error(), "with domain controllers -- it is in an invalid state") {
		t.Error(err)
	}
	if _, err := inner.Set(nil); err != nil {
		t.Error(err)
	}
	if kind, err := readFile(inner.Paths()[""], "cgroup.type"); kind != "threaded" {
		t.Error(kind, err)
	}
}

// TestGiveTo: the owner makes cgroups below, and changes no limits.
func TestGiveTo(t *testing.T) {
	m := onUnified(t)
	const uid = 12345
	if err := m.GiveTo(uid); err != nil {
		t.Fatal(err)
	}
	dir := m.Paths()[""]
	for name, want := range map[string]uint32{"": uid, "cgroup.procs": uid, "cgroup.subtree_control": uid, "cgroup.threads": uid, "cgroup.freeze": 0, "cgroup.max.depth": 0} {
		var st unix.Stat_t
		if err := unix.Stat(filepath.Join(dir, name), &st); err != nil || st.Uid != want {
			t.Errorf("%q is %d's, want %d: %v", name, st.Uid, want, err)
		}
	}
}
