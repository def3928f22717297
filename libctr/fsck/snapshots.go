package fsck

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"gantry/libctr/core/snapshot"
	"gantry/libctr/metadata"
	"gantry/libctr/snapshot/storage"
)

const snapshotterPrefix = "io.containerd.snapshotter.v1."

// snapshotter is one backend's directory, and the core's records of it.
type snapshotter struct {
	*checker
	name, root string
	inside     storage.Inspection
	records    map[string]recorded // by the backend's key
}

type recorded struct {
	metadata.Snapshot
	namespace string
}

// snapshotters reads the directories of all there are.
func (c *checker) snapshotters(records metadata.Inspection) (out []*snapshotter, err error) {
	roots := map[string]string{}
	found, err := filepath.Glob(filepath.Join(c.Root, snapshotterPrefix+"*"))
	if err != nil {
		return nil, err
	}
	for _, root := range found {
		if _, err := os.Lstat(filepath.Join(root, "metadata.db")); err == nil {
			roots[strings.TrimPrefix(filepath.Base(root), snapshotterPrefix)] = root
		}
	}
	for name, root := range c.Snapshotters {
		roots[name] = root
	}
	for name, root := range roots {
		s := &snapshotter{checker: c, name: name, root: root, records: map[string]recorded{}}
		s.inside, err = storage.Inspect(root)
		if ok, err := c.readable(filepath.Join(root, "metadata.db"), err); err != nil {
			return nil, err
		} else if ok {
			out = append(out, s)
		}
	}
	for _, ns := range records.Namespaces {
		for _, r := range ns.Snapshots {
			if _, ok := roots[r.Snapshotter]; !ok {
				c.find(Finding{Class: Lost, Kind: "snapshot", Namespace: ns.Name, Name: qualified(r.Snapshotter, r.Name),
					Text: "its snapshotter has no directory"})
			}
			for _, s := range out {
				if s.name == r.Snapshotter {
					s.add(ns.Name, r)
				}
			}
		}
	}
	return out, nil
}

func (s *snapshotter) add(ns string, r metadata.Snapshot) {
	if other, twice := s.records[r.Backend]; twice {
		s.find(Finding{Class: Wrong, Kind: "snapshot", Namespace: ns, Name: qualified(s.name, r.Name),
			Text: "is the same in the backend as " + other.namespace + "/" + other.Name})
	}
	s.records[r.Backend] = recorded{r, ns}
}

func (s *snapshotter) check() {
	db := filepath.Join(s.root, "metadata.db")
	s.database(db, s.inside.Version, s.inside.Newest, s.inside.Wrong)
	for _, u := range s.inside.Unreadable {
		s.find(Finding{Class: Wrong, Kind: "database", Path: db, Text: u.Error()})
	}
	backend := map[string]storage.Record{}
	for _, r := range s.inside.Records {
		backend[r.Name] = r
	}
	for key, r := range s.records {
		s.checkRecord(r, key, backend)
	}
	if len(s.inside.Unreadable) == 0 {
		s.checkBackend(backend)
	}
}

// checkRecord compares one of the core's records with the backend's.
func (s *snapshotter) checkRecord(r recorded, key string, backend map[string]storage.Record) {
	f := Finding{Class: Wrong, Kind: "snapshot", Namespace: r.namespace, Name: qualified(s.name, r.Name)}
	b, ok := backend[key]
	if !ok {
		f.Class, f.Text = Lost, "the snapshotter does not have "+key
		s.find(f)
		return
	}
	if b.Kind != r.Kind {
		f.Text = "is " + kindNames[r.Kind] + ", and " + kindNames[b.Kind] + " in the snapshotter"
		s.find(f)
	}
	parent := s.records[b.Parent]
	if b.Parent != "" && (parent.Name != r.Parent || parent.namespace != r.namespace) || b.Parent == "" && r.Parent != "" {
		f.Text = "its parent is " + r.Parent + ", and " + b.Parent + " in the snapshotter"
		s.find(f)
	}
}

// checkBackend checks the snapshotter's records, directories and index with each other.
func (s *snapshotter) checkBackend(backend map[string]storage.Record) {
	ids := map[string]string{}
	for key, b := range backend {
		dir := strconv.FormatUint(b.ID, 10)
		f := Finding{Kind: "snapshot", Name: qualified(s.name, key), Path: filepath.Join(s.root, "snapshots", dir)}
		say := func(class Class, text string) {
			f.Class, f.Text = class, text
			s.find(f)
		}
		if r, ok := s.records[key]; !ok {
			say(Orphan, "no namespace has a record of it")
		} else {
			f.Namespace, f.Name = r.namespace, qualified(s.name, r.Name)
		}
		if other, twice := ids[dir]; twice {
			say(Wrong, "has the directory of "+other)
		}
		ids[dir] = key
		if st, err := os.Lstat(f.Path); err != nil || !st.IsDir() {
			say(Lost, "its directory is not there")
		} else if s.name == "overlayfs" {
			for _, sub := range overlayDirs(b.Kind) {
				if st, err := os.Lstat(filepath.Join(f.Path, sub)); err != nil || !st.IsDir() {
					say(Lost, "its directory has no "+sub)
				}
			}
		}
		if p, ok := backend[b.Parent]; b.Parent != "" && !ok {
			say(Lost, "its parent "+b.Parent+" is not there")
		} else if ok && p.Kind != snapshot.KindCommitted {
			say(Wrong, "its parent "+b.Parent+" is not committed")
		}
	}
	for _, dir := range s.inside.Dirs {
		if _, ok := ids[dir]; !ok {
			s.find(Finding{Class: Orphan, Kind: "snapshot", Name: qualified(s.name, dir), Path: filepath.Join(s.root, "snapshots", dir),
				Text: "the directory has no record"})
		}
	}
	s.checkIndex(backend)
}

var kindNames = map[snapshot.Kind]string{snapshot.KindView: "a view", snapshot.KindActive: "active", snapshot.KindCommitted: "committed"}

func overlayDirs(k snapshot.Kind) []string {
	if k == snapshot.KindActive {
		return []string{"fs", "work"}
	}
	return []string{"fs"}
}

func (s *snapshotter) checkIndex(backend map[string]storage.Record) {
	indexed := map[storage.Child]bool{}
	for _, e := range s.inside.Children {
		indexed[e] = true
		if b, ok := backend[e.Key]; !ok || b.Parent != e.Parent {
			s.find(Finding{Class: Wrong, Kind: "snapshot", Name: qualified(s.name, e.Parent), Text: "the snapshotter's index has a child " + e.Key + " that is none"})
		}
	}
	for key, b := range backend {
		if b.Parent != "" && !indexed[storage.Child{Parent: b.Parent, Key: key}] {
			s.find(Finding{Class: Wrong, Kind: "snapshot", Name: qualified(s.name, key), Text: "the snapshotter's index of children of " + b.Parent + " lacks it"})
		}
	}
}
