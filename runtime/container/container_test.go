package container_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"gantry/internal/testutil/busybox"
	"gantry/internal/testutil/need"
	"gantry/runtime/cgroup"
	"gantry/runtime/container"
	"gantry/runtime/program"
)

// bed is where one test runs its containers.
type bed struct {
	t      testing.TB
	root   string // of states
	bundle string
	cgroup string
}

func newBed(t testing.TB) *bed {
	t.Helper()
	need.Root(t, "runs containers")
	dir := t.TempDir()
	busybox.Rootfs(t, dir)
	b := &bed{t: t, root: filepath.Join(dir, "state"), bundle: dir, cgroup: "/gantry-test-" + strings.ToLower(filepath.Base(filepath.Dir(dir)))}
	t.Cleanup(b.check)
	return b
}

// check fails the test when it left a cgroup, a mount or a state behind.
func (b *bed) check() {
	for _, mounted := range []string{"/sys/fs/cgroup", "/sys/fs/cgroup/*"} { // v2, v1
		if left, _ := filepath.Glob(mounted + b.cgroup + "*"); len(left) > 0 {
			b.t.Errorf("left behind: %v", left)
		}
	}
	if mounts, _ := os.ReadFile("/proc/self/mountinfo"); strings.Contains(string(mounts), b.bundle) {
		b.t.Errorf("left mounts below %s", b.bundle)
	}
	if left, _ := os.ReadDir(b.root); len(left) > 0 {
		b.t.Errorf("left states: %v", left)
	}
}

func (b *bed) rootfs() string {
	found, _ := filepath.Glob(b.bundle + "/*/bin/busybox")
	if len(found) == 0 {
		b.t.Fatal("no root filesystem")
	}
	return filepath.Dir(filepath.Dir(found[0]))
}

func mount(dest, typ, source string, options ...string) specs.Mount {
	return specs.Mount{Destination: dest, Type: typ, Source: source, Options: options}
}

// spec is much like what an engine asks for.
func (b *bed) spec(args ...string) *specs.Spec {
	caps := []string{"CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_KILL", "CAP_SETUID", "CAP_SETGID", "CAP_NET_BIND_SERVICE"}
	return &specs.Spec{
		Version: specs.Version,
		Root:    &specs.Root{Path: b.rootfs()},
		Process: &specs.Process{
			Args: args, Cwd: "/", Env: []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin"},
			Capabilities: &specs.LinuxCapabilities{Bounding: caps, Effective: caps, Permitted: caps},
		},
		Hostname: "box",
		Mounts: []specs.Mount{
			mount("/proc", "proc", "proc", "nosuid", "noexec", "nodev"),
			mount("/dev", "tmpfs", "tmpfs", "nosuid", "strictatime", "mode=755", "size=65536k"),
			mount("/dev/pts", "devpts", "devpts", "nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"),
			mount("/sys", "sysfs", "sysfs", "nosuid", "noexec", "nodev", "ro"),
			mount("/sys/fs/cgroup", "cgroup", "cgroup", "ro", "nosuid", "noexec", "nodev"),
			mount("/dev/mqueue", "mqueue", "mqueue", "nosuid", "noexec", "nodev"),
			mount("/dev/shm", "tmpfs", "shm", "nosuid", "noexec", "nodev", "mode=1777", "size=65536k"),
		},
		Linux: &specs.Linux{
			CgroupsPath: b.cgroup,
			Namespaces: []specs.LinuxNamespace{
				{Type: specs.PIDNamespace}, {Type: specs.MountNamespace}, {Type: specs.NetworkNamespace},
				{Type: specs.IPCNamespace}, {Type: specs.UTSNamespace}, {Type: specs.CgroupNamespace},
			},
			MaskedPaths:   []string{"/proc/keys", "/proc/acpi", "/proc/no-such", "/sys/firmware"},
			ReadonlyPaths: []string{"/proc/sys", "/proc/bus", "/proc/no-such"},
		},
	}
}

// create makes a container that is deleted in the end.
func (b *bed) create(spec *specs.Spec, more func(*container.CreateOptions)) (*container.Container, error) {
	b.t.Helper()
	o := container.CreateOptions{ID: "c1", Bundle: b.bundle, Root: b.root, Spec: spec,
		Warn: func(m string) { b.t.Logf("warning: %s", m) }}
	if more != nil {
		more(&o)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	c, err := container.Create(ctx, o)
	if err == nil {
		b.t.Cleanup(func() { b.delete(c) })
	}
	return c, err
}

func (b *bed) delete(c *container.Container) {
	pidfd := c.PidFD()
	if pidfd == nil {
		return
	}
	c.Kill(context.Background(), unix.SIGKILL, false)
	program.Reap(pidfd)
	if err := c.Delete(context.Background(), true); err != nil && !errdefs.IsNotFound(err) {
		b.t.Errorf("delete: %v", err)
	}
}

// run runs a container to its end and gives its output and exit status.
func (b *bed) run(spec *specs.Spec) (string, int) {
	b.t.Helper()
	var out bytes.Buffer
	r, w, err := os.Pipe()
	if err != nil {
		b.t.Fatal(err)
	}
	defer r.Close()
	c, err := b.create(spec, func(o *container.CreateOptions) { o.Stdout, o.Stderr = w, w })
	w.Close()
	if err != nil {
		b.t.Fatalf("create: %v", err)
	}
	if err := c.Start(context.Background()); err != nil {
		b.t.Fatalf("start: %v", err)
	}
	r.SetReadDeadline(time.Now().Add(20 * time.Second))
	if _, err := out.ReadFrom(r); err != nil {
		b.t.Fatalf("read output: %v; so far %q", err, out.String())
	}
	status := b.wait(c.PidFD())
	if err := c.Delete(context.Background(), false); err != nil {
		b.t.Errorf("delete: %v", err)
	}
	return out.String(), status
}

func (b *bed) wait(pidfd *os.File) int {
	b.t.Helper()
	var ws unix.WaitStatus
	fields, _ := os.ReadFile(fmt.Sprintf("/proc/self/fdinfo/%d", pidfd.Fd()))
	var pid int
	for line := range strings.Lines(string(fields)) {
		fmt.Sscanf(line, "Pid: %d", &pid)
	}
	if _, err := unix.Wait4(pid, &ws, 0, nil); err != nil {
		b.t.Fatalf("wait for %d: %v", pid, err)
	}
	if ws.Signaled() {
		return 128 + int(ws.Signal())
	}
	return ws.ExitStatus()
}

func TestRun(t *testing.T) {
	b := newBed(t)
	out, status := b.run(b.spec("sh", "-c", "echo hello $$ $(hostname); exit 3"))
	if out != "hello 1 box\n" || status != 3 {
		t.Errorf("%q, status %d", out, status)
	}
}

// shown is where a container sees a controller's part of its cgroup.
func shown(controller string) string {
	if cgroup.Mode() == cgroup.V2 {
		return "/sys/fs/cgroup"
	}
	return "/sys/fs/cgroup/" + controller
}

func itoa(n int) string { return fmt.Sprint(n) }
