package container_test

import (
	"os"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

func TestDevices(t *testing.T) {
	mode, id := os.FileMode(0o640), uint32(7)
	b := newBed(t)
	s := b.spec("sh", "-c", `stat -c '%n %F %t:%T %a %u:%g' /dev/null /dev/full /dev/tty /dev/fuse /dev/loop /srv/pipe /dev/raw /tmp/dev/zero; ls -l /dev | grep -o '[a-z]* -> .*'; head -c1 /dev/zero | od -An -tx1`)
	s.Linux.Devices = []specs.LinuxDevice{
		{Path: "/dev/fuse", Type: "c", Major: 10, Minor: 229, FileMode: &mode, UID: &id, GID: &id},
		{Path: "/dev/loop", Type: "b", Major: 7, Minor: 300},
		{Path: "/srv/pipe", Type: "p", FileMode: &mode},
		{Path: "/dev/raw", Type: "u", Major: 1, Minor: 3},
		{Path: "/dev/ptmx", Type: "c", Major: 5, Minor: 2},
		{Path: "/tmp/dev/zero", Type: "c", Major: 1, Minor: 5},
		{Path: "/tmp/dev/zero", Type: "c", Major: 1, Minor: 5}, // there already, and the same
	}
	s.Linux.Resources = &specs.LinuxResources{Devices: []specs.LinuxDeviceCgroup{{Allow: true, Access: "rwm"}}}
	want := `/dev/null character special file 1:3 666 0:0
/dev/full character special file 1:7 666 0:0
/dev/tty character special file 5:0 666 0:0
/dev/fuse character special file a:e5 640 7:7
/dev/loop block special file 7:12c 666 0:0
/srv/pipe fifo 0:0 640 0:0
/dev/raw character special file 1:3 666 0:0
/tmp/dev/zero character special file 1:5 666 0:0
core -> /proc/kcore
fd -> /proc/self/fd
ptmx -> pts/ptmx
stderr -> /proc/self/fd/2
stdin -> /proc/self/fd/0
stdout -> /proc/self/fd/1
 00
`
	if out, _ := b.run(s); out != want {
		t.Errorf("output\n%s\nwant\n%s", out, want)
	}
}

// TestDevicesInUserNamespace: the host's are shown, of pipes new ones are made.
func TestDevicesInUserNamespace(t *testing.T) {
	b := newBed(t)
	s := b.spec("sh", "-c", "stat -c '%n %F %t:%T' /dev/null /dev/zero /dev/pipe; echo x >/dev/null && grep -c ' /dev/zero ' /proc/mounts; readlink /dev/ptmx")
	b.userns(s)
	s.Linux.Devices = []specs.LinuxDevice{{Path: "/dev/pipe", Type: "p"}, {Path: "/dev/zero", Type: "c", Major: 1, Minor: 5}}
	if out, _ := b.run(s); out != "/dev/null character special file 1:3\n/dev/zero character special file 1:5\n/dev/pipe fifo 0:0\n1\npts/ptmx\n" {
		t.Errorf("output %q", out)
	}
}

func TestOtherFileInADevicesPlace(t *testing.T) {
	for name, device := range map[string]specs.LinuxDevice{
		"a file":          {Path: "/etc/passwd", Type: "c", Major: 1, Minor: 3},
		"another device":  {Path: "/dev/null", Type: "c", Major: 1, Minor: 5},
		"another kind":    {Path: "/dev/null", Type: "b", Major: 1, Minor: 3},
		"a symbolic link": {Path: "/link", Type: "c", Major: 1, Minor: 3},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBed(t)
			os.Symlink("/dev/null", b.rootfs()+"/link")
			s := b.spec("true")
			s.Mounts[1] = mount("/dev", "tmpfs", "tmpfs", "mode=755")
			s.Linux.Devices = []specs.LinuxDevice{{Path: "/dev/null", Type: "c", Major: 1, Minor: 3}, device}
			if _, err := b.create(s, nil); err == nil || !strings.Contains(err.Error(), "make device "+device.Path+": file exists") {
				t.Errorf("error %v", err)
			}
		})
	}
}

func TestMaskedAndReadonlyPaths(t *testing.T) {
	b := newBed(t)
	top := b.rootfs()
	os.MkdirAll(top+"/hide/dir", 0o755)
	os.WriteFile(top+"/hide/dir/file", []byte("secret\n"), 0o644)
	os.WriteFile(top+"/hide/file", []byte("secret\n"), 0o644)
	unix.Mkfifo(top+"/hide/pipe", 0o644)
	os.MkdirAll(top+"/keep/dir", 0o755)
	os.WriteFile(top+"/keep/file", []byte("text\n"), 0o644)
	s := b.spec("sh", "-c", `cat /hide/file; ls -A /hide/dir | wc -l; touch /hide/dir/x 2>&1; test -c /hide/pipe && echo null; test -c /hide/file && echo null
		echo x 2>/dev/null >/keep/file || echo read-only; touch /keep/dir/x 2>&1; cat /keep/file; touch /keep/x && echo beside; ls /keep/dir/shm`)
	s.Mounts = append(s.Mounts, mount("/keep/dir/shm", "tmpfs", "tmpfs", "nosuid"))
	s.Linux.MaskedPaths = []string{"/hide/file", "/hide/dir", "/hide/pipe", "/no/such", "/hide/none"}
	s.Linux.ReadonlyPaths = []string{"/keep/file", "/keep/dir", "/no/such"}
	want := `0
touch: /hide/dir/x: Read-only file system
null
null
read-only
touch: /keep/dir/x: Read-only file system
text
beside
`
	if out, _ := b.run(s); out != want {
		t.Errorf("output\n%s\nwant\n%s", out, want)
	}
}
