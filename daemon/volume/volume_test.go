package volume_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/docker/docker/api/types/events"
	"github.com/docker/docker/api/types/filters"
	volumetypes "github.com/docker/docker/api/types/volume"
	"github.com/moby/sys/mountinfo"
	"go.etcd.io/bbolt"
	"golang.org/x/sys/unix"

	"gantry/api/errdefs"
	"gantry/daemon/rootfs"
	"gantry/daemon/volume"
	"gantry/internal/testutil/coretest"
	"gantry/internal/testutil/need"
	"gantry/libctr/core/mount"
)

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

type recorder struct {
	mu  sync.Mutex
	all []string
}

func (r *recorder) Publish(typ events.Type, action events.Action, a events.Actor) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.all = append(r.all, fmt.Sprintf("%s %s %s %v", typ, action, a.ID, a.Attributes))
}

type fixture struct {
	*volume.Service
	root   string
	db     *bbolt.DB
	events *recorder
	t      testing.TB
}

func newFixture(t testing.TB) *fixture {
	t.Helper()
	dir := t.TempDir()
	db, err := bbolt.Open(filepath.Join(dir, "gantry.db"), 0o600, nil)
	check(t, err)
	t.Cleanup(func() { db.Close() })
	f := &fixture{root: filepath.Join(dir, "volumes"), db: db, events: &recorder{}, t: t}
	f.reopen()
	return f
}

// reopen is a new daemon on the same state.
func (f *fixture) reopen() {
	f.t.Helper()
	s, err := volume.New(f.root, f.db, f.events, coretest.Log(f.t))
	check(f.t, err)
	f.Service = s
}

func (f *fixture) names(args ...filters.KeyValuePair) string {
	f.t.Helper()
	vols, warnings, err := f.List(f.t.Context(), filters.NewArgs(args...))
	check(f.t, err)
	if len(warnings) > 0 {
		f.t.Errorf("warnings %v", warnings)
	}
	var out []string
	for _, v := range vols {
		out = append(out, v.Name)
	}
	return strings.Join(out, " ")
}

func TestCreateInspectRemove(t *testing.T) {
	f := newFixture(t)
	ctx := t.Context()
	v, err := f.Create(ctx, volumetypes.CreateOptions{Name: "data", Labels: map[string]string{"a": "b"}})
	check(t, err)
	if v.Driver != "local" || v.Scope != "local" || v.Mountpoint != filepath.Join(f.root, "data/_data") || v.Labels["a"] != "b" || v.CreatedAt == "" {
		t.Errorf("created %+v", v)
	}
	st, err := os.Stat(v.Mountpoint)
	check(t, err)
	above, err := os.Stat(filepath.Dir(v.Mountpoint))
	check(t, err)
	if st.Mode().Perm() != 0o755 || above.Mode().Perm() != 0o701 {
		t.Errorf("modes %s, %s", st.Mode(), above.Mode())
	}
	check(t, os.WriteFile(filepath.Join(v.Mountpoint, "f"), []byte("x"), 0o644))

	again, err := f.Create(ctx, volumetypes.CreateOptions{Name: "data", Labels: map[string]string{"other": ""}})
	check(t, err)
	if again.Labels["a"] != "b" || again.CreatedAt != v.CreatedAt {
		t.Errorf("second create: %+v", again)
	}
	f.reopen()
	if got, err := f.Inspect(ctx, "data"); err != nil || got.Labels["a"] != "b" || got.CreatedAt != v.CreatedAt {
		t.Errorf("after a restart: %+v, %v", got, err)
	}
	check(t, f.Remove(ctx, "data", false))
	if left, _ := os.ReadDir(f.root); len(left) != 0 {
		t.Errorf("left %v", left)
	}
	f.reopen()
	if _, err := f.Inspect(ctx, "data"); !errdefs.IsNotFound(err) || err.Error() != "get data: no such volume" {
		t.Errorf("inspect: %v", err)
	}
	if err := f.Remove(ctx, "data", false); !errdefs.IsNotFound(err) || err.Error() != "get data: no such volume" {
		t.Errorf("remove: %v", err)
	}
	check(t, f.Remove(ctx, "data", true))
	want := []string{"volume create data map[driver:local]", "volume destroy data map[driver:local]"}
	if !slices.Equal(f.events.all, want) {
		t.Errorf("events %q", f.events.all)
	}
}

func TestAnonymous(t *testing.T) {
	f := newFixture(t)
	v, err := f.Create(t.Context(), volumetypes.CreateOptions{})
	check(t, err)
	if _, ok := v.Labels[volume.AnonymousLabel]; !ok || !regexp.MustCompile("^[0-9a-f]{64}$").MatchString(v.Name) {
		t.Errorf("anonymous %+v", v)
	}
}

func TestCreateErrors(t *testing.T) {
	f := newFixture(t)
	const rule = `includes invalid characters for a local volume name, only "[a-zA-Z0-9][a-zA-Z0-9_.-]" are allowed. If you intended to pass a host directory, use absolute path`
	for _, c := range []struct {
		o    volumetypes.CreateOptions
		text string
	}{
		{volumetypes.CreateOptions{Name: "a"}, "create a: volume name is too short, names should be at least two alphanumeric characters"},
		{volumetypes.CreateOptions{Name: "../x"}, `create ../x: "../x" ` + rule},
		{volumetypes.CreateOptions{Name: ".removed-x"}, `create .removed-x: ".removed-x" ` + rule},
		{volumetypes.CreateOptions{Name: "a/b"}, `create a/b: "a/b" ` + rule},
		{volumetypes.CreateOptions{Name: "vv", DriverOpts: map[string]string{"x": "y"}}, `create vv: invalid option: "x"`},
		{volumetypes.CreateOptions{Name: "vv", DriverOpts: map[string]string{"type": "tmpfs"}}, `create vv: missing required option: "device"`},
		{volumetypes.CreateOptions{Name: "vv", DriverOpts: map[string]string{"device": "tmpfs"}}, `create vv: missing required option: "type"`},
		{volumetypes.CreateOptions{Name: "vv", DriverOpts: map[string]string{"o": "size=1"}}, `create vv: missing required option: "device"`},
		{volumetypes.CreateOptions{Name: "vv", DriverOpts: map[string]string{"size": "x"}}, `create vv: invalid size: 'x'`},
		{volumetypes.CreateOptions{Name: "vv", DriverOpts: map[string]string{"size": "1m"}}, `create vv: quota size requested but no quota support`},
		{volumetypes.CreateOptions{Name: "vv", DriverOpts: map[string]string{"type": "cifs", "device": "//host:445/x"}}, `create vv: port not allowed in CIFS device URL, include 'port' in 'o='`},
	} {
		_, err := f.Create(t.Context(), c.o)
		if !errdefs.IsInvalidArgument(err) || err.Error() != c.text {
			t.Errorf("%+v: %v, want %s", c.o, err, c.text)
		}
	}
	_, err := f.Create(t.Context(), volumetypes.CreateOptions{Name: "vv", Driver: "foo"})
	if !errdefs.IsNotFound(err) || err.Error() != `create vv: error looking up volume plugin foo: plugin "foo" not found` {
		t.Errorf("driver: %v", err)
	}
	if left, _ := os.ReadDir(f.root); len(left) != 0 {
		t.Errorf("left %v", left)
	}
}

func TestReferences(t *testing.T) {
	f := newFixture(t)
	ctx := t.Context()
	v, err := f.Ensure(ctx, volumetypes.CreateOptions{Name: "used"}, "c2")
	check(t, err)
	_, err = f.Ensure(ctx, volumetypes.CreateOptions{Name: "used"}, "c1")
	check(t, err)
	err = f.Remove(ctx, "used", true)
	if !errdefs.IsConflict(err) || err.Error() != "remove used: volume is in use - [c1, c2]" {
		t.Errorf("remove: %v", err)
	}
	path, err := f.Mount(ctx, "used", "c1")
	check(t, err)
	if path != v.Mountpoint {
		t.Errorf("mounted at %s", path)
	}
	check(t, f.Release(ctx, "used", "c1"))
	check(t, f.Release(ctx, "used", "c1"))
	check(t, f.Release(ctx, "used", "c2"))
	check(t, f.Release(ctx, "nope", "c2"))
	check(t, f.Remove(ctx, "used", false))
	if _, err := f.Mount(ctx, "used", "c1"); !errdefs.IsNotFound(err) {
		t.Errorf("mount: %v", err)
	}
	if err := f.Restore(ctx, "used", "c1", true); !errdefs.IsNotFound(err) {
		t.Errorf("restore: %v", err)
	}
}

func TestFilters(t *testing.T) {
	f := newFixture(t)
	for name, labels := range map[string]map[string]string{"one": {"a": "1"}, "two": {"a": "2"}, "three": nil} {
		_, err := f.Create(t.Context(), volumetypes.CreateOptions{Name: name, Labels: labels})
		check(t, err)
	}
	_, err := f.Ensure(t.Context(), volumetypes.CreateOptions{Name: "two"}, "c1")
	check(t, err)
	for _, c := range []struct {
		why, key, value, want string
	}{
		{"name is a part", "name", "o", "one two"},
		{"label", "label", "a", "one two"},
		{"label with value", "label", "a=2", "two"},
		{"driver", "driver", "local", "one three two"},
		{"other driver", "driver", "nfs", ""},
		{"dangling", "dangling", "true", "one three"},
		{"not dangling", "dangling", "0", "two"},
	} {
		if got := f.names(filters.Arg(c.key, c.value)); got != c.want {
			t.Errorf("%s: %q, want %q", c.why, got, c.want)
		}
	}
	for _, arg := range []filters.KeyValuePair{filters.Arg("nope", ""), filters.Arg("dangling", "maybe")} {
		if _, _, err := f.List(t.Context(), filters.NewArgs(arg)); !errdefs.IsInvalidArgument(err) {
			t.Errorf("filter %v: %v", arg, err)
		}
	}
}

func TestPrune(t *testing.T) {
	f := newFixture(t)
	ctx := t.Context()
	anon, err := f.Create(ctx, volumetypes.CreateOptions{})
	check(t, err)
	check(t, os.WriteFile(filepath.Join(anon.Mountpoint, "f"), make([]byte, 1000), 0o644))
	_, err = f.Ensure(ctx, volumetypes.CreateOptions{}, "c1")
	check(t, err)
	for name, o := range map[string]map[string]string{"named": nil, "mounted": {"type": "tmpfs", "device": "tmpfs"}} {
		_, err = f.Create(ctx, volumetypes.CreateOptions{Name: name, DriverOpts: o})
		check(t, err)
	}
	r, err := f.Prune(ctx, filters.NewArgs())
	check(t, err)
	if !slices.Equal(r.VolumesDeleted, []string{anon.Name}) || r.SpaceReclaimed != 1000 {
		t.Errorf("prune: %+v", r)
	}
	r, err = f.Prune(ctx, filters.NewArgs(filters.Arg("all", "true")))
	check(t, err)
	if !slices.Equal(r.VolumesDeleted, []string{"named"}) {
		t.Errorf("prune all: %+v", r)
	}
	for _, args := range []filters.Args{filters.NewArgs(filters.Arg("all", "x")), filters.NewArgs(filters.Arg("all", "1"), filters.Arg("all", "0")), filters.NewArgs(filters.Arg("dangling", "1"))} {
		if _, err := f.Prune(ctx, args); !errdefs.IsInvalidArgument(err) {
			t.Errorf("prune with %v: %v", args, err)
		}
	}
	used, err := f.DiskUsage(ctx)
	check(t, err)
	if len(used) != 1 || used[0].UsageData.RefCount != 1 || used[0].UsageData.Size != 0 {
		t.Errorf("disk usage %+v", used)
	}
}

func TestMountOptions(t *testing.T) {
	need.Root(t, "mounts tmpfs")
	f := newFixture(t)
	ctx := t.Context()
	v, err := f.Create(ctx, volumetypes.CreateOptions{Name: "ram", DriverOpts: map[string]string{"type": "tmpfs", "device": "tmpfs", "o": "size=1m,uid=5,ro"}})
	check(t, err)
	mounted := func() bool {
		ok, err := mountinfo.Mounted(v.Mountpoint)
		check(t, err)
		return ok
	}
	t.Cleanup(func() { _ = unix.Unmount(v.Mountpoint, unix.MNT_DETACH) })
	for _, user := range []string{"c1", "c2"} {
		_, err := f.Mount(ctx, "ram", user)
		check(t, err)
	}
	st, err := os.Stat(v.Mountpoint)
	check(t, err)
	if !mounted() || st.Sys() == nil {
		t.Fatal("not mounted")
	}
	check(t, f.Unmount(ctx, "ram", "c1"))
	if !mounted() {
		t.Error("gone while c2 has it")
	}
	f.reopen() // a daemon that starts while c2 runs
	check(t, f.Restore(ctx, "ram", "c2", true))
	f.UnmountUnused(ctx)
	if !mounted() {
		t.Error("gone though c2 has it")
	}
	if err := f.Remove(ctx, "ram", false); !errdefs.IsConflict(err) {
		t.Errorf("remove: %v", err)
	}
	check(t, f.Release(ctx, "ram", "c2"))
	if mounted() {
		t.Error("still mounted")
	}
	_, err = f.Mount(ctx, "ram", "c3")
	check(t, err)
	f.reopen() // c3 has ended meanwhile, and its release was cut off
	check(t, f.Restore(ctx, "ram", "c3", false))
	f.UnmountUnused(ctx)
	if mounted() {
		t.Error("mounted for nobody")
	}
	check(t, f.Release(ctx, "ram", "c3"))
	check(t, f.Remove(ctx, "ram", false))

	_, err = f.Create(ctx, volumetypes.CreateOptions{Name: "bad", DriverOpts: map[string]string{"type": "nosuchfs", "device": "x", "o": "password=secret"}})
	check(t, err)
	if _, err := f.Mount(ctx, "bad", "c1"); err == nil || strings.Contains(err.Error(), "secret") || !strings.HasPrefix(err.Error(), "mount bad: failed to mount local volume: ") {
		t.Errorf("mount of nonsense: %v", err)
	}
	check(t, f.Remove(ctx, "bad", false))
}

// TestCrash leaves what a crash leaves at each step and starts again.
func TestCrash(t *testing.T) {
	f := newFixture(t)
	ctx := t.Context()
	v, err := f.Create(ctx, volumetypes.CreateOptions{Name: "half-removed"})
	check(t, err)
	check(t, os.WriteFile(filepath.Join(v.Mountpoint, "f"), nil, 0o644))
	check(t, os.Rename(filepath.Join(f.root, "half-removed"), filepath.Join(f.root, ".removed-half-removed-ABCDEFGH")))
	_, err = f.Create(ctx, volumetypes.CreateOptions{Name: "lost"})
	check(t, err)
	check(t, os.RemoveAll(filepath.Join(f.root, "lost")))
	check(t, os.MkdirAll(filepath.Join(f.root, "half-made/_data"), 0o755))
	check(t, os.MkdirAll(filepath.Join(f.root, "foreign/_data/x"), 0o755))
	check(t, os.MkdirAll(filepath.Join(f.root, ".removed-gone-ABCDEFGH/_data/x"), 0o755))
	f.reopen()
	if got := f.names(); got != "half-removed lost" {
		t.Errorf("volumes %q", got)
	}
	for path, want := range map[string]bool{"half-removed/_data/f": true, "lost/_data": true, "half-made": false, "foreign/_data/x": true, ".removed-gone-ABCDEFGH": false} {
		if _, err := os.Stat(filepath.Join(f.root, path)); (err == nil) != want {
			t.Errorf("%s: %v", path, err)
		}
	}
}

func TestConcurrent(t *testing.T) {
	f := newFixture(t)
	ctx := t.Context()
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			user := fmt.Sprint("c", i)
			if _, err := f.Ensure(ctx, volumetypes.CreateOptions{Name: "shared"}, user); err != nil {
				t.Error(err)
				return
			}
			if _, err := f.Mount(ctx, "shared", user); err != nil {
				t.Error(err)
			}
			_, _, _ = f.List(ctx, filters.NewArgs())
			if err := f.Release(ctx, "shared", user); err != nil {
				t.Error(err)
			}
			_ = f.Remove(ctx, "shared", true)
		})
	}
	wg.Wait()
}

func TestCopyUp(t *testing.T) {
	need.Root(t, "mounts a file system")
	f := newFixture(t)
	ctx := t.Context()
	image := t.TempDir()
	check(t, os.MkdirAll(filepath.Join(image, "data/sub"), 0o755))
	check(t, os.WriteFile(filepath.Join(image, "data/file"), []byte("image"), 0o644))
	check(t, os.Chown(filepath.Join(image, "data"), 11, 12))
	root, err := rootfs.Open([]mount.Mount{{Type: "bind", Source: image}})
	check(t, err)
	defer root.Close()
	v, err := f.Create(ctx, volumetypes.CreateOptions{Name: "vol"})
	check(t, err)

	check(t, volume.CopyUp(ctx, root, "/nope", v.Mountpoint))
	if left, _ := os.ReadDir(v.Mountpoint); len(left) != 0 {
		t.Errorf("copied %v", left)
	}
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			if err := volume.CopyUp(ctx, root, "/data", v.Mountpoint); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	st, err := os.Stat(v.Mountpoint)
	check(t, err)
	if p, err := os.ReadFile(filepath.Join(v.Mountpoint, "file")); err != nil || string(p) != "image" || fmt.Sprint(st.Sys()) == "" {
		t.Errorf("copied %q, %v", p, err)
	}
	check(t, os.WriteFile(filepath.Join(v.Mountpoint, "file"), []byte("mine"), 0o644))
	check(t, volume.CopyUp(ctx, root, "/data", v.Mountpoint))
	if p, _ := os.ReadFile(filepath.Join(v.Mountpoint, "file")); string(p) != "mine" {
		t.Error("a full volume was written")
	}
	w, err := f.Create(ctx, volumetypes.CreateOptions{Name: "empty"})
	check(t, err)
	if err := volume.CopyUp(ctx, root, "/data/file", w.Mountpoint); err == nil {
		t.Error("copied from a file")
	}
	cancelled, cancel := context.WithCancel(ctx)
	cancel()
	if err := volume.CopyUp(cancelled, root, "/data", w.Mountpoint); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

// TestUnreadableRecord: it costs its volume, whose content stays and is taken up by a
// new volume of that name, and no other.
func TestUnreadableRecord(t *testing.T) {
	for _, value := range []string{"", `{"name":`, `{"name":"other"}`, "\x00\xff"} {
		f := newFixture(t)
		for _, name := range []string{"bad", "good"} {
			v, err := f.Create(t.Context(), volumetypes.CreateOptions{Name: name})
			check(t, err)
			check(t, os.WriteFile(filepath.Join(v.Mountpoint, "f"), []byte(name), 0o600))
		}
		check(t, f.db.Update(func(tx *bbolt.Tx) error {
			return tx.Bucket([]byte("volumes")).Put([]byte("bad"), []byte(value))
		}))
		f.reopen()
		if got := f.names(); got != "good" {
			t.Errorf("%q: volumes %q", value, got)
		}
		v, err := f.Create(t.Context(), volumetypes.CreateOptions{Name: "bad"})
		check(t, err)
		if got, err := os.ReadFile(filepath.Join(v.Mountpoint, "f")); string(got) != "bad" {
			t.Errorf("%q: content %q, %v", value, got, err)
		}
	}
}
