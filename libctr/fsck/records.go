package fsck

import (
	"strings"

	"gantry/libctr/core/snapshot"
	"gantry/libctr/metadata"
)

// names are the records of one namespace, for a look whether one is there.
type names struct {
	blobs, images map[string]bool
	snapshots     map[string]metadata.Snapshot // by snapshotter:key
}

func namesOf(ns metadata.Namespace) names {
	n := names{map[string]bool{}, map[string]bool{}, map[string]metadata.Snapshot{}}
	for _, b := range ns.Blobs {
		n.blobs[b.Digest.String()] = true
	}
	for _, i := range ns.Images {
		n.images[i.Name] = true
	}
	for _, s := range ns.Snapshots {
		n.snapshots[qualified(s.Snapshotter, s.Name)] = s
	}
	return n
}

func qualified(snapshotter, key string) string { return snapshotter + ":" + key }

// namespaces checks what records say of each other.
func (c *checker) namespaces(records, boot metadata.Inspection) {
	all := map[string]names{}
	durable := map[string]bool{} // containers, as <ns>/<id>
	for _, ns := range records.Namespaces {
		n := namesOf(ns)
		all[ns.Name] = n
		for _, ct := range ns.Containers {
			durable[ns.Name+"/"+ct.ID] = true
		}
		c.containers(ns, n)
		c.images(ns, n)
		c.leases(ns, n)
		c.parents(ns, n)
	}
	for _, ns := range boot.Namespaces {
		c.containers(ns, all[ns.Name])
		for _, ct := range ns.Containers {
			if durable[ns.Name+"/"+ct.ID] {
				c.find(Finding{Class: Wrong, Kind: "container", Namespace: ns.Name, Name: ct.ID, Text: "has two records, a durable one and one of the boot"})
			}
		}
	}
}

func (c *checker) containers(ns metadata.Namespace, n names) {
	for _, ct := range ns.Containers {
		if ct.SnapshotKey == "" {
			continue
		}
		if _, ok := n.snapshots[qualified(ct.Snapshotter, ct.SnapshotKey)]; !ok {
			c.find(Finding{Class: Dangling, Kind: "container", Namespace: ns.Name, Name: ct.ID,
				Text: "its snapshot " + qualified(ct.Snapshotter, ct.SnapshotKey) + " has no record"})
		}
	}
}

func (c *checker) images(ns metadata.Namespace, n names) {
	for _, i := range ns.Images {
		if d := i.Target.Digest.String(); !n.blobs[d] {
			c.find(Finding{Class: Dangling, Kind: "image", Namespace: ns.Name, Name: i.Name, Text: "its target " + d + " has no record"})
		}
	}
}

func (c *checker) leases(ns metadata.Namespace, n names) {
	for _, l := range ns.Leases {
		for _, r := range l.Resources {
			there := true
			switch kind, snapshotter, _ := strings.Cut(r.Type, "/"); kind {
			case "content":
				there = n.blobs[r.ID]
			case "images":
				there = n.images[r.ID]
			case "snapshots":
				_, there = n.snapshots[qualified(snapshotter, r.ID)]
			}
			if !there {
				c.find(Finding{Class: Dangling, Kind: "lease", Namespace: ns.Name, Name: l.ID, Text: "its resource " + r.Type + " " + r.ID + " has no record"})
			}
		}
	}
}

// parents checks the tree of snapshots, and the index of its edges.
func (c *checker) parents(ns metadata.Namespace, n names) {
	indexed := map[string]bool{}
	key := func(snapshotter, parent, child string) string {
		return strings.Join([]string{snapshotter, parent, child}, "\x00")
	}
	for _, e := range ns.Children {
		indexed[key(e.Snapshotter, e.Parent, e.Key)] = true
		if s, ok := n.snapshots[qualified(e.Snapshotter, e.Key)]; !ok || s.Parent != e.Parent {
			c.find(Finding{Class: Wrong, Kind: "snapshot", Namespace: ns.Name, Name: qualified(e.Snapshotter, e.Parent),
				Text: "the index has a child " + e.Key + " that is none"})
		}
	}
	for name, s := range n.snapshots {
		if s.Parent == "" {
			continue
		}
		f := Finding{Class: Wrong, Kind: "snapshot", Namespace: ns.Name, Name: name}
		if !indexed[key(s.Snapshotter, s.Parent, s.Name)] {
			f.Text = "the index of children of " + s.Parent + " lacks it"
			c.find(f)
		}
		p, ok := n.snapshots[qualified(s.Snapshotter, s.Parent)]
		switch {
		case !ok:
			f.Class, f.Text = Lost, "its parent "+s.Parent+" has no record"
			c.find(f)
		case p.Kind != snapshot.KindCommitted:
			f.Text = "its parent " + s.Parent + " is not committed"
			c.find(f)
		case n.circular(s):
			f.Text = "is among its own parents"
			c.find(f)
		}
	}
}

func (n names) circular(s metadata.Snapshot) bool {
	first := s.Name
	for range len(n.snapshots) {
		p, ok := n.snapshots[qualified(s.Snapshotter, s.Parent)]
		if !ok {
			return false
		}
		if p.Name == first {
			return true
		}
		s = p
	}
	return true // it leads into a circle
}
