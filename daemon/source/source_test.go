package source_test

import (
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"

	"gantry/api/errdefs"
	"gantry/daemon/source"
	"gantry/internal/testutil/need"
	"gantry/libctr/core/mount"
)

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func write(t testing.TB, dir, name, body string) {
	t.Helper()
	path := filepath.Join(dir, name)
	check(t, os.MkdirAll(filepath.Dir(path), 0o755))
	check(t, os.WriteFile(path, []byte(body), 0o755))
}

// store returns a store of which nothing may be left.
func store(t *testing.T) *source.Store {
	t.Helper()
	need.Root(t, "mounts")
	root := filepath.Join(t.TempDir(), "sources")
	s := source.New(root)
	t.Cleanup(func() {
		if left, err := os.ReadDir(root); err == nil && len(left) > 0 {
			t.Errorf("left: %v", left)
		}
		check(t, s.Clear())
	})
	return s
}

func TestPart(t *testing.T) {
	s, base := store(t), t.TempDir()
	write(t, base, "dir/sub/f", "in sub")
	write(t, base, "file", "a file")
	for to, from := range map[string]string{
		"dir/sub": "inside", "../../../../../../etc": "out", "/etc": "absolute", "none": "dangling", "loop": "loop",
	} {
		check(t, os.Symlink(to, filepath.Join(base, from)))
	}
	for _, tc := range []struct {
		path, file, want string
		text             string
		is               func(error) bool
	}{
		{path: "dir/sub", file: "f", want: "in sub"},
		{path: "./dir/../dir/sub/", file: "f", want: "in sub"},
		{path: "inside", file: "f", want: "in sub"},
		{path: "file", want: "a file"},
		{path: "out", text: "path concatenation escapes the base directory, base: " + base + ", subpath: out", is: errdefs.IsInvalidArgument},
		{path: "absolute/ssl", text: "path concatenation escapes the base directory, base: " + base + ", subpath: absolute/ssl", is: errdefs.IsInvalidArgument},
		{path: "none", text: "cannot access path " + base + "/none: lstat " + base + "/none: no such file or directory", is: errdefs.IsNotFound},
		{path: "dangling", text: "cannot access path " + base + "/dangling: lstat " + base + "/dangling: no such file or directory", is: errdefs.IsNotFound},
		{path: "loop", text: `error while resolving symlinks in combined path "` + base + `/loop": too many levels of symbolic links`},
	} {
		src, err := s.Part(base, tc.path)
		if tc.text != "" {
			if err == nil || err.Error() != tc.text || tc.is != nil && !tc.is(err) {
				t.Errorf("%s: %v, want %s", tc.path, err, tc.text)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", tc.path, err)
			continue
		}
		if got, err := os.ReadFile(filepath.Join(src.Path, tc.file)); err != nil || string(got) != tc.want {
			t.Errorf("%s holds %q (%v)", tc.path, got, err)
		}
		check(t, src.Close())
	}
}

// TestPartRace swaps a directory for a link to the outside while it is opened.
func TestPartRace(t *testing.T) {
	s, base, outside := store(t), t.TempDir(), t.TempDir()
	write(t, base, "d/mark", "inside")
	write(t, outside, "mark", "outside")
	check(t, os.Symlink(outside, filepath.Join(base, "link")))
	var stop atomic.Bool
	done := make(chan struct{})
	go func() {
		defer close(done)
		for !stop.Load() {
			unix.Renameat2(unix.AT_FDCWD, base+"/d", unix.AT_FDCWD, base+"/link", unix.RENAME_EXCHANGE) //nolint:errcheck // it may lose
		}
	}()
	opened := 0
	for range 300 {
		src, err := s.Part(base, "d")
		if err != nil {
			continue
		}
		opened++
		if got, err := os.ReadFile(filepath.Join(src.Path, "mark")); err != nil || string(got) != "inside" {
			t.Errorf("opened %q (%v)", got, err)
		}
		check(t, src.Close())
	}
	stop.Store(true)
	<-done
	t.Logf("opened %d of 300 times", opened)
}

func TestImage(t *testing.T) {
	s, lower, upper := store(t), t.TempDir(), t.TempDir()
	write(t, lower, "bin/run", "#!/bin/sh\necho ran\n")
	write(t, upper, "top", "top")
	check(t, os.Symlink("/bin", filepath.Join(upper, "out")))
	two := []mount.Mount{{Type: "overlay", Source: "overlay", Options: []string{"lowerdir=" + upper + ":" + lower}}}
	one := []mount.Mount{{Type: "bind", Source: lower, Options: []string{"ro", "rbind"}}}
	for _, tc := range []struct {
		name   string
		mounts []mount.Mount
		path   string
		file   string
	}{
		{"whole", two, "", "bin/run"}, {"part", two, "bin", "run"}, {"file", two, "bin/run", ""},
		{"one layer", one, "", "bin/run"}, {"part of one layer", one, "bin", "run"},
	} {
		src, err := s.Image(tc.mounts, "app", tc.path)
		if err != nil {
			t.Errorf("%s: %v", tc.name, err)
			continue
		}
		file := filepath.Join(src.Path, tc.file)
		if got, err := os.ReadFile(file); err != nil || !strings.Contains(string(got), "ran") {
			t.Errorf("%s: %q (%v)", tc.name, got, err)
		}
		var st unix.Statfs_t
		check(t, unix.Statfs(file, &st))
		if st.Flags&unix.ST_RDONLY == 0 || st.Flags&unix.ST_NOEXEC != 0 {
			t.Errorf("%s: flags %#x", tc.name, st.Flags)
		}
		check(t, src.Close())
	}
	if _, err := s.Image(two, "app", "out"); !errdefs.IsInvalidArgument(err) {
		t.Errorf("a link out of the image: %v", err)
	}
	if _, err := s.Image(two, "app", "none"); err == nil || err.Error() != "cannot access path app/none: lstat app/none: no such file or directory" {
		t.Errorf("nothing there: %v", err)
	}
}

// TestClear: what a daemon that died had mounted goes, and what it was made of stays.
func TestClear(t *testing.T) {
	s, base := store(t), t.TempDir()
	write(t, base, "d/f", "kept")
	for range 3 {
		_, err := s.Part(base, "d")
		check(t, err)
	}
	check(t, s.Clear())
	if _, err := os.Stat(base + "/d/f"); err != nil {
		t.Error(err)
	}
}
