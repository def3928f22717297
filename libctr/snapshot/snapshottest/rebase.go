package snapshottest

import (
	"path/filepath"

	"golang.org/x/sys/unix"

	"gantry/api/errdefs"
	"gantry/libctr/core/snapshot"
)

// onto commits key as name onto the parent; false where the snapshotter can't.
func (s Subject) onto(name, key, parent string) (bool, error) {
	r, ok := s.Snapshotter.(snapshot.Rebaser)
	if !ok {
		return false, nil
	}
	err := r.CommitOnto(s.ctx, name, key, parent, map[string]string{"a": "b"})
	return !errdefs.IsNotImplemented(err), err
}

// rebase puts a snapshot that was filled as an overlay's upper directory onto a parent.
func rebase(s Subject) {
	s.commitFiles("base", "", map[string]string{"d/a": "1", "e/b": "2", "f": "3", "g": "4"})
	s.commitFiles("middle", "base", map[string]string{"g": "5", "h": "6"})
	mounts := s.prepare("alone", "")
	if len(mounts) != 1 || mounts[0].Type != "bind" {
		s.Fatalf("a snapshot without a parent has mounts %v", mounts)
	}
	upper := mounts[0].Source
	s.write(upper, map[string]string{"d/c": "7", "e/b2": "8"})
	s.must(unix.Setxattr(filepath.Join(upper, "e"), "trusted.overlay.opaque", []byte("y"), 0))
	s.must(unix.Mknod(filepath.Join(upper, "f"), unix.S_IFCHR, 0))
	ok, err := s.onto("top", "alone", "middle")
	if !ok {
		if i, err := s.Stat(s.ctx, "alone"); err != nil || i.Kind != snapshot.KindActive || i.Parent != "" {
			s.Errorf("what could not be put onto a parent is %+v, %v", i, err)
		}
		return
	}
	s.must(err)
	i, err := s.Stat(s.ctx, "top")
	s.must(err)
	if i.Parent != "middle" || i.Kind != snapshot.KindCommitted || i.Labels["a"] != "b" {
		s.Errorf("it is %+v", i)
	}
	_, err = s.Stat(s.ctx, "alone")
	s.is("the active one", err, errdefs.ErrNotFound)
	s.is("remove the parent", s.Remove(s.ctx, "middle"), errdefs.ErrFailedPrecondition)
	want := map[string]string{"d/a": "1", "d/c": "7", "e/b2": "8", "g": "5", "h": "6"}
	view, err := s.View(s.ctx, "view", "top", nil)
	s.must(err)
	s.hasFiles(view, want)
	s.hasFiles(s.prepare("next", "top"), want)
}

// rebaseRefused commits onto what can't be a parent.
func rebaseRefused(s Subject) {
	s.commitFiles("base", "", map[string]string{"a": "1"})
	s.commitFiles("other", "", map[string]string{"b": "1"})
	s.prepare("active", "")
	s.prepare("placed", "base")
	if ok, _ := s.onto("probe", "active", "nobody"); !ok {
		return
	}
	for _, c := range []struct {
		key, parent string
		class       error
	}{
		{"active", "nobody", errdefs.ErrNotFound},
		{"active", "placed", errdefs.ErrFailedPrecondition},
		{"placed", "other", errdefs.ErrInvalidArgument},
		{"nobody", "base", errdefs.ErrNotFound},
		{"base", "other", errdefs.ErrFailedPrecondition},
	} {
		_, err := s.onto("name", c.key, c.parent)
		s.is(c.key+" onto "+c.parent, err, c.class)
	}
	if i, err := s.Stat(s.ctx, "active"); err != nil || i.Parent != "" {
		s.Errorf("after refusals it is %+v, %v", i, err)
	}
	_, err := s.onto("same", "placed", "base")
	s.must(err)
	_, err = s.onto("same", "active", "base")
	s.is("a name twice", err, errdefs.ErrAlreadyExists)
}
