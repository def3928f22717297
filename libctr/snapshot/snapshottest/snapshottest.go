// Package snapshottest is what every snapshot.Snapshotter must do, with real
// mounts: it needs root.
package snapshottest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"gantry/api/errdefs"
	coremount "gantry/libctr/core/mount"
	"gantry/libctr/core/snapshot"
	"gantry/libctr/mount"
)

// Run runs the suite; open makes an empty snapshotter and the context to use it under.
func Run(t *testing.T, open func(t *testing.T) (context.Context, snapshot.Snapshotter)) {
	t.Helper()
	RunExcept(t, nil, open)
}

// RunExcept leaves tests out that a snapshotter of others does not pass, by name and with
// the reason.
func RunExcept(t *testing.T, except map[string]string, open func(t *testing.T) (context.Context, snapshot.Snapshotter)) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: mounts snapshots")
	}
	for name, test := range map[string]func(s Subject){
		"base":                         base,
		"layers":                       layers,
		"many layers":                  manyLayers,
		"deletions and replacements":   deletions,
		"view is read-only":            viewIsReadOnly,
		"root attributes":              rootAttributes,
		"keys":                         keys,
		"commit":                       commit,
		"remove":                       remove,
		"labels":                       labels,
		"walk":                         walk,
		"usage":                        usage,
		"target exists":                targetExists,
		"survives a commit's siblings": siblings,
		"concurrent":                   concurrent,
		"onto a parent":                rebase,
		"onto what is no parent":       rebaseRefused,
	} {
		t.Run(name, func(t *testing.T) {
			if why := except[name]; why != "" {
				t.Skip(why)
			}
			ctx, s := open(t)
			test(Subject{t, ctx, s})
		})
	}
}

// Subject is a snapshotter under test.
type Subject struct {
	*testing.T
	ctx context.Context
	snapshot.Snapshotter
}

func (s Subject) must(err error) {
	s.Helper()
	if err != nil {
		s.Fatal(err)
	}
}

func (s Subject) is(what string, err, class error) {
	s.Helper()
	if !errors.Is(err, class) {
		s.Errorf("%s: %v, want class %v", what, err, class)
	}
}

// in mounts and calls fn with the mounted root.
func (s Subject) in(mounts []coremount.Mount, fn func(root string)) {
	s.Helper()
	dir := s.TempDir()
	s.must(mount.All(mounts, dir))
	defer func() { s.must(mount.Unmount(dir)) }()
	fn(dir)
}

func (s Subject) prepare(key, parent string) []coremount.Mount {
	s.Helper()
	m, err := s.Prepare(s.ctx, key, parent, nil)
	s.must(err)
	return m
}

// commitFiles makes the committed snapshot name with these files on the parent.
func (s Subject) commitFiles(name, parent string, files map[string]string) {
	s.Helper()
	key := name + "-active"
	s.in(s.prepare(key, parent), func(root string) { s.write(root, files) })
	s.must(s.Commit(s.ctx, name, key, nil))
}

func (s Subject) write(root string, files map[string]string) {
	s.Helper()
	for _, name := range slices.Sorted(maps.Keys(files)) {
		path := filepath.Join(root, name)
		s.must(os.MkdirAll(filepath.Dir(path), 0o755))
		s.must(os.WriteFile(path, []byte(files[name]), 0o644))
	}
}

// tree reads all regular files below root.
func (s Subject) tree(root string) map[string]string {
	s.Helper()
	out := make(map[string]string)
	err := filepath.WalkDir(root, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		p, err := os.ReadFile(path)
		rel, _ := filepath.Rel(root, path)
		out[rel] = string(p)
		return err
	})
	s.must(err)
	return out
}

func (s Subject) hasFiles(mounts []coremount.Mount, want map[string]string) {
	s.Helper()
	s.in(mounts, func(root string) {
		s.Helper()
		if got := s.tree(root); !maps.Equal(got, want) {
			s.Errorf("files %v, want %v", got, want)
		}
	})
}

func base(s Subject) {
	m := s.prepare("active", "")
	s.in(m, func(root string) {
		if got := s.tree(root); len(got) != 0 {
			s.Errorf("a base has %v", got)
		}
		s.write(root, map[string]string{"a": "1"})
	})
	again, err := s.Mounts(s.ctx, "active")
	s.must(err)
	s.hasFiles(again, map[string]string{"a": "1"})
	info, err := s.Stat(s.ctx, "active")
	s.must(err)
	if info.Kind != snapshot.KindActive || info.Name != "active" || info.Parent != "" || info.CreatedAt.IsZero() {
		s.Errorf("info %+v", info)
	}
}

func layers(s Subject) {
	s.commitFiles("one", "", map[string]string{"a": "1", "dir/b": "2"})
	s.commitFiles("two", "one", map[string]string{"a": "changed", "dir/c": "3"})
	want := map[string]string{"a": "changed", "dir/b": "2", "dir/c": "3"}
	s.hasFiles(s.prepare("x", "two"), want)
	v, err := s.View(s.ctx, "v", "two", nil)
	s.must(err)
	s.hasFiles(v, want)
	v, err = s.View(s.ctx, "v1", "one", nil)
	s.must(err)
	s.hasFiles(v, map[string]string{"a": "1", "dir/b": "2"})
	info, err := s.Stat(s.ctx, "v")
	s.must(err)
	if info.Kind != snapshot.KindView || info.Parent != "two" {
		s.Errorf("info %+v", info)
	}
}

func manyLayers(s Subject) {
	want := make(map[string]string)
	parent := ""
	for i := range 70 { // more than fit one page as absolute paths
		name := fmt.Sprintf("layer-%d", i)
		file := fmt.Sprintf("f%d", i)
		want[file] = name
		s.commitFiles(name, parent, map[string]string{file: name})
		parent = name
	}
	s.hasFiles(s.prepare("top", parent), want)
}

func deletions(s Subject) {
	s.commitFiles("one", "", map[string]string{"gone": "", "dir/x": "", "file": "f", "keep": "k"})
	s.in(s.prepare("a", "one"), func(root string) {
		s.must(os.Remove(filepath.Join(root, "gone")))
		s.must(os.RemoveAll(filepath.Join(root, "dir")))
		s.must(os.Remove(filepath.Join(root, "file")))
		s.write(root, map[string]string{"dir/y": "new", "file/now": "a directory"})
	})
	s.must(s.Commit(s.ctx, "two", "a", nil))
	s.hasFiles(s.prepare("b", "two"), map[string]string{"dir/y": "new", "file/now": "a directory", "keep": "k"})
}

func viewIsReadOnly(s Subject) {
	s.commitFiles("one", "", map[string]string{"a": "1"})
	s.commitFiles("two", "one", map[string]string{"b": "2"})
	for _, parent := range []string{"", "one", "two"} {
		m, err := s.View(s.ctx, "view-of-"+parent, parent, nil)
		s.must(err)
		s.in(m, func(root string) {
			err := os.WriteFile(filepath.Join(root, "new"), nil, 0o644)
			s.is("write to a view of "+parent, err, syscall.EROFS)
		})
	}
}

func rootAttributes(s Subject) {
	s.in(s.prepare("a", ""), func(root string) {
		s.must(os.Chown(root, 123, 456))
		s.must(os.Chmod(root, 0o711|os.ModeSticky))
	})
	s.must(s.Commit(s.ctx, "one", "a", nil))
	s.in(s.prepare("b", "one"), func(root string) {
		fi, err := os.Stat(root)
		s.must(err)
		st := fi.Sys().(*syscall.Stat_t)
		if st.Uid != 123 || st.Gid != 456 || fi.Mode() != os.ModeDir|0o711|os.ModeSticky {
			s.Errorf("root is %v of %d:%d", fi.Mode(), st.Uid, st.Gid)
		}
	})
}

func keys(s Subject) {
	s.commitFiles("one", "", nil)
	s.prepare("active", "one")
	_, err := s.Prepare(s.ctx, "active", "one", nil)
	s.is("prepare twice", err, errdefs.ErrAlreadyExists)
	_, err = s.View(s.ctx, "one", "", nil)
	s.is("view with a committed name", err, errdefs.ErrAlreadyExists)
	_, err = s.Prepare(s.ctx, "x", "nope", nil)
	s.is("prepare on nothing", err, errdefs.ErrNotFound)
	_, err = s.Prepare(s.ctx, "x", "active", nil)
	s.is("prepare on an active one", err, errdefs.ErrInvalidArgument)
	_, err = s.Prepare(s.ctx, "", "one", nil)
	s.is("prepare without key", err, errdefs.ErrInvalidArgument)
	_, err = s.Prepare(s.ctx, "a\x00b", "one", nil)
	s.is("prepare with a null byte", err, errdefs.ErrInvalidArgument)
	_, err = s.Stat(s.ctx, "x")
	s.is("stat of what failed", err, errdefs.ErrNotFound)
	_, err = s.Mounts(s.ctx, "nope")
	s.is("mounts of nothing", err, errdefs.ErrNotFound)
	_, err = s.Usage(s.ctx, "nope")
	s.is("usage of nothing", err, errdefs.ErrNotFound)
	_, err = s.Mounts(s.ctx, "one")
	if err == nil {
		s.Error("a committed snapshot has mounts")
	}
}

func commit(s Subject) {
	s.commitFiles("one", "", nil)
	s.prepare("a", "one")
	s.is("commit to a name that is there", s.Commit(s.ctx, "one", "a", nil), errdefs.ErrAlreadyExists)
	if _, err := s.Stat(s.ctx, "a"); err != nil {
		s.Errorf("a failed commit has spent its snapshot: %v", err)
	}
	s.must(s.Commit(s.ctx, "two", "a", map[string]string{"l": "1"}))
	_, err := s.Stat(s.ctx, "a")
	s.is("stat of the committed key", err, errdefs.ErrNotFound)
	info, err := s.Stat(s.ctx, "two")
	s.must(err)
	if info.Kind != snapshot.KindCommitted || info.Parent != "one" || info.Labels["l"] != "1" {
		s.Errorf("info %+v", info)
	}
	s.is("commit of nothing", s.Commit(s.ctx, "three", "a", nil), errdefs.ErrNotFound)
	if err := s.Commit(s.ctx, "three", "two", nil); err == nil {
		s.Error("a committed snapshot can be committed")
	}
	_, err = s.View(s.ctx, "v", "two", nil)
	s.must(err)
	if err := s.Commit(s.ctx, "three", "v", nil); err == nil {
		s.Error("a view can be committed")
	}
	s.prepare("a", "two") // the key is free again
}

func remove(s Subject) {
	s.commitFiles("one", "", map[string]string{"a": "1"})
	s.commitFiles("two", "one", nil)
	s.prepare("a", "two")
	s.is("remove a parent", s.Remove(s.ctx, "two"), errdefs.ErrFailedPrecondition)
	s.is("remove a grandparent", s.Remove(s.ctx, "one"), errdefs.ErrFailedPrecondition)
	s.is("remove nothing", s.Remove(s.ctx, "nope"), errdefs.ErrNotFound)
	for _, key := range []string{"a", "two", "one"} {
		s.must(s.Remove(s.ctx, key))
		_, err := s.Stat(s.ctx, key)
		s.is("stat of "+key, err, errdefs.ErrNotFound)
	}
	s.must(s.Cleanup(s.ctx))
	s.commitFiles("one", "", map[string]string{"b": "new"})
	s.hasFiles(s.prepare("a", "one"), map[string]string{"b": "new"})
}

func labels(s Subject) {
	_, err := s.Prepare(s.ctx, "a", "", map[string]string{"x": "1", "y.z": "2"})
	s.must(err)
	update := func(labels map[string]string, paths ...string) map[string]string {
		s.Helper()
		info, err := s.Update(s.ctx, snapshot.Info{Name: "a", Labels: labels}, paths...)
		s.must(err)
		again, err := s.Stat(s.ctx, "a")
		s.must(err)
		if !maps.Equal(info.Labels, again.Labels) {
			s.Errorf("update answers %v, stat %v", info.Labels, again.Labels)
		}
		return again.Labels
	}
	for _, step := range []struct {
		labels map[string]string
		paths  []string
		want   map[string]string
	}{
		{map[string]string{"x": "3", "n": "not named"}, []string{"labels.x"}, map[string]string{"x": "3", "y.z": "2"}},
		{nil, []string{"labels.y.z"}, map[string]string{"x": "3"}},
		{map[string]string{"n": "4"}, nil, map[string]string{"n": "4"}},
	} {
		if got := update(step.labels, step.paths...); !maps.Equal(got, step.want) {
			s.Errorf("labels %v, want %v", got, step.want)
		}
	}
	_, err = s.Update(s.ctx, snapshot.Info{Name: "a"}, "parent")
	s.is("update of another field", err, errdefs.ErrInvalidArgument)
	_, err = s.Update(s.ctx, snapshot.Info{Name: "nope"})
	s.is("update of nothing", err, errdefs.ErrNotFound)
}

func walk(s Subject) {
	s.commitFiles("one", "", nil)
	s.commitFiles("two", "one", nil)
	_, err := s.Prepare(s.ctx, "a", "two", map[string]string{"k": "v"})
	s.must(err)
	_, err = s.View(s.ctx, "v", "one", nil)
	s.must(err)
	for filter, want := range map[string]string{
		"": "a one two v", "kind==committed": "one two", "kind==view": "v", "parent==one": "two v",
		`labels."k"==v`: "a", "name==two": "two",
	} {
		var filters, names []string
		if filter != "" {
			filters = []string{filter}
		}
		s.must(s.Walk(s.ctx, func(i snapshot.Info) error {
			names = append(names, i.Name)
			_, err := s.Stat(s.ctx, i.Name) // a walk holds nothing
			return err
		}, filters...))
		slices.Sort(names)
		if got := strings.Join(names, " "); got != want {
			s.Errorf("walk %q: %s, want %s", filter, got, want)
		}
	}
	stop := errors.New("stop")
	if err := s.Walk(s.ctx, func(snapshot.Info) error { return stop }); !errors.Is(err, stop) {
		s.Errorf("stopped walk: %v", err)
	}
}

func usage(s Subject) {
	s.in(s.prepare("a", ""), func(root string) {
		s.write(root, map[string]string{"big": strings.Repeat("x", 1<<20)})
		s.must(os.Link(filepath.Join(root, "big"), filepath.Join(root, "same")))
	})
	u, err := s.Usage(s.ctx, "a")
	s.must(err)
	if u.Size < 1<<20 || u.Size > 2<<20-1 || u.Inodes < 2 {
		s.Errorf("active: %+v, want one MiB once", u)
	}
	s.must(s.Commit(s.ctx, "one", "a", nil))
	u, err = s.Usage(s.ctx, "one")
	s.must(err)
	if u.Size < 1<<20 || u.Size > 2<<20-1 {
		s.Errorf("committed: %+v", u)
	}
}

func targetExists(s Subject) {
	s.commitFiles("one", "", nil)
	_, err := s.Prepare(s.ctx, "a", "", map[string]string{snapshot.LabelRef: "not there"})
	s.must(err)
	if _, err = s.Prepare(s.ctx, "b", "", map[string]string{snapshot.LabelRef: "one"}); err == nil {
		s.Skip("knows no targets by itself")
	}
	s.is("prepare for a target that is there", err, errdefs.ErrAlreadyExists)
}

func siblings(s Subject) {
	s.commitFiles("one", "", map[string]string{"a": "1"})
	x, y := s.prepare("x", "one"), s.prepare("y", "one")
	s.in(x, func(root string) { s.write(root, map[string]string{"a": "x"}) })
	s.must(s.Commit(s.ctx, "xx", "x", nil))
	s.hasFiles(y, map[string]string{"a": "1"})
	s.must(s.Remove(s.ctx, "y"))
	s.hasFiles(s.prepare("z", "xx"), map[string]string{"a": "x"})
}

func concurrent(s Subject) {
	s.commitFiles("one", "", map[string]string{"a": "1"})
	const n = 16
	done := make(chan error, n+1)
	for i := range n {
		go func() {
			key := fmt.Sprintf("c%d", i)
			_, err := s.Prepare(s.ctx, key, "one", nil)
			if err == nil && i%2 == 0 {
				err = s.Remove(s.ctx, key)
			}
			done <- err
		}()
	}
	go func() { done <- s.Cleanup(s.ctx) }()
	for range n + 1 {
		if err := <-done; err != nil {
			s.Error(err)
		}
	}
	for i := 1; i < n; i += 2 {
		m, err := s.Mounts(s.ctx, fmt.Sprintf("c%d", i))
		s.must(err)
		s.hasFiles(m, map[string]string{"a": "1"})
	}
}
