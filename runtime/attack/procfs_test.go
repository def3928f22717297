package attack_test

import (
	"os"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// TestLinkedProcfs is CVE-2019-19921, CVE-2023-27561 and, for /sys, CVE-2023-28642: an
// image with a symbolic link for /proc had procfs mounted where the link led, into a
// volume, so that what is to be masked there was not, and labels went into files of the
// image's own.
func TestLinkedProcfs(t *testing.T) {
	for _, dir := range []string{"proc", "sys"} {
		for _, target := range []string{"/volume/evil", "volume/evil", "volume"} {
			t.Run(dir+" to "+target, func(t *testing.T) {
				g := newGround(t)
				volume := g.dir + "/volume"
				os.MkdirAll(volume+"/evil", 0o755)
				b := g.box("box", "sh", "-c", "echo alive")
				b.spec.Mounts = append([]specs.Mount{mount("/volume", "bind", volume, "rbind")}, b.spec.Mounts...)
				if out := b.mustRun(); out != "alive\n" { // the control: without the link it runs
					t.Fatalf("%q", out)
				}
				os.Remove(b.rootfs() + "/" + dir)
				if err := os.Symlink(target, b.rootfs()+"/"+dir); err != nil {
					t.Fatal(err)
				}
				if out, err := b.run(); err == nil || strings.Contains(out, "alive") {
					t.Errorf("runs: %s", out)
				}
			})
		}
	}
}

// TestVolumeOnProcfs is CVE-2019-16884: a volume over /proc let the runtime write labels
// to the volume's files.
func TestVolumeOnProcfs(t *testing.T) {
	for _, dest := range []string{"/proc", "/proc/", "/a/../proc", "/proc/self/attr", "/proc/self/attr/exec", "/proc/sys/kernel", "/proc/thread-self"} {
		for _, kind := range []string{"bind", "tmpfs"} {
			t.Run(kind+" on "+dest, func(t *testing.T) {
				g := newGround(t)
				b := g.box("box", "sh", "-c", "echo alive")
				volume := g.dir + "/volume"
				os.MkdirAll(volume+"/self/attr", 0o755)
				b.spec.Mounts = append(b.spec.Mounts, mount(dest, kind, volume, "rbind"))
				if kind == "tmpfs" {
					b.spec.Mounts[len(b.spec.Mounts)-1].Options = nil
				}
				if out, err := b.run(); err == nil || !strings.Contains(out, "proc") {
					t.Errorf("runs: %s%v", out, err)
				}
			})
		}
	}
}

// TestSysctls is CVE-2025-52881: what the runtime wrote to /proc went elsewhere, since
// another container that shared a mount had put a tmpfs or a link into the way. The image
// here has a /proc of plain files and links to the host's.
func TestSysctls(t *testing.T) {
	g := newGround(t)
	b := g.box("box", "sh", "-c", "cat /proc/sys/kernel/shmmax /proc/self/oom_score_adj")
	canary := g.dir + "/canary"
	os.WriteFile(canary, []byte("canary"), 0o666)
	for _, fake := range []string{"sys/kernel/shmmax", "self/oom_score_adj", "self/attr/exec", "thread-self/attr/exec", "self/timens_offsets"} {
		at := b.rootfs() + "/proc/" + fake
		os.MkdirAll(at[:strings.LastIndex(at, "/")], 0o777)
		if err := os.Symlink(canary, at); err != nil {
			t.Fatal(err)
		}
	}
	adj := 777
	b.spec.Linux.Sysctl = map[string]string{"kernel.shmmax": "123456"}
	b.spec.Process.OOMScoreAdj = &adj
	if out := b.mustRun(); out != "123456\n777\n" {
		t.Errorf("%q", out)
	}
	if got, _ := os.ReadFile(canary); string(got) != "canary" {
		t.Errorf("wrote %q", got)
	}
}

// TestMask is CVE-2025-31133: what masks a file was the container's /dev/null, which may
// be a link to a file that then lay open and writable at two places, or be nothing at all.
func TestMask(t *testing.T) {
	for name, null := range map[string]func(path string) error{
		"link to procfs":  func(p string) error { return os.Symlink("/proc/sys/kernel/core_pattern", p) },
		"link to nothing": func(p string) error { return os.Symlink("/nowhere", p) },
		"file":            func(p string) error { return os.WriteFile(p, []byte("evil"), 0o666) },
		"directory":       func(p string) error { return os.Mkdir(p, 0o755) },
	} {
		t.Run(name, func(t *testing.T) {
			g := newGround(t)
			b := g.box("box", "sh", "-c", "stat -c %F,%t:%T /proc/keys /proc/timer_list; cat /proc/keys; ls /sys/firmware | wc -l")
			var mounts []specs.Mount
			for _, m := range b.spec.Mounts { // the image's own /dev
				if !strings.HasPrefix(m.Destination, "/dev") {
					mounts = append(mounts, m)
				}
			}
			b.spec.Mounts = mounts
			b.spec.Linux.MaskedPaths = append(b.spec.Linux.MaskedPaths, "/proc/timer_list")
			if err := null(b.rootfs() + "/dev/null"); err != nil {
				t.Fatal(err)
			}
			const masked = "character special file,1:3\ncharacter special file,1:3\n0\n"
			if out, err := b.run(); err == nil && out != masked {
				t.Errorf("%q", out)
			}
		})
	}
}

// TestMaskWorks: what is not masked is seen as such.
func TestMaskWorks(t *testing.T) {
	g := newGround(t)
	b := g.box("box", "stat", "-c", "%F", "/proc/keys")
	b.spec.Linux.MaskedPaths = nil
	if out := b.mustRun(); out != "regular empty file\n" {
		t.Errorf("%q", out)
	}
}
