package activation_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"gantry/api/errdefs"
	"gantry/api/reqctx"
	"gantry/libctr/activation"
	"gantry/libctr/activation/activationtest"
	core "gantry/libctr/core/activation"
	"gantry/libctr/core/container"
	"gantry/libctr/core/lease"
	"gantry/libctr/core/mount"
	"gantry/libctr/metadata"
)

// open makes a manager whose database is in two files, as a core's.
func open(t *testing.T, dir string) (*activation.Manager, *metadata.DB) {
	t.Helper()
	db, err := metadata.Open(filepath.Join(dir, "meta.db"), metadata.Options{Boot: filepath.Join(dir, "boot.db")})
	if err != nil {
		t.Fatal(err)
	}
	m, err := activation.New(activation.Config{Dir: filepath.Join(dir, "t"), Roots: []string{filepath.Join(dir, "root")}, Records: db.Mounts()})
	if err != nil {
		t.Fatal(err)
	}
	db.OnCollect(m.Sweep)
	return m, db
}

// Dir makes a directory, and unmounts what a failed test leaves in it.
func tempDir(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "root"), 0o700); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		table, _ := os.ReadFile("/proc/self/mountinfo")
		for line := range strings.Lines(string(table)) {
			if at := strings.Fields(line)[4]; strings.HasPrefix(at, dir+"/") {
				t.Errorf("left mounted: %s", at)
				unix.Unmount(at, unix.MNT_DETACH) //nolint:errcheck // the removal of the directory tells
			}
		}
	})
	return dir
}

func TestManager(t *testing.T) {
	activationtest.Run(t, func(t *testing.T) activationtest.Subject {
		dir := tempDir(t)
		m, db := open(t, dir)
		t.Cleanup(func() { db.Close() })
		return activationtest.Subject{
			Manager: m,
			Root:    filepath.Join(dir, "root"),
			Collect: func(ctx context.Context) error { _, err := db.Collect(ctx); return err },
			Lease: func(ctx context.Context) (context.Context, func() error) {
				l, err := db.Leases().Create(ctx, "", nil)
				if err != nil {
					t.Fatal(err)
				}
				return lease.With(ctx, l.ID), func() error { return db.Leases().Delete(ctx, l.ID, false) }
			},
		}
	})
}

// TestKeptByContainer is what tasks go by.
func TestKeptByContainer(t *testing.T) {
	needRoot(t)
	m, db := open(t, tempDir(t))
	defer db.Close()
	ctx := reqctx.WithNamespace(t.Context(), "testing")
	for id, labels := range map[string]map[string]string{"durable": nil, "of-boot": {container.LabelOfBoot: "true"}} {
		if _, err := db.Containers().Create(ctx, container.Container{ID: id, Labels: labels, Runtime: container.Runtime{Name: "x"}, SandboxID: "s"}); err != nil {
			t.Fatal(err)
		}
		_, err := m.Activate(ctx, id, tmpfs(), core.Options{Temporary: true, Labels: map[string]string{"containerd.io/gc.bref.container": id}})
		if err != nil {
			t.Fatal(err)
		}
	}
	collect(t, db)
	if all, err := m.List(ctx); err != nil || len(all) != 2 {
		t.Errorf("kept %v, %v", all, err)
	}
	for _, id := range []string{"durable", "of-boot"} {
		if err := db.Containers().Delete(ctx, id); err != nil {
			t.Error(err)
		}
	}
	collect(t, db)
	if all, err := m.List(ctx); err != nil || len(all) != 0 {
		t.Errorf("kept %v, %v", all, err)
	}
}

// TestLeftByCrash has a database without the records of what is mounted, and records of
// what was not finished.
func TestLeftByCrash(t *testing.T) {
	needRoot(t)
	dir := tempDir(t)
	m, db := open(t, dir)
	ctx := reqctx.WithNamespace(t.Context(), "testing")
	label := map[string]string{"containerd.io/gc.bref.container": "c"}
	if _, err := db.Containers().Create(ctx, container.Container{ID: "c", Runtime: container.Runtime{Name: "x"}, SandboxID: "s"}); err != nil {
		t.Fatal(err)
	}
	a, err := m.Activate(ctx, "stays", tmpfs(), core.Options{Temporary: true, Labels: label})
	if err != nil {
		t.Fatal(err)
	}
	lost, err := m.Activate(ctx, "lost", tmpfs(), core.Options{Temporary: true, Labels: label})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := db.Mounts().Remove(ctx, "lost"); err != nil { // as Deactivate, which then dies
		t.Fatal(err)
	}
	if _, err := db.Mounts().Begin(ctx, "half", label); err != nil { // as Activate, which then dies
		t.Fatal(err)
	}
	foreign := filepath.Join(dir, "t", "keep-me")
	if err := os.Mkdir(foreign, 0o700); err != nil {
		t.Fatal(err)
	}
	db.Close()
	m, db = open(t, dir)
	defer db.Close()
	if _, err := m.Activate(ctx, "half", tmpfs(), core.Options{Temporary: true, Labels: label}); err != nil {
		t.Errorf("a name that was begun and not finished: %v", err)
	}
	if _, err := db.Mounts().Begin(ctx, "half2", label); err != nil {
		t.Fatal(err)
	}
	collect(t, db)
	if isMounted(lost.Active[0].MountPoint) {
		t.Error("what has no record is still mounted")
	}
	if !isMounted(a.Active[0].MountPoint) {
		t.Error("what has a record is not mounted any more")
	}
	if _, err := m.Info(ctx, "half2"); !errdefs.IsNotFound(err) {
		t.Errorf("what was not finished: %v", err)
	}
	if _, err := os.Stat(foreign); err != nil {
		t.Errorf("what is none of ours: %v", err)
	}
	for _, name := range []string{"stays", "half"} {
		if err := m.Deactivate(ctx, name); err != nil {
			t.Error(err)
		}
	}
}

// TestLinkToAnothersLoop leaves a device alone that is somebody else's.
func TestLinkToAnothersLoop(t *testing.T) {
	needRoot(t)
	dir := tempDir(t)
	m, db := open(t, dir)
	defer db.Close()
	ctx := reqctx.WithNamespace(t.Context(), "testing")
	image := filepath.Join(dir, "root", "image")
	if err := os.WriteFile(image, make([]byte, 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := db.Containers().Create(ctx, container.Container{ID: "c", Runtime: container.Runtime{Name: "x"}, SandboxID: "s"}); err != nil {
		t.Fatal(err)
	}
	a, err := m.Activate(ctx, "a", []mount.Mount{{Type: "loop", Source: image, Options: []string{"ro"}}},
		core.Options{Labels: map[string]string{"containerd.io/gc.bref.container": "c"}})
	if err != nil {
		t.Skipf("needs loop devices: %v", err)
	}
	device, err := os.Readlink(a.Active[0].MountPoint)
	if err != nil {
		t.Fatal(err)
	}
	left := filepath.Join(dir, "t", "999")
	if err := os.Mkdir(left, 0o700); err != nil {
		t.Fatal(err)
	}
	for i, to := range []string{device, "/etc/passwd", "/dev/loop9999"} {
		if err := os.Symlink(to, filepath.Join(left, string(rune('0'+i)))); err != nil {
			t.Fatal(err)
		}
	}
	if err := m.Sweep(ctx); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(left); err == nil {
		t.Error("the links are left")
	}
	backing := func() string {
		text, _ := os.ReadFile("/sys/block/" + filepath.Base(device) + "/loop/backing_file")
		return strings.TrimSpace(string(text))
	}
	if backing() != image {
		t.Errorf("%s has %q, want %q", device, backing(), image)
	}
	if err := m.Deactivate(ctx, "a"); err != nil || backing() == image {
		t.Errorf("%s still has %q: %v", device, backing(), err)
	}
}

func collect(t *testing.T, db *metadata.DB) {
	t.Helper()
	if _, err := db.Collect(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func needRoot(t *testing.T) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root: mounts")
	}
}

func tmpfs() []mount.Mount { return []mount.Mount{{Type: "tmpfs", Source: "tmpfs"}} }

func isMounted(path string) bool {
	table, err := os.ReadFile("/proc/self/mountinfo")
	return err == nil && strings.Contains(string(table), " "+path+" ")
}
