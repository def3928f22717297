package container_test

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"gantry/runtime/container"
)

func TestMounts(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(b *bed, src string, s *specs.Spec)
		script string
		want   string
	}{
		{"bind of a directory", func(b *bed, src string, s *specs.Spec) {
			s.Mounts = append(s.Mounts, mount("/new/dir", "bind", src, "rbind", "rprivate"))
		}, "cat /new/dir/file; touch /new/dir/x && echo ok", "hi\nok\n"},
		{"read-only bind", func(b *bed, src string, s *specs.Spec) {
			s.Mounts = append(s.Mounts, mount("/d", "bind", src, "bind", "ro"))
		}, "touch /d/x 2>&1", "touch: /d/x: Read-only file system\n"},
		{"bind of a file over a dangling link", func(b *bed, src string, s *specs.Spec) {
			os.Symlink("../run/stub/resolv.conf", b.rootfs()+"/etc/resolv.conf")
			s.Mounts = append(s.Mounts, mount("/etc/resolv.conf", "bind", src+"/file", "rbind"))
		}, "cat /etc/resolv.conf /run/stub/resolv.conf", "hi\nhi\n"},
		{"link out of the root stays inside", func(b *bed, src string, s *specs.Spec) {
			os.Symlink("/../../../../../../tmp/evil", b.rootfs()+"/esc")
			s.Mounts = append(s.Mounts, mount("/esc/in", "bind", src, "bind"))
		}, "cat /tmp/evil/in/file", "hi\n"},
		{"recursive read-only", func(b *bed, src string, s *specs.Spec) {
			b.mountTmpfs(src + "/sub")
			s.Mounts = append(s.Mounts, mount("/d", "bind", src, "rbind", "rro"))
		}, "touch /d/sub/x 2>&1", "touch: /d/sub/x: Read-only file system\n"},
		{"plain ro leaves mounts below writable, as runc does", func(b *bed, src string, s *specs.Spec) {
			b.mountTmpfs(src + "/sub")
			s.Mounts = append(s.Mounts, mount("/d", "bind", src, "rbind", "ro"))
		}, "touch /d/sub/x && echo ok", "ok\n"},
		{"bind without rbind leaves mounts below out", func(b *bed, src string, s *specs.Spec) {
			b.mountTmpfs(src + "/sub")
			s.Mounts = append(s.Mounts, mount("/d", "bind", src, "bind"))
		}, "ls /d/sub; grep -c ' /d ' /proc/self/mounts", "1\n"},
		{"tmpfs options", func(b *bed, src string, s *specs.Spec) {
			s.Mounts = append(s.Mounts, mount("/t", "tmpfs", "tmpfs", "size=64k", "mode=1700", "noexec"))
		}, "stat -c %a /t; grep ' /t ' /proc/mounts | grep -o 'noexec\\|size=64k'", "1700\nnoexec\nsize=64k\n"},
		{"host's cgroup directories without a namespace", func(b *bed, src string, s *specs.Spec) {
			s.Linux.Namespaces = s.Linux.Namespaces[:5]
		}, "wc -l < " + shown("pids") + "/cgroup.procs", "1\n"},
		{"/dev of the host", func(b *bed, src string, s *specs.Spec) {
			s.Mounts = []specs.Mount{mount("/proc", "proc", "proc"), mount("/dev", "bind", "/dev", "rbind", "rslave")}
			s.Linux.MaskedPaths, s.Linux.ReadonlyPaths = nil, nil
		}, "test -c /dev/null && echo ok", "ok\n"},
		{"idmapped bind", func(b *bed, src string, s *specs.Spec) {
			m := mount("/d", "bind", src, "rbind", "idmap")
			m.UIDMappings = []specs.LinuxIDMapping{{ContainerID: 0, HostID: 4000, Size: 10}}
			m.GIDMappings = m.UIDMappings
			s.Mounts = append(s.Mounts, m)
		}, "stat -c %u /d/file", "4000\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBed(t)
			src := t.TempDir()
			os.WriteFile(src+"/file", []byte("hi\n"), 0o644)
			s := b.spec("sh", "-c", c.script)
			c.change(b, src, s)
			if out, _ := b.run(s); out != c.want {
				t.Errorf("output\n%s\nwant\n%s", out, c.want)
			}
		})
	}
}

func (b *bed) mountTmpfs(dir string) {
	b.t.Helper()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		b.t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, ""); err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { unix.Unmount(dir, unix.MNT_DETACH) })
}

// overlay makes n lower directories, the last of which is the root filesystem,
// in directories of the given length.
func (b *bed) overlay(n, length int) container.Mount {
	b.t.Helper()
	base := b.t.TempDir()
	var lower []string
	for i := range n - 1 {
		dir := fmt.Sprintf("%s/%0*d", base, length, i)
		if err := os.MkdirAll(dir, 0o755); err != nil {
			b.t.Fatal(err)
		}
		os.WriteFile(dir+"/layer"+itoa(i), nil, 0o644)
		lower = append(lower, dir)
	}
	lower = append(lower, b.rootfs())
	for _, d := range []string{"/upper", "/work"} {
		if err := os.Mkdir(base+d, 0o755); err != nil {
			b.t.Fatal(err)
		}
	}
	return container.Mount{Type: "overlay", Source: "overlay", Options: []string{
		"index=off", "workdir=" + base + "/work", "upperdir=" + base + "/upper", "lowerdir=" + strings.Join(lower, ":")}}
}

func TestOverlayRoot(t *testing.T) {
	for _, c := range []struct {
		name      string
		n, length int
	}{{"one layer", 1, 1}, {"many layers", 60, 3}, {"layers of long names", 5, 250}} {
		t.Run(c.name, func(t *testing.T) {
			b := newBed(t)
			m := b.overlay(c.n, c.length)
			empty := b.bundle + "/rootfs-mountpoint"
			os.Mkdir(empty, 0o755)
			s := b.spec("sh", "-c", "ls / | grep -c layer; touch /x && echo ok; ls /proc/self/root >/dev/null && grep -c /state /proc/self/mountinfo")
			s.Root.Path = empty
			r, w, _ := os.Pipe()
			defer r.Close()
			ct, err := b.create(s, func(o *container.CreateOptions) { o.Rootfs = []container.Mount{m}; o.Stdout = w })
			w.Close()
			if err != nil {
				t.Fatal(err)
			}
			if err := ct.Start(context.Background()); err != nil {
				t.Fatal(err)
			}
			if out, want := readAll(r), fmt.Sprintf("%d\nok\n0\n", c.n-1); out != want {
				t.Errorf("output %q, want %q", out, want)
			}
			if left, _ := os.ReadDir(empty); len(left) > 0 {
				t.Errorf("host sees %v", left)
			}
		})
	}
}

func readAll(r *os.File) string {
	var all []byte
	buf := make([]byte, 4096)
	for {
		n, err := r.Read(buf)
		all = append(all, buf[:n]...)
		if err != nil {
			return string(all)
		}
	}
}

// TestSharedPropagation: what is mounted on the host later shows up inside.
func TestSharedPropagation(t *testing.T) {
	b := newBed(t)
	src := t.TempDir()
	b.mountTmpfs(src)
	if err := unix.Mount("", src, "", unix.MS_SHARED, ""); err != nil {
		t.Fatal(err)
	}
	os.Mkdir(src+"/in", 0o755)
	os.Mkdir(src+"/out", 0o755)
	s := b.spec("sh", "-c", "mount -t tmpfs x /d/out; while ! test -e /d/in/file; do sleep 0.05; done; echo seen")
	s.Process.Capabilities = &specs.LinuxCapabilities{Bounding: []string{"CAP_SYS_ADMIN"}, Effective: []string{"CAP_SYS_ADMIN"}, Permitted: []string{"CAP_SYS_ADMIN"}}
	s.Linux.RootfsPropagation = "rshared"
	s.Mounts = append(s.Mounts, mount("/d", "bind", src, "rbind", "rshared"))
	r, w, _ := os.Pipe()
	defer r.Close()
	c, err := b.create(s, func(o *container.CreateOptions) { o.Stdout = w })
	w.Close()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(context.Background()); err != nil {
		t.Fatal(err)
	}
	b.mountTmpfs(src + "/in")
	os.WriteFile(src+"/in/file", nil, 0o644)
	if out := readAll(r); out != "seen\n" {
		t.Errorf("output %q", out)
	}
	mounts, _ := os.ReadFile("/proc/self/mountinfo")
	if !strings.Contains(string(mounts), src+"/out ") {
		t.Error("the container's mount did not reach the host")
	}
	unix.Unmount(src+"/out", unix.MNT_DETACH)
}

func TestNoPivot(t *testing.T) {
	b := newBed(t)
	c, err := b.create(b.spec("sleep", "100"), func(o *container.CreateOptions) { o.NoPivot = true })
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(context.Background()); err != nil {
		t.Fatal(err)
	}
	r, w, _ := os.Pipe()
	defer r.Close()
	p, err := c.Exec(context.Background(), container.ExecOptions{Stdout: w, Process: &specs.Process{Args: []string{"/bin/ls", "/bin/busybox"}, Cwd: "/"}})
	w.Close()
	if err != nil {
		t.Fatal(err)
	}
	if out := readAll(r); out != "/bin/busybox\n" {
		t.Errorf("output %q", out)
	}
	b.wait(p.PidFD)
}
