package mount

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"gantry/libctr/core/mount"
)

func TestParse(t *testing.T) {
	for _, tc := range []struct {
		options []string
		want    options
	}{
		{nil, options{}},
		{[]string{"rbind", "ro"}, options{flags: unix.MS_BIND | unix.MS_REC | unix.MS_RDONLY}},
		{[]string{"ro", "rw"}, options{}},
		{[]string{"nosuid", "noexec", "mode=755", "size=1k"}, options{
			flags: unix.MS_NOSUID | unix.MS_NOEXEC, data: []string{"mode=755", "size=1k"}}},
		{[]string{"bind", "rslave", "", "defaults"}, options{flags: unix.MS_BIND, propagation: unix.MS_SLAVE | unix.MS_REC}},
		{[]string{"index=off", "lowerdir=/a:/b"}, options{data: []string{"index=off", "lowerdir=/a:/b"}}},
	} {
		if got := parse(tc.options); !reflect.DeepEqual(got, tc.want) {
			t.Errorf("%v: %+v, want %+v", tc.options, got, tc.want)
		}
	}
}

func TestShorten(t *testing.T) {
	for _, tc := range []struct{ data, base, short string }{
		{"lowerdir=/r/s/2/fs:/r/s/1/fs,upperdir=/r/s/3/fs", "/r/s", "lowerdir=2/fs:1/fs,upperdir=/r/s/3/fs"},
		{"index=off,lowerdir=/r/s/2/fs", "/r/s/2", "index=off,lowerdir=fs"},
		{"lowerdir=/r/ab/x:/r/a/x", "/r", "lowerdir=ab/x:a/x"},
		{"lowerdir=/a/x:/b/y", "", ""},
		{"index=off", "", ""},
	} {
		base, short := shorten(strings.Split(tc.data, ","))
		if base != tc.base || short != tc.short {
			t.Errorf("%s: %q and %q, want %q and %q", tc.data, base, short, tc.base, tc.short)
		}
	}
}

func TestReadOnly(t *testing.T) {
	for _, tc := range []struct{ in, want []mount.Mount }{
		{nil, nil},
		{
			[]mount.Mount{{Type: "bind", Source: "/x", Options: []string{"rw", "rbind"}}},
			[]mount.Mount{{Type: "bind", Source: "/x", Options: []string{"rbind", "ro"}}},
		},
		{
			[]mount.Mount{{Type: "overlay", Options: []string{"index=off", "workdir=/w", "upperdir=/u", "lowerdir=/b:/a"}}},
			[]mount.Mount{{Type: "overlay", Options: []string{"index=off", "lowerdir=/u:/b:/a", "ro"}}},
		},
		{
			[]mount.Mount{{Type: "overlay", Options: []string{"lowerdir=/b:/a"}}},
			[]mount.Mount{{Type: "overlay", Options: []string{"lowerdir=/b:/a", "ro"}}},
		},
	} {
		before := fmt.Sprint(tc.in)
		if got := ReadOnly(tc.in); fmt.Sprint(got) != fmt.Sprint(tc.want) {
			t.Errorf("%v: %v, want %v", tc.in, got, tc.want)
		}
		if fmt.Sprint(tc.in) != before {
			t.Errorf("changed its input to %v", tc.in)
		}
	}
}

func needRoot(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: mounts")
	}
}

func TestAllUndoesWhatItDid(t *testing.T) {
	needRoot(t)
	dir := t.TempDir()
	err := All([]mount.Mount{
		{Type: "tmpfs", Source: "tmpfs"},
		{Type: "nosuchfs", Source: "x"},
	}, dir)
	if !errors.Is(err, unix.ENODEV) {
		t.Errorf("mount: %v", err)
	}
	if mounted(t, dir) {
		t.Error("the first mount is left")
	}
}

func TestTargetStaysBelow(t *testing.T) {
	needRoot(t)
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "root/in"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/in", filepath.Join(dir, "root/link")); err != nil {
		t.Fatal(err)
	}
	root := filepath.Join(dir, "root")
	err := All([]mount.Mount{
		{Type: "bind", Source: root, Options: []string{"rbind", "rw"}},
		{Type: "tmpfs", Source: "tmpfs", Target: "../../link"},
	}, root)
	if err != nil {
		t.Fatal(err)
	}
	defer Unmount(root) //nolint:errcheck // the test ends
	if !mounted(t, filepath.Join(root, "in")) {
		t.Error("the target was not resolved below the root")
	}
}

func TestReadOnlyBind(t *testing.T) {
	needRoot(t)
	src, dir := t.TempDir(), t.TempDir()
	if err := All([]mount.Mount{{Type: "bind", Source: src, Options: []string{"rbind", "ro", "nosuid"}}}, dir); err != nil {
		t.Fatal(err)
	}
	defer Unmount(dir) //nolint:errcheck // the test ends
	if err := os.WriteFile(filepath.Join(dir, "x"), nil, 0o644); !errors.Is(err, unix.EROFS) {
		t.Errorf("write: %v", err)
	}
	if err := os.WriteFile(filepath.Join(src, "x"), nil, 0o644); err != nil {
		t.Errorf("the source is read-only too: %v", err)
	}
}

func TestWithTempLeavesNothing(t *testing.T) {
	needRoot(t)
	boom := errors.New("boom")
	var root string
	err := WithTemp(context.Background(), []mount.Mount{{Type: "tmpfs", Source: "tmpfs"}}, func(dir string) error {
		root = dir
		if !mounted(t, dir) {
			t.Error("not mounted")
		}
		return boom
	})
	if !errors.Is(err, boom) {
		t.Errorf("error %v", err)
	}
	if _, err := os.Stat(root); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the directory is left: %v", err)
	}
	if err := Unmount(filepath.Join(t.TempDir(), "nothing")); err != nil {
		t.Errorf("unmount of nothing: %v", err)
	}
}

// mounted says whether dir is a mount point of its own.
func mounted(t *testing.T, dir string) bool {
	t.Helper()
	var stx unix.Statx_t
	if err := unix.Statx(unix.AT_FDCWD, dir, 0, unix.STATX_BASIC_STATS, &stx); err != nil {
		t.Fatal(err)
	}
	return stx.Attributes&unix.STATX_ATTR_MOUNT_ROOT != 0
}
