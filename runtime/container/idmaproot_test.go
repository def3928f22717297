package container_test

import (
	"context"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"

	"gantry/runtime/container"
)

// TestIDMappedRoot: layers that have the ids of the inside are the container's own, whoever
// else has them too, and what it changes has the host's.
func TestIDMappedRoot(t *testing.T) {
	for _, c := range []struct {
		name      string
		n, length int
	}{{"one layer", 1, 1}, {"many layers", 60, 3}, {"layers of long names", 5, 250}} {
		t.Run(c.name, func(t *testing.T) {
			b := newBed(t)
			m := b.overlay(c.n, c.length)
			dirs := map[string]string{}
			for _, o := range m.Options {
				k, v, _ := strings.Cut(o, "=")
				dirs[k] = v
			}
			lowers := strings.Split(dirs["lowerdir"], ":")
			lower := lowers[len(lowers)-1]
			os.WriteFile(lower+"/theirs", []byte("x"), 0o644)
			os.Chown(lower+"/theirs", 5, 6)
			os.WriteFile(lower+"/removed", nil, 0o644)
			b.own(dirs["upperdir"])
			m.Options = append(m.Options, "uidmap=0:100000:65536", "gidmap=0:100000:65536")
			s := b.spec("sh", "-c", "cd /; stat -c %u:%g theirs bin; echo y >>theirs; stat -c %u:%g theirs; touch new; stat -c %u:%g new; chown 7:8 new; rm removed; mkdir d; ls | grep -c layer")
			s.Root.Path = b.bundle + "/rootfs-mountpoint"
			os.Mkdir(s.Root.Path, 0o755)
			s.Linux.Namespaces = append(s.Linux.Namespaces, specs.LinuxNamespace{Type: specs.UserNamespace})
			s.Linux.UIDMappings, s.Linux.GIDMappings = idMap, idMap
			r, w, _ := os.Pipe()
			defer r.Close()
			ct, err := b.create(s, func(o *container.CreateOptions) { o.Rootfs = []container.Mount{m}; o.Stdout, o.Stderr = w, w })
			w.Close()
			if err != nil {
				t.Fatal(err)
			}
			if err := ct.Start(context.Background()); err != nil {
				t.Fatal(err)
			}
			want := fmt.Sprintf("5:6\n0:0\n5:6\n0:0\n%d\n", c.n-1)
			if out := readAll(r); out != want {
				t.Errorf("output %q, want %q", out, want)
			}
			for path, want := range map[string]string{
				lower + "/theirs": "5:6", lower + "/removed": "0:0",
				dirs["upperdir"] + "/theirs": "100005:100006", dirs["upperdir"] + "/new": "100007:100008",
				dirs["upperdir"] + "/d": "100000:100000",
			} {
				if got := ownerOf(t, path); got != want {
					t.Errorf("%s belongs to %s, want %s", path, got, want)
				}
			}
			if raw, _ := os.ReadFile("/proc/self/mountinfo"); strings.Contains(string(raw), lower) {
				t.Error("a layer is mounted on the host")
			}
		})
	}
}

func ownerOf(t *testing.T, path string) string {
	t.Helper()
	fi, err := os.Lstat(path)
	if err != nil {
		t.Fatal(err)
	}
	st := fi.Sys().(*syscall.Stat_t)
	return fmt.Sprintf("%d:%d", st.Uid, st.Gid)
}
