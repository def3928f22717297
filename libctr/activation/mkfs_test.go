package activation

import (
	"bytes"
	"os"
	"path/filepath"
	"sync"
	"testing"
)

// TestTogether makes the same file system twice at a time: both find it whole.
func TestTogether(t *testing.T) {
	dir := t.TempDir()
	program := "#!/bin/sh\necho >>" + dir + "/runs\nsleep 0.2\nprintf whole 1<>/proc/self/fd/3\n"
	if err := os.WriteFile(filepath.Join(dir, "mkfs.ext4"), []byte(program), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	m, err := New(Config{Dir: filepath.Join(dir, "t"), Roots: []string{dir}})
	if err != nil {
		t.Fatal(err)
	}
	image := filepath.Join(dir, "image")
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			if err := m.makeFilesystem(t.Context(), image, filesystem{kind: "ext4", size: 1 << 20}); err != nil {
				t.Error(err)
			}
			if got, err := os.ReadFile(image); err != nil || !bytes.HasPrefix(got, []byte("whole")) || len(got) != 1<<20 {
				t.Errorf("%d bytes that begin with %q, %v", len(got), got[:min(len(got), 5)], err)
			}
		})
	}
	wg.Wait()
	if runs, err := os.ReadFile(filepath.Join(dir, "runs")); err != nil || len(runs) != 1 {
		t.Errorf("it was made %d times, %v", len(runs), err)
	}
	if left, _ := filepath.Glob(image + ".*"); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}
