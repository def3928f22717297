package rootfs

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"gantry/internal/testutil/need"
	"gantry/libctr/core/mount"
)

// mappedOverlay has lower layers with ids of the inside, and an upper directory with the
// host's.
func mappedOverlay(t *testing.T, lowers int) (m []mount.Mount, lower, upper string) {
	t.Helper()
	dir := t.TempDir()
	var dirs []string
	for i := range lowers {
		d := fmt.Sprintf("%s/%0120d", dir, i)
		if err := os.MkdirAll(d+"/etc", 0o755); err != nil {
			t.Fatal(err)
		}
		dirs = append(dirs, d)
	}
	lower, upper = dirs[len(dirs)-1], dir+"/upper"
	os.WriteFile(lower+"/etc/passwd", []byte("ann:x:7:8::/home/ann:/bin/sh\n"), 0o644)
	os.WriteFile(lower+"/five", nil, 0o644)
	os.Chown(lower+"/five", 5, 6)
	for _, d := range []string{upper, dir + "/work"} {
		os.Mkdir(d, 0o755)
	}
	os.Chown(upper, 100000, 200000)
	os.WriteFile(upper+"/own", nil, 0o644)
	os.Chown(upper+"/own", 100009, 200009)
	return []mount.Mount{{Type: "overlay", Source: "overlay", Options: []string{
		"index=off", "uidmap=0:100000:65536", "gidmap=0:200000:65536",
		"upperdir=" + upper, "workdir=" + dir + "/work", "lowerdir=" + strings.Join(dirs, ":"),
	}}}, lower, upper
}

func wantOwner(t *testing.T, fd int, path, want string) {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Fstatat(fd, path, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		t.Errorf("%s: %v", path, err)
	} else if got := fmt.Sprintf("%d:%d", st.Uid, st.Gid); got != want {
		t.Errorf("%s belongs to %s, want %s", path, got, want)
	}
}

func TestMappedRoot(t *testing.T) {
	need.Root(t, "mounts overlays")
	for _, lowers := range []int{1, 20} {
		m, lower, upper := mappedOverlay(t, lowers)
		t.Run(fmt.Sprint(lowers), func(t *testing.T) {
			r, err := Open(m)
			if err != nil {
				t.Fatal(err)
			}
			wantOwner(t, r.FD(), "five", "100005:200006")
			wantOwner(t, r.FD(), "own", "100009:200009")
			r.Close()

			r, err = OpenWritable(m)
			if err != nil {
				t.Fatal(err)
			}
			if uid, gid := r.IDs().RootPair(); uid != 100000 || gid != 200000 {
				t.Errorf("root is %d:%d", uid, gid)
			}
			made, err := r.MkdirAll("/etc/a/b", 0o755)
			if err != nil {
				t.Fatal(err)
			}
			made.Close()
			r.Close()
			for path, want := range map[string]string{
				upper + "/etc": "100000:200000", upper + "/etc/a/b": "100000:200000", lower + "/five": "5:6",
			} {
				wantOwner(t, unix.AT_FDCWD, path, want)
			}
			if u, home, err := LookupUser(m, "ann", nil); err != nil || u.UID != 7 || home != "/home/ann" {
				t.Errorf("%v %q %v", u, home, err)
			}
			if raw, _ := os.ReadFile("/proc/self/mountinfo"); strings.Contains(string(raw), filepath.Dir(lower)) {
				t.Error("a layer is mounted on the host")
			}
		})
	}
}

func TestMappedBind(t *testing.T) {
	need.Root(t, "maps ids of a mount")
	dir := t.TempDir()
	os.WriteFile(dir+"/five", nil, 0o644)
	os.Chown(dir+"/five", 5, 6)
	r, err := Open([]mount.Mount{{Type: "bind", Source: dir, Options: []string{"rw", "rbind", "uidmap=0:100000:65536", "gidmap=0:200000:65536"}}})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	wantOwner(t, r.FD(), "five", "100005:200006")
}
