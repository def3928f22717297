package archive_test

import (
	"archive/tar"
	"bytes"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"gantry/daemon/archive"
)

const secret = "the host's own"

// swapped runs a process that exchanges what is at d/x, a directory, with a link that
// leads out of the root, as fast as it can, until the test ends. out is where it leads.
func swapped(t *testing.T) (root, out string) {
	t.Helper()
	base := t.TempDir()
	root, out = filepath.Join(base, "root"), filepath.Join(base, "out")
	write(t, out, "file", secret)
	write(t, root, "d/x/file", "inside")
	write(t, root, "d/x/sub/file", "inside")
	// Two steps up from the root, and the same as an absolute path.
	check(t, os.Symlink("../../out", filepath.Join(root, "d/other")))
	check(t, os.Symlink(out, filepath.Join(root, "d/x/abs")))
	done, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		a, b := filepath.Join(root, "d/x"), filepath.Join(root, "d/other")
		for {
			select {
			case <-done:
				return
			default:
				unix.Renameat2(unix.AT_FDCWD, a, unix.AT_FDCWD, b, unix.RENAME_EXCHANGE) //nolint:errcheck // may be removed
			}
		}
	}()
	t.Cleanup(func() { close(done); <-ended })
	return root, out
}

func rounds(small int) int {
	if os.Getenv("GANTRY_SOAK") == "1" {
		return 10000
	}
	return small
}

// TestPackRace reads while directories become links and back.
func TestPackRace(t *testing.T) {
	dir, _ := swapped(t)
	r := tree(t, dir)
	seen := map[byte]bool{}
	for range rounds(100) {
		for _, name := range []string{"/d", "/d/x/.", "/d/x/file"} {
			var buf bytes.Buffer
			err := archive.Pack(t.Context(), &buf, r, name)
			if strings.Contains(buf.String(), secret) {
				t.Fatalf("%s: the archive holds what is outside", name)
			}
			if err == nil && name == "/d" {
				for tr := tar.NewReader(&buf); ; {
					h, err := tr.Next()
					if err == io.EOF {
						break
					}
					check(t, err)
					if h.Name == "d/x" || h.Name == "d/x/" {
						seen[h.Typeflag] = true
					}
				}
			}
		}
	}
	if !seen[tar.TypeDir] || !seen[tar.TypeSymlink] {
		t.Logf("saw only one state: %v", seen)
	}
}

// TestUnpackRace writes while directories become links and back.
func TestUnpackRace(t *testing.T) {
	dir, out := swapped(t)
	r := tree(t, dir)
	in := made(t,
		tar.Header{Name: "x/file"}, tar.Header{Name: "x/sub", Typeflag: tar.TypeDir}, tar.Header{Name: "x/sub/new"},
		tar.Header{Name: "x/abs/new"}, tar.Header{Name: "other/file"}, tar.Header{Name: "other/sub"},
		tar.Header{Name: "x/fifo", Typeflag: tar.TypeFifo}, tar.Header{Name: "x/l", Typeflag: tar.TypeSymlink, Linkname: "file"},
		tar.Header{Name: "x/hard", Typeflag: tar.TypeLink, Linkname: "x/file"}, tar.Header{Name: "x/sub"})
	for range rounds(100) {
		_ = unpack(t, in, archive.Target{Root: r, Dir: "/d"}) // most fail, some on the way
		if dir, err := r.Resolve("/d/x"); err == nil {
			_ = unpack(t, in, archive.Target{Root: r, Dir: dir})
		}
		left, err := os.ReadDir(out)
		check(t, err)
		got, err := os.ReadFile(filepath.Join(out, "file"))
		if err != nil || string(got) != secret || len(left) != 1 {
			t.Fatalf("touched outside: %q, %v, %v", got, left, err)
		}
	}
}
