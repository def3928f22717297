// Package activationtest is what managers of mounts must do, whoever they are: in process
// and through gRPC. It needs root.
package activationtest

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"gantry/api/errdefs"
	"gantry/api/reqctx"
	"gantry/libctr/core/activation"
	"gantry/libctr/core/mount"
)

// Subject is a manager with nothing activated.
type Subject struct {
	activation.Manager
	Root string // a directory below which mkdir and mkfs may make something
	// Collect runs a collection of garbage.
	Collect func(context.Context) error
	// Lease makes a lease, puts it into the context, and returns what deletes it.
	Lease func(context.Context) (context.Context, func() error)
}

// Run runs the suite; open makes a subject for each test.
func Run(t *testing.T, open func(t *testing.T) Subject) {
	if os.Getuid() != 0 {
		t.Skip("needs root: mounts")
	}
	for name, test := range map[string]func(suite){
		"nothing to do":             nothingToDo,
		"temporary":                 temporary,
		"formatted":                 formatted,
		"directories":               directories,
		"directories, hostile":      hostileDirectories,
		"file system on a loop":     loop,
		"failure leaves nothing":    failure,
		"refused":                   refused,
		"not there":                 notThere,
		"list and update":           list,
		"collected without a lease": collected,
		"kept by a lease":           leased,
	} {
		t.Run(name, func(t *testing.T) {
			s := open(t)
			plain := reqctx.WithNamespace(t.Context(), "testing")
			ctx, drop := s.Lease(plain)
			test(suite{t, ctx, plain, s})
			all, err := s.List(ctx)
			if err != nil || len(all) != 0 {
				t.Errorf("left activated: %v, %v", all, err)
			}
			if err := drop(); err != nil {
				t.Error(err)
			}
		})
	}
}

type suite struct {
	*testing.T
	ctx   context.Context // under a lease: a collection may begin at any time
	plain context.Context // without
	Subject
}

func (s suite) must(what string, err error) {
	s.Helper()
	if err != nil {
		s.Fatalf("%s: %v", what, err)
	}
}

func (s suite) is(what string, err, class error) {
	s.Helper()
	if !errors.Is(err, class) {
		s.Errorf("%s: %v, want class %v", what, err, class)
	}
}

// activate makes an activation, which goes should the test fail on the way.
func (s suite) activate(name string, o activation.Options, mounts ...mount.Mount) activation.Activation {
	s.Helper()
	a, err := s.Activate(s.ctx, name, mounts, o)
	s.must("activate", err)
	s.Cleanup(func() {
		if s.Failed() {
			_ = s.Deactivate(context.WithoutCancel(s.ctx), name)
		}
	})
	return a
}

func mounted(path string) bool {
	table, err := os.ReadFile("/proc/self/mountinfo")
	return err == nil && strings.Contains(string(table), " "+path+" ")
}

func tmpfs() mount.Mount { return mount.Mount{Type: "tmpfs", Source: "tmpfs"} }

func nothingToDo(s suite) {
	_, err := s.Activate(s.ctx, "a", []mount.Mount{tmpfs()}, activation.Options{})
	s.is("what the system can mount", err, errdefs.ErrNotImplemented)
	_, err = s.Activate(s.ctx, "a", nil, activation.Options{Temporary: true})
	s.is("no mounts", err, errdefs.ErrNotImplemented)
	_, err = s.Activate(s.ctx, "a", []mount.Mount{{Type: "unknown/tmpfs"}}, activation.Options{})
	s.is("what nobody knows", err, errdefs.ErrNotImplemented)
}

func temporary(s suite) {
	a := s.activate("a", activation.Options{Temporary: true, Labels: map[string]string{"x": "y"}}, tmpfs(), tmpfs())
	if len(a.Active) != 2 || len(a.System) != 1 || a.System[0].Type != "bind" || a.System[0].Source != a.Active[1].MountPoint ||
		a.Name != "a" || a.Labels["x"] != "y" || a.Active[0].Type != "tmpfs" || a.Active[0].MountedAt.IsZero() {
		s.Errorf("%+v", a)
	}
	for _, m := range a.Active {
		if !mounted(m.MountPoint) {
			s.Errorf("%s is not mounted", m.MountPoint)
		}
	}
	_, err := s.Activate(s.ctx, "a", []mount.Mount{tmpfs()}, activation.Options{Temporary: true})
	s.is("second of a name", err, errdefs.ErrAlreadyExists)
	info, err := s.Info(s.ctx, "a")
	if err != nil || len(info.Active) != 2 || info.Active[0].MountPoint != a.Active[0].MountPoint || info.System[0].Source != a.System[0].Source {
		s.Errorf("info %+v, %v", info, err)
	}
	busy, err := os.Open(a.Active[1].MountPoint) // does not keep it
	s.must("open", err)
	defer busy.Close()
	s.must("deactivate", s.Deactivate(s.ctx, "a"))
	for _, m := range a.Active {
		if mounted(m.MountPoint) {
			s.Errorf("%s is still mounted", m.MountPoint)
		}
		if _, err := os.Stat(filepath.Dir(m.MountPoint)); !errors.Is(err, os.ErrNotExist) {
			s.Errorf("directory of mounts: %v", err)
		}
	}
	s.activate("a", activation.Options{Temporary: true}, tmpfs()) // the name is free
	s.must("deactivate", s.Deactivate(s.ctx, "a"))
}

// formatted has an overlay of mounts that were made before.
func formatted(s suite) {
	upper, work := filepath.Join(s.Root, "upper"), filepath.Join(s.Root, "work")
	lower := s.TempDir()
	s.must("lower", os.WriteFile(filepath.Join(lower, "file"), []byte("below"), 0o644))
	a := s.activate("a", activation.Options{},
		mount.Mount{Type: "format/bind", Source: lower, Options: []string{"rbind", "ro"}},
		mount.Mount{Type: "format/mkdir/overlay", Source: "overlay", Options: []string{
			"lowerdir={{ mount 0 }}", "upperdir=" + upper, "workdir=" + work,
			"X-containerd.mkdir.path=" + upper + ":0755", "X-containerd.mkdir.path=" + work,
		}})
	want := mount.Mount{Type: "overlay", Source: "overlay", Options: []string{
		"lowerdir=" + a.Active[0].MountPoint, "upperdir=" + upper, "workdir=" + work}}
	if len(a.Active) != 1 || len(a.System) != 1 || a.System[0].Type != want.Type || !slices.Equal(a.System[0].Options, want.Options) {
		s.Errorf("%+v, want %+v", a, want)
	}
	if text, err := os.ReadFile(filepath.Join(a.Active[0].MountPoint, "file")); err != nil || string(text) != "below" {
		s.Errorf("lower: %q, %v", text, err)
	}
	if st, err := os.Stat(upper); err != nil || st.Mode().Perm() != 0o755 {
		s.Errorf("upper: %v, %v", st, err)
	}
	if st, err := os.Stat(work); err != nil || st.Mode().Perm() != 0o700 {
		s.Errorf("work: %v, %v", st, err)
	}
	s.must("deactivate", s.Deactivate(s.ctx, "a"))
	for _, bad := range []string{"{{ mount 1 }}", "{{ mount -1 }}", "{{ mount }}", "{{ overlay 0 9 }}", "{{ env \"HOME\" }}", "{{ mount 0", "{{}}"} {
		_, err := s.Activate(s.ctx, "a", []mount.Mount{
			{Type: "format/bind", Source: lower, Options: []string{"rbind"}}, {Type: "format/bind", Source: bad}}, activation.Options{})
		s.is(bad, err, errdefs.ErrInvalidArgument)
	}
}

func directories(s suite) {
	dir := filepath.Join(s.Root, "made")
	make := func(option string) error {
		_, err := s.Activate(s.ctx, "a", []mount.Mount{{Type: "mkdir/tmpfs", Source: "tmpfs",
			Options: []string{"X-containerd.mkdir." + option, "size=1m"}}}, activation.Options{Temporary: true})
		if err == nil {
			err = s.Deactivate(s.ctx, "a")
		}
		return err
	}
	s.must("with an owner", make("path="+dir+":0710:7:8"))
	var st unix.Stat_t
	if err := unix.Stat(dir, &st); err != nil || st.Mode&0o777 != 0o710 || st.Uid != 7 || st.Gid != 8 {
		s.Errorf("%o %d:%d %v", st.Mode, st.Uid, st.Gid, err)
	}
	s.must("what is there", make("path="+dir+":0710:7:8"))
	s.is("another mode", make("path="+dir+":0700:7:8"), errdefs.ErrFailedPrecondition)
	for _, bad := range []string{"mode=0700", "path=" + dir + ":9", "path=" + dir + ":04755", "path=" + dir + ":0700:1", "path=" + dir + ":0700:x:1",
		"path=" + dir + ":0700:-1:1", "path=" + dir + ":0700:1:2:3", "path=", "path=relative"} {
		s.is(bad, make(bad), errdefs.ErrInvalidArgument)
	}
}

func hostileDirectories(s suite) {
	outside := s.TempDir()
	s.must("link", os.Symlink(outside, filepath.Join(s.Root, "link")))
	s.must("link", os.Symlink("/", filepath.Join(s.Root, "top")))
	for _, path := range []string{
		filepath.Join(outside, "x"), s.Root + "/../x", s.Root, s.Root + "-beside/x", s.Root + "/link/x", s.Root + "/top" + outside + "/x",
	} {
		_, err := s.Activate(s.ctx, "a", []mount.Mount{{Type: "mkdir/tmpfs", Source: "tmpfs",
			Options: []string{"X-containerd.mkdir.path=" + path}}}, activation.Options{Temporary: true})
		if err == nil {
			s.Errorf("%s was made", path)
			s.must("deactivate", s.Deactivate(s.ctx, "a"))
		}
		_, err = s.Activate(s.ctx, "a", []mount.Mount{{Type: "mkfs/loop", Source: path,
			Options: []string{"X-containerd.mkfs.size=1MiB"}}}, activation.Options{})
		if err == nil {
			s.Errorf("a file system in %s was made", path)
			s.must("deactivate", s.Deactivate(s.ctx, "a"))
		}
	}
	if left, err := os.ReadDir(outside); err != nil || len(left) != 0 {
		s.Errorf("made outside: %v, %v", left, err)
	}
}

// loop makes a file system, attaches it and lets the caller mount it.
func loop(s suite) {
	if _, err := os.Stat("/dev/loop-control"); err != nil {
		s.Skipf("needs loop devices: %v", err)
	}
	image := filepath.Join(s.Root, "image")
	mounts := []mount.Mount{
		{Type: "mkfs/loop", Source: image, Options: []string{
			"X-containerd.mkfs.size=8MiB", "X-containerd.mkfs.fs=ext4", "X-containerd.mkfs.uuid=12345678-1234-1234-1234-123456789abc"}},
		{Type: "format/ext4", Source: "{{ mount 0 }}", Options: []string{"noatime"}},
	}
	for _, round := range []string{"made", "there"} {
		a, err := s.Activate(s.ctx, "a", slices.Clone(mounts), activation.Options{Temporary: true})
		if errdefs.IsNotImplemented(err) {
			s.Skipf("needs mkfs.ext4: %v", err)
		}
		s.must(round, err)
		device, err := os.Readlink(a.Active[0].MountPoint)
		if err != nil || !strings.HasPrefix(device, "/dev/loop") || a.Active[0].Type != "loop" || len(a.Active[0].Options) != 0 || a.Active[1].Type != "ext4" {
			s.Errorf("%q %+v, %v", device, a, err)
		}
		file := filepath.Join(a.System[0].Source, "file")
		if round == "made" {
			s.must("write", os.WriteFile(file, []byte("kept"), 0o644))
		} else if text, err := os.ReadFile(file); err != nil || string(text) != "kept" {
			s.Errorf("read %q, %v", text, err)
		}
		s.must("deactivate", s.Deactivate(s.ctx, "a"))
		if backing, err := os.ReadFile("/sys/block/" + filepath.Base(device) + "/loop/backing_file"); err == nil && strings.TrimSpace(string(backing)) == image {
			s.Errorf("%s still has %s", device, backing)
		}
	}
	a := s.activate("a", activation.Options{}, mounts...) // the caller mounts
	if len(a.Active) != 1 || len(a.System) != 1 || a.System[0].Type != "ext4" || a.System[0].Source != a.Active[0].MountPoint {
		s.Errorf("%+v", a)
	}
	s.must("deactivate", s.Deactivate(s.ctx, "a"))
	for option, mt := range map[string]mount.Mount{
		"no size":   {Type: "mkfs/loop", Source: image},
		"a size":    {Type: "mkfs/loop", Source: image, Options: []string{"X-containerd.mkfs.size=99999999TiB"}},
		"a kind":    {Type: "mkfs/loop", Source: image, Options: []string{"X-containerd.mkfs.size=8MiB", "X-containerd.mkfs.fs=../sh"}},
		"an id":     {Type: "mkfs/loop", Source: image, Options: []string{"X-containerd.mkfs.size=8MiB", "X-containerd.mkfs.uuid=-x"}},
		"an option": {Type: "mkfs/loop", Source: image, Options: []string{"X-containerd.mkfs.size=8MiB", "X-containerd.mkfs.run=x"}},
	} {
		_, err := s.Activate(s.ctx, "a", []mount.Mount{mt}, activation.Options{})
		s.is(option, err, errdefs.ErrInvalidArgument)
	}
	if _, err := s.Activate(s.ctx, "a", []mount.Mount{{Type: "loop", Source: "/dev/null"}}, activation.Options{}); err == nil {
		s.Error("a loop device of a device")
	}
}

// failure makes the last of three mounts fail.
func failure(s suite) {
	a := s.activate("first", activation.Options{Temporary: true}, tmpfs())
	dir := filepath.Dir(filepath.Dir(a.Active[0].MountPoint))
	before, err := os.ReadDir(dir)
	s.must("directory of mounts", err)
	_, err = s.Activate(s.ctx, "a", []mount.Mount{tmpfs(), tmpfs(), {Type: "no-such-filesystem"}}, activation.Options{Temporary: true})
	if err == nil {
		s.Fatal("mounted what cannot be")
	}
	if after, err := os.ReadDir(dir); err != nil || len(after) != len(before) {
		s.Errorf("left: %v, were %v, %v", after, before, err)
	}
	_, err = s.Info(s.ctx, "a")
	s.is("info of what failed", err, errdefs.ErrNotFound)
	s.must("deactivate", s.Deactivate(s.ctx, "first"))
}

func refused(s suite) {
	for name, class := range map[string]error{"": errdefs.ErrInvalidArgument, strings.Repeat("x", 5000): errdefs.ErrInvalidArgument, "a\x00b": errdefs.ErrInvalidArgument} {
		_, err := s.Activate(s.ctx, name, []mount.Mount{tmpfs()}, activation.Options{Temporary: true})
		s.is("name", err, class)
	}
	_, err := s.Activate(s.ctx, "a", slices.Repeat([]mount.Mount{tmpfs()}, 1000), activation.Options{Temporary: true})
	s.is("too many", err, errdefs.ErrInvalidArgument)
	_, err = s.Activate(s.ctx, "a", []mount.Mount{{Type: strings.Repeat("format/", 1000) + "bind"}}, activation.Options{})
	s.is("too many transforms", err, errdefs.ErrInvalidArgument)
	_, err = s.Activate(s.ctx, "a", []mount.Mount{tmpfs()}, activation.Options{Temporary: true, Labels: map[string]string{"x": strings.Repeat("y", 5000)}})
	s.is("a label", err, errdefs.ErrInvalidArgument)
}

func notThere(s suite) {
	_, err := s.Info(s.ctx, "none")
	s.is("info", err, errdefs.ErrNotFound)
	s.is("deactivate", s.Deactivate(s.ctx, "none"), errdefs.ErrNotFound)
	_, err = s.Update(s.ctx, activation.Activation{Name: "none"}, "labels")
	s.is("update", err, errdefs.ErrNotFound)
}

func list(s suite) {
	s.activate("a", activation.Options{Temporary: true, Labels: map[string]string{"n": "1"}}, tmpfs())
	s.activate("b", activation.Options{Temporary: true, Labels: map[string]string{"n": "2"}}, tmpfs())
	got, err := s.Update(s.ctx, activation.Activation{Name: "b", Labels: map[string]string{"n": "3", "m": "4"}}, "labels.n")
	if err != nil || got.Labels["n"] != "3" || got.Labels["m"] != "" || len(got.Active) != 1 {
		s.Errorf("update: %+v, %v", got, err)
	}
	_, err = s.Update(s.ctx, activation.Activation{Name: "b"}, "system")
	s.is("update of mounts", err, errdefs.ErrInvalidArgument)
	for filter, want := range map[string]int{"": 2, "name==a": 1, "labels.n==3": 1, "labels.n==2": 0} {
		var fs []string
		if filter != "" {
			fs = []string{filter}
		}
		if all, err := s.List(s.ctx, fs...); err != nil || len(all) != want {
			s.Errorf("filter %q: %v, %v", filter, all, err)
		}
	}
	_, err = s.List(s.ctx, "name==")
	s.is("filter", err, errdefs.ErrInvalidArgument)
	if all, err := s.List(reqctx.WithNamespace(s.plain, "other")); err != nil || len(all) != 0 {
		s.Errorf("another namespace's: %v, %v", all, err)
	}
	s.must("deactivate", s.Deactivate(s.ctx, "a"))
	s.must("deactivate", s.Deactivate(s.ctx, "b"))
}

func collected(s suite) {
	a, err := s.Activate(s.plain, "a", []mount.Mount{tmpfs()}, activation.Options{Temporary: true,
		Labels: map[string]string{"containerd.io/gc.bref.container": "none", "containerd.io/gc.bref.snapshot.overlayfs": "none"}})
	s.must("activate", err)
	s.must("collect", s.Collect(s.plain))
	_, err = s.Info(s.plain, "a")
	s.is("what nothing holds", err, errdefs.ErrNotFound)
	if mounted(a.Active[0].MountPoint) {
		s.Errorf("%s is still mounted", a.Active[0].MountPoint)
	}
}

func leased(s suite) {
	ctx, drop := s.Lease(s.plain)
	a, err := s.Activate(ctx, "a", []mount.Mount{tmpfs()}, activation.Options{Temporary: true})
	s.must("activate", err)
	s.must("collect", s.Collect(s.plain))
	if !mounted(a.Active[0].MountPoint) {
		s.Errorf("%s was taken away under its lease", a.Active[0].MountPoint)
	}
	s.must("delete lease", drop())
	s.must("collect", s.Collect(s.plain))
	if mounted(a.Active[0].MountPoint) {
		s.Errorf("%s outlives its lease", a.Active[0].MountPoint)
	}
}
