package integrationcli

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestPropagation mounts on the host and in the container below a bind, and looks from
// the other side.
func TestPropagation(t *testing.T) {
	e := start(t)
	shared, private := t.TempDir(), t.TempDir()
	for dir, kind := range map[string]uintptr{shared: unix.MS_SHARED, private: unix.MS_PRIVATE} {
		mountTmpfs(t, dir)
		if err := unix.Mount("", dir, "", kind, ""); err != nil {
			t.Fatal(err)
		}
		for _, sub := range []string{"ours", "theirs"} {
			if err := os.Mkdir(filepath.Join(dir, sub), 0o755); err != nil {
				t.Fatal(err)
			}
		}
	}
	e.Must("run", "-d", "--privileged", "--name", "box",
		"-v", shared+":/private", "-v", shared+":/slave:rslave", "-v", shared+":/shared:rshared", image, "sleep", "1000")
	mountTmpfs(t, filepath.Join(shared, "ours"))
	if err := os.WriteFile(filepath.Join(shared, "ours", "mark"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if got := e.Must("exec", "box", "sh", "-c", "ls -d /*/ours/mark"); got != "/shared/ours/mark\n/slave/ours/mark" {
		t.Errorf("a mount of the host's is seen at %q", got)
	}
	e.Must("exec", "box", "sh", "-c", "mount -t tmpfs none /slave/theirs && touch /slave/theirs/slave; mount -t tmpfs none /shared/theirs && touch /shared/theirs/shared")
	there, err := os.ReadDir(filepath.Join(shared, "theirs"))
	if err != nil || len(there) != 1 || there[0].Name() != "shared" {
		t.Errorf("the host sees of the container's mounts: %v %v", there, err)
	}
	e.Must("exec", "box", "umount", "/shared/theirs")
	e.Must("rm", "-f", "box")

	for option, want := range map[string]string{
		"shared":  "path " + private + " is mounted on " + private + " but it is not a shared mount",
		"rslave":  "path " + private + " is mounted on " + private + " but it is not a shared or slave mount",
		"private": "",
	} {
		got := e.Docker("run", "--rm", "-v", private+":/m:"+option, image, "true")
		if (got.Code == 0) != (want == "") || !strings.Contains(got.Stderr, want) {
			t.Errorf("%s: %+v", option, got)
		}
	}
	e.Must("run", "--name", "root", "-v", "/:/host:ro", image, "ls", "-d", "/host/etc")
	if got := e.Must("inspect", "-f", "{{(index .Mounts 0).Propagation}}", "root"); got != "rslave" {
		t.Errorf("the host's root is bound %s", got)
	}
	e.Clean(t)
}
