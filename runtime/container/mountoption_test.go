package container_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// mountTmpfsWith mounts a tmpfs with flags of mount(2).
func (b *bed) mountTmpfsWith(dir string, flags uintptr) {
	b.t.Helper()
	b.mountTmpfs(dir)
	if err := unix.Mount("", dir, "", unix.MS_REMOUNT|unix.MS_BIND|flags, ""); err != nil {
		b.t.Fatal(err)
	}
}

// options prints the options of the mounts on some paths, as mountinfo has them, with their
// propagation.
func options(paths ...string) string {
	return `awk '$5 ~ "^(` + strings.Join(paths, "|") + `)$" { l = $5 " " $6; for (i = 7; $i != "-"; i++) { sub(":.*", ":N", $i); l = l " " $i }; print l }' /proc/self/mountinfo`
}

func TestMountOptions(t *testing.T) {
	const loose = "nosuid,nodev,noexec"
	for _, c := range []struct {
		name   string
		change func(b *bed, src string, s *specs.Spec)
		script string
		want   string
	}{
		{"a bind without attributes keeps the source's", func(b *bed, src string, s *specs.Spec) {
			b.mountTmpfsWith(src, unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC|unix.MS_NOATIME)
			s.Mounts = append(s.Mounts, mount("/m", "bind", src, "rbind", "rprivate"))
		}, options("/m"), "/m rw," + loose + ",noatime\n"},
		{"a bind with attributes has those alone", func(b *bed, src string, s *specs.Spec) {
			b.mountTmpfsWith(src, unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC|unix.MS_NOATIME)
			s.Mounts = append(s.Mounts, mount("/m", "bind", src, "bind", "ro", "nodev"))
		}, options("/m"), "/m ro,nodev,noatime\n"},
		{"attributes that are locked stay", func(b *bed, src string, s *specs.Spec) {
			b.userns(s)
			s.Mounts = append(s.Mounts, mount("/m", "bind", src, "bind", "ro"))
			b.mountTmpfsWith(src, unix.MS_NOSUID|unix.MS_NODEV)
		}, options("/m") + ` | grep -o "ro,"`, "ro,\n"},
		{"access times", func(b *bed, src string, s *specs.Spec) {
			s.Mounts = append(s.Mounts, mount("/m1", "bind", src, "bind", "noatime", "nodiratime"),
				mount("/m2", "bind", src, "bind", "strictatime"), mount("/m3", "tmpfs", "", "noatime", "relatime"),
				mount("/m4", "tmpfs", "", "strictatime"), mount("/m5", "tmpfs", "", "noatime", "nodiratime", "diratime"))
		}, options("/m."), "/m1 rw,noatime,nodiratime\n/m2 rw\n/m3 rw,relatime\n/m4 rw\n/m5 rw,noatime\n"},
		{"symbolic links are not followed", func(b *bed, src string, s *specs.Spec) {
			os.Symlink("file", src+"/link")
			s.Mounts = append(s.Mounts, mount("/m", "bind", src, "bind", "nosymfollow"))
		}, "cat /m/file; cat /m/link 2>/dev/null || echo refused", "hi\nrefused\n"},
		{"recursive attributes", func(b *bed, src string, s *specs.Spec) {
			b.mountTmpfs(src + "/sub")
			s.Mounts = append(s.Mounts, mount("/m", "bind", src, "rbind", "rro", "rnosuid", "rnodev", "rnoexec", "rnoatime", "rnodiratime", "rnosymfollow"))
		}, options("/m", "/m/sub"), "/m ro," + loose + ",noatime,nodiratime,nosymfollow\n/m/sub ro," + loose + ",noatime,nodiratime,nosymfollow\n"},
		{"recursive attributes taken away", func(b *bed, src string, s *specs.Spec) {
			b.mountTmpfs(src + "/sub")
			unix.Mount("", src+"/sub", "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY|unix.MS_NOSUID|unix.MS_NOATIME, "")
			s.Mounts = append(s.Mounts, mount("/m", "bind", src, "rbind", "ro", "rrw", "rsuid", "rstrictatime"))
		}, options("/m", "/m/sub") + "; touch /m/sub/x && echo written", "/m rw\n/m/sub rw\nwritten\n"},
		{"options of the filesystem", func(b *bed, src string, s *specs.Spec) {
			s.Mounts = append(s.Mounts, mount("/m", "tmpfs", "tmpfs", "sync", "dirsync", "lazytime", "iversion", "silent", "loud", "defaults", "async", "size=64k"))
		}, "grep ' /m ' /proc/self/mounts | grep -oE 'sync|dirsync|lazytime|size=64k'", "sync\ndirsync\nlazytime\nsize=64k\n"},
		{"propagation, one after the other", func(b *bed, src string, s *specs.Spec) {
			b.mountTmpfs(src)
			unix.Mount("", src, "", unix.MS_SHARED, "")
			s.Mounts = append(s.Mounts, mount("/m1", "bind", src, "rbind", "rslave"), mount("/m2", "bind", src, "rbind", "slave", "shared"),
				mount("/m3", "bind", src, "rbind", "rprivate"), mount("/m4", "bind", src, "bind", "unbindable"), mount("/m5", "tmpfs", "", "shared"))
		}, options("/m."), "/m1 rw,relatime master:N\n/m2 rw,relatime shared:N master:N\n/m3 rw,relatime\n/m4 rw,relatime unbindable\n/m5 rw,relatime shared:N\n"},
		{"the mode of a tmpfs is that of what it covers", func(b *bed, src string, s *specs.Spec) {
			os.Mkdir(b.rootfs()+"/old", 0o710)
			os.Chmod(b.rootfs()+"/old", 0o710)
			s.Mounts = append(s.Mounts, mount("/old", "tmpfs", "tmpfs"), mount("/new", "tmpfs", "tmpfs"), mount("/old/said", "tmpfs", "tmpfs", "mode=0701"))
		}, "stat -c %a /old /new /old/said", "710\n1777\n701\n"},
		{"remount of a bind", func(b *bed, src string, s *specs.Spec) {
			s.Mounts = append(s.Mounts, mount("/m", "bind", src, "bind", "nosuid"), mount("/m", "", "", "bind", "remount", "ro", "noexec"))
		}, options("/m"), "/m ro,noexec,relatime\n"},
		{"remount of a filesystem", func(b *bed, src string, s *specs.Spec) {
			s.Mounts = append(s.Mounts, mount("/m", "tmpfs", "tmpfs", "size=64k"), mount("/m", "tmpfs", "tmpfs", "remount", "size=128k", "nodev"))
		}, "grep ' /m ' /proc/self/mounts | grep -oE 'nodev|size=128k'", "nodev\nsize=128k\n"},
		{"bind of type none, of a file, a socket, a device", func(b *bed, src string, s *specs.Spec) {
			fd, _ := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
			defer unix.Close(fd)
			if err := unix.Bind(fd, &unix.SockaddrUnix{Name: src + "/s"}); err != nil {
				b.t.Fatal(err)
			}
			s.Mounts = append(s.Mounts, mount("/n/d/", "none", src+"/", "bind"), mount("/n/f", "", src+"/file", "rbind"),
				mount("/n/s", "bind", src+"/s", "bind"), mount("/n/z", "bind", "/dev/zero", "bind"))
		}, "cat /n/d/file /n/f; test -S /n/s && echo socket; head -c1 /n/z | od -An -tx1", "hi\nhi\nsocket\n 00\n"},
		{"onto a link to a directory and a link into one that is missing", func(b *bed, src string, s *specs.Spec) {
			os.Symlink("/etc", b.rootfs()+"/to-etc")
			os.Symlink("not/yet", b.rootfs()+"/to-missing")
			s.Mounts = append(s.Mounts, mount("/to-etc/x", "bind", src, "bind"), mount("/to-missing", "tmpfs", "tmpfs"))
		}, "cat /etc/x/file; grep -c ' /not/yet ' /proc/mounts", "hi\n1\n"},
		{"procfs options", func(b *bed, src string, s *specs.Spec) {
			s.Mounts[0].Options = append(s.Mounts[0].Options, "hidepid=2", "subset=pid")
			s.Linux.MaskedPaths, s.Linux.ReadonlyPaths = nil, nil
		}, "grep ' /proc ' /proc/self/mounts | grep -oE 'hidepid=[a-z0-9]+|subset=pid'; ls /proc/sys 2>/dev/null || echo none", "hidepid=invisible\nsubset=pid\nnone\n"},
		{"overlay of its own", func(b *bed, src string, s *specs.Spec) {
			for _, d := range []string{"/l", "/u", "/w"} {
				os.Mkdir(src+d, 0o755)
			}
			os.WriteFile(src+"/l/low", []byte("low\n"), 0o644)
			s.Mounts = append(s.Mounts, mount("/m", "overlay", "overlay", "lowerdir="+src+"/l", "upperdir="+src+"/u", "workdir="+src+"/w"))
		}, "cat /m/low; touch /m/x && echo written", "low\nwritten\n"},
		{"cgroup2 by name", func(b *bed, src string, s *specs.Spec) {
			s.Mounts[4] = mount("/sys/fs/cgroup", "cgroup2", "cgroup2", "ro", "nosuid")
		}, "test -e /sys/fs/cgroup/cgroup.procs && echo unified", "unified\n"},
		{"host's sysfs for a user namespace in the host's network", func(b *bed, src string, s *specs.Spec) {
			b.userns(s)
			s.Linux.Namespaces = append(s.Linux.Namespaces[:2:2], s.Linux.Namespaces[3:]...)
		}, "grep -c ' /sys ro,nosuid,nodev,noexec' /proc/self/mountinfo; ls -d /sys/class/net/lo", "1\n/sys/class/net/lo\n"},
		{"idmapped with a user namespace's own ids", func(b *bed, src string, s *specs.Spec) {
			b.userns(s)
			s.Mounts = append(s.Mounts, mount("/m", "bind", src, "bind", "idmap"), mount("/plain", "bind", src, "bind"))
		}, "stat -c %u /m/file /plain/file; touch /m/x && echo written", "0\n65534\nwritten\n"},
		{"idmapped, the mounts below too or not", func(b *bed, src string, s *specs.Spec) {
			below := b.t.TempDir() // a tmpfs has ids since Linux 6.3 only
			os.WriteFile(below+"/f", nil, 0o644)
			os.Mkdir(src+"/sub", 0o755)
			if err := unix.Mount(below, src+"/sub", "", unix.MS_BIND, ""); err != nil {
				b.t.Fatal(err)
			}
			b.t.Cleanup(func() { unix.Unmount(src+"/sub", unix.MNT_DETACH) })
			deep, flat := mount("/deep", "bind", src, "rbind", "ridmap"), mount("/flat", "bind", src, "rbind", "idmap")
			for _, m := range []*specs.Mount{&deep, &flat} {
				m.UIDMappings = []specs.LinuxIDMapping{{ContainerID: 0, HostID: 4000, Size: 10}}
				m.GIDMappings = m.UIDMappings
			}
			s.Mounts = append(s.Mounts, deep, flat)
		}, "stat -c %u /deep/file /deep/sub/f /flat/file /flat/sub/f", "4000\n4000\n4000\n0\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBed(t)
			src := t.TempDir()
			os.Chmod(src, 0o755)
			os.WriteFile(src+"/file", []byte("hi\n"), 0o644)
			s := b.spec("sh", "-c", c.script)
			c.change(b, src, s)
			if out, _ := b.run(s); out != c.want {
				t.Errorf("output\n%s\nwant\n%s", out, c.want)
			}
		})
	}
}

// TestLockedAttributes: what the host forbids on a mount stays forbidden to the root of a
// user namespace, with all of its capabilities.
func TestLockedAttributes(t *testing.T) {
	b := newBed(t)
	src := t.TempDir()
	os.Chmod(src, 0o777)
	os.Chmod(filepath.Dir(src), 0o711) // within reach
	b.mountTmpfs(src)
	os.Chmod(src, 0o777)
	if err := unix.Mount("", src, "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY|unix.MS_NOSUID|unix.MS_NODEV, ""); err != nil {
		t.Fatal(err)
	}
	s := b.spec("sh", "-c", "mount -o remount,bind,rw /m 2>/dev/null && echo remounted; touch /m/x 2>/dev/null && echo written; "+options("/m"))
	caps := append(s.Process.Capabilities.Bounding, "CAP_SYS_ADMIN")
	s.Process.Capabilities = &specs.LinuxCapabilities{Bounding: caps, Effective: caps, Permitted: caps}
	b.userns(s)
	s.Mounts = append(s.Mounts, mount("/m", "bind", src, "bind"))
	if out, _ := b.run(s); out != "/m ro,nosuid,nodev,relatime\n" {
		t.Errorf("output %q", out)
	}
}

// userns gives the container a user namespace that owns its root filesystem.
func (b *bed) userns(s *specs.Spec) {
	b.own(b.rootfs())
	s.Linux.Namespaces = append(s.Linux.Namespaces, specs.LinuxNamespace{Type: specs.UserNamespace})
	s.Linux.UIDMappings, s.Linux.GIDMappings = idMap, idMap
}

func TestRefusedMounts(t *testing.T) {
	for _, c := range []struct {
		name  string
		mount specs.Mount
		want  string
	}{
		{"no source", mount("/m", "bind", "/no/such", "bind"), "mount /m: /no/such: no such file or directory"},
		{"no filesystem", mount("/m", "nofs", ""), "mount nofs on /m: no such device"},
		{"unknown option", mount("/m", "tmpfs", "", "colour=red"), "mount tmpfs on /m: option colour=red: invalid argument"},
		{"option of a filesystem on a bind", mount("/m", "bind", "/etc", "bind", "size=5"), "bind mounts cannot have any filesystem-specific options applied"},
		{"directory over a file", mount("/etc/passwd", "bind", "/etc", "bind"), "bind /etc on /etc/passwd: not a directory"},
		{"filesystem over a file", mount("/etc/passwd", "tmpfs", ""), "mount tmpfs on /etc/passwd: not a directory"},
		{"procfs over a link", mount("/proclink", "proc", ""), "mount proc on /proclink: "},
		{"the root", mount("/etc/..", "tmpfs", ""), "the root filesystem is not for mounts"},
		{"idmap without ids", mount("/m", "bind", "/etc", "bind", "idmap"), "needs a user namespace"},
		{"idmap of a filesystem", mount("/m", "tmpfs", "", "ridmap"), "only supported for bind-mounts"},
		{"copy-up of a bind", mount("/m", "bind", "/etc", "bind", "tmpcopyup"), "tmpcopyup is for tmpfs"},
		{"remount of what is no mount", mount("/etc", "", "", "bind", "remount", "ro"), "remount /etc: invalid argument"},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBed(t)
			os.Symlink("etc", b.rootfs()+"/proclink")
			s := b.spec("true")
			s.Mounts = append(s.Mounts, c.mount)
			if _, err := b.create(s, nil); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want %q", err, c.want)
			}
		})
	}
}

// TestCopyUp: a tmpfs has all that it covers, each with what belongs to it, and nothing of
// what else is mounted there.
func TestCopyUp(t *testing.T) {
	for _, userns := range []bool{false, true} {
		t.Run(map[bool]string{false: "root", true: "user namespace"}[userns], func(t *testing.T) {
			b := newBed(t)
			top := b.rootfs() + "/data"
			for _, d := range []string{"", "/sub", "/sub/deep", "/mounted"} {
				if err := os.Mkdir(top+d, 0o755); err != nil {
					t.Fatal(err)
				}
			}
			os.WriteFile(top+"/file", []byte(strings.Repeat("x", 100_000)), 0o644)
			os.WriteFile(top+"/sub/deep/f", []byte("deep\n"), 0o600)
			os.WriteFile(top+"/suid", []byte("s"), 0o755)
			os.Symlink("/etc/passwd", top+"/link")
			unix.Mkfifo(top+"/fifo", 0o640)
			for i := range 300 { // more than one buffer of names
				os.WriteFile(top+"/sub/"+strings.Repeat("n", 40)+itoa(i), nil, 0o644)
			}
			sparse, _ := os.Create(top + "/sparse")
			sparse.WriteAt([]byte("end"), 64<<20)
			sparse.Close()
			s := b.spec("sh", "-c", `cd /data; stat -c '%n %a %u:%g' .; stat -c '%n %a %u:%g %s' file sub/deep/f suid link fifo sparse; readlink link; cat sub/deep/f
				ls sub | wc -l; du -k sparse | cut -f1; stat -c %Y file; ls mounted; ls -a /none | wc -l; touch new && echo written`)
			if userns {
				b.userns(s)
			}
			base := 0
			if userns {
				base = 100000
			}
			os.Chown(top+"/file", base+5, base+6)
			os.Chown(top+"/suid", base+7, base+7)
			os.Lchown(top+"/link", base+8, base+8)
			os.Chown(top, base+9, base+9)
			os.Chmod(top+"/suid", 0o755|os.ModeSetuid)
			os.Chmod(top, 0o751)
			os.Chmod(top+"/fifo", 0o640)
			var when = unix.NsecToTimeval(1e18)
			unix.Utimes(top+"/file", []unix.Timeval{when, when})
			if err := unix.Setxattr(top+"/file", "user.colour", []byte("red"), 0); err != nil {
				t.Logf("no user attributes: %v", err)
			}
			s.Mounts = append(s.Mounts, mount("/data/mounted", "tmpfs", "tmpfs"), mount("/data", "tmpfs", "tmpfs", "tmpcopyup", "size=1m"),
				mount("/none", "tmpfs", "tmpfs", "tmpcopyup"))
			want := `. 751 9:9
file 644 5:6 100000
sub/deep/f 600 0:0 5
suid 4755 7:7 1
link 777 8:8 11
fifo 640 0:0 0
sparse 644 0:0 67108867
/etc/passwd
deep
301
4
1000000000
2
written
`
			if out, _ := b.run(s); out != want {
				t.Errorf("output\n%s\nwant\n%s", out, want)
			}
		})
	}
}

func TestCopyUpIsBounded(t *testing.T) {
	b := newBed(t)
	os.Mkdir(b.rootfs()+"/data", 0o755)
	os.WriteFile(b.rootfs()+"/data/file", make([]byte, 1<<20), 0o644)
	s := b.spec("true")
	s.Mounts = append(s.Mounts, mount("/data", "tmpfs", "tmpfs", "tmpcopyup", "size=64k"))
	_, err := b.create(s, nil)
	if !errors.Is(err, unix.ENOSPC) || !strings.Contains(err.Error(), "mount tmpfs on /data: copy what lies beneath") {
		t.Errorf("error %v", err)
	}
}

// TestCopyUpKeepsAttributes: extended ones, capabilities among them.
func TestCopyUpKeepsAttributes(t *testing.T) {
	b := newBed(t)
	os.Mkdir(b.rootfs()+"/data", 0o755)
	file := b.rootfs() + "/data/file"
	os.WriteFile(file, []byte("x"), 0o755)
	vfsCap := []byte{1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0} // revision 2, cap_net_raw=ep
	if err := unix.Setxattr(file, "security.capability", vfsCap, 0); err != nil {
		t.Skipf("the filesystem of %s has no capabilities: %v", file, err)
	}
	s := b.spec("sleep", "100")
	s.Mounts = append(s.Mounts, mount("/data", "tmpfs", "tmpfs", "tmpcopyup"))
	c, err := b.create(s, nil)
	if err != nil {
		t.Fatal(err)
	}
	got := make([]byte, 64)
	n, err := unix.Getxattr("/proc/"+itoa(c.Pid())+"/root/data/file", "security.capability", got)
	if err != nil || string(got[:n]) != string(vfsCap) {
		t.Errorf("%v %v", got[:max(n, 0)], err)
	}
}
