package archive

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// TestOpenAt: what a race must hit to be seen from outside.
func TestOpenAt(t *testing.T) {
	dir, out := t.TempDir(), t.TempDir()
	if err := os.WriteFile(filepath.Join(out, "file"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	for name, to := range map[string]string{"dir": out, "file": filepath.Join(out, "file"), "new": filepath.Join(out, "new")} {
		if err := os.Symlink(to, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	d, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	for name, flags := range map[string]int{"dir": unix.O_RDONLY | unix.O_DIRECTORY, "file": unix.O_RDONLY, "new": unix.O_WRONLY | unix.O_CREAT} {
		if f, err := openAt(d, name, flags); !errors.Is(err, unix.ELOOP) && !errors.Is(err, unix.ENOTDIR) {
			t.Errorf("%s: %v, %v", name, f, err)
		}
	}
	if left, _ := os.ReadDir(out); len(left) != 1 {
		t.Errorf("made outside: %v", left)
	}
}
