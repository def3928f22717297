package metadata

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	containersapi "github.com/containerd/containerd/api/services/containers/v1"
	contentapi "github.com/containerd/containerd/api/services/content/v1"
	imagesapi "github.com/containerd/containerd/api/services/images/v1"
	"go.etcd.io/bbolt"
	"google.golang.org/protobuf/proto"

	"gantry/libctr/core/lease"
)

// Labels that the collector goes by; containerd's.
const (
	labelRoot   = "containerd.io/gc.root"   // on content, snapshots: a root
	labelExpire = "containerd.io/gc.expire" // on leases, images: RFC 3339 time from which it is none
	labelFlat   = "containerd.io/gc.flat"   // on leases: hold the resources, not what they refer to
	labelRef    = "containerd.io/gc.ref."   // content[./…], image[./…], snapshot.<snapshotter>[/…] = name
	labelBack   = "containerd.io/gc.bref."  // the same the other way: kept while the named is
)

type nodeKind uint8

const (
	kindContent nodeKind = iota
	kindSnapshot
	kindImage
	kindContainer
	kindLease
)

// node is a record as the collector sees it.
type node struct {
	kind        nodeKind
	namespace   string
	snapshotter string // of snapshots
	key         string
}

func (n node) String() string {
	return fmt.Sprintf("%s %s/%s%s", [...]string{"content", "snapshot", "image", "container", "lease"}[n.kind],
		n.namespace, n.snapshotter, n.key)
}

// graph is all records with what they refer to, and what is held from outside.
type graph struct {
	refs  map[node][]node // every record; a referred-to one need not be there
	back  map[node][]node // what is kept while the key is
	roots []node
	flat  []node // held without what they refer to, except a snapshot's parents
}

// dead lists the records that are not reached, in an order of their own.
func (g *graph) dead() []node {
	reached := make(map[node]bool, len(g.refs))
	todo := slices.Clone(g.roots)
	for len(todo) > 0 {
		n := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		refs, exists := g.refs[n]
		if reached[n] || !exists {
			continue
		}
		reached[n] = true
		todo = append(append(todo, refs...), g.back[n]...)
	}
	for _, n := range g.flat {
		g.reachFlat(n, reached)
	}
	var dead []node
	for n := range g.refs {
		if !reached[n] && n.kind != kindContainer {
			dead = append(dead, n)
		}
	}
	slices.SortFunc(dead, func(a, b node) int {
		return cmp.Or(cmp.Compare(a.kind, b.kind), strings.Compare(a.namespace, b.namespace),
			strings.Compare(a.snapshotter, b.snapshotter), strings.Compare(a.key, b.key))
	})
	return dead
}

// reachFlat reaches n and, for a snapshot, its parents: the first of its refs.
func (g *graph) reachFlat(n node, reached map[node]bool) {
	for {
		refs, exists := g.refs[n]
		if !exists || reached[n] && n.kind != kindSnapshot {
			return
		}
		reached[n] = true
		if n.kind != kindSnapshot || len(refs) == 0 || refs[0].kind != kindSnapshot || refs[0].key == "" {
			return
		}
		n = refs[0]
	}
}

// loadGraph reads all namespaces, and in boot, unless it is nil, more of their
// containers. Expiry goes by now.
func loadGraph(tx, boot *bbolt.Tx, now time.Time) (*graph, error) {
	g := &graph{refs: make(map[node][]node), back: make(map[node][]node)}
	err := tx.Bucket(bucketV1).ForEachBucket(func(ns []byte) error {
		l := loader{graph: g, tx: tx, boot: boot, ns: string(ns), now: now}
		for _, load := range []func() error{l.containers, l.images, l.content, l.snapshots, l.leases} {
			if err := load(); err != nil {
				return fmt.Errorf("namespace %q: %w", ns, err)
			}
		}
		return nil
	})
	return g, err
}

// loader adds the records of one namespace.
type loader struct {
	*graph
	tx   *bbolt.Tx
	boot *bbolt.Tx
	ns   string
	now  time.Time
}

func (l loader) node(kind nodeKind, key string) node {
	return node{kind: kind, namespace: l.ns, key: key}
}

func (l loader) snapshot(snapshotter, key string) node {
	return node{kind: kindSnapshot, namespace: l.ns, snapshotter: snapshotter, key: key}
}

// add notes a record: its labels' references after those of its own fields.
func (l loader) add(n node, labels map[string]string, refs ...node) {
	for k, v := range labels {
		if rest, ok := strings.CutPrefix(k, labelRef); ok {
			if to, ok := l.reference(rest, v); ok {
				refs = append(refs, to)
			}
		} else if rest, ok := strings.CutPrefix(k, labelBack); ok {
			if from, ok := l.reference(rest, v); ok {
				l.back[from] = append(l.back[from], n)
			}
		}
	}
	l.refs[n] = refs
}

// reference reads what follows gc.ref. or gc.bref.: a kind, perhaps a
// snapshotter, and after a dot or slash any name that tells such labels apart.
func (l loader) reference(rest, value string) (node, bool) {
	for name, kind := range map[string]nodeKind{"content": kindContent, "image": kindImage, "container": kindContainer} {
		if after, ok := strings.CutPrefix(rest, name); ok && (after == "" || after[0] == '.' || after[0] == '/') {
			return l.node(kind, value), true
		}
	}
	if snapshotter, ok := strings.CutPrefix(rest, "snapshot."); ok {
		snapshotter, _, _ = strings.Cut(snapshotter, "/")
		return l.snapshot(snapshotter, value), true
	}
	return node{}, false
}

func (l loader) containers() error {
	err := l.containersIn(l.tx)
	if err == nil && l.boot != nil {
		err = l.containersIn(l.boot)
	}
	return err
}

func (l loader) containersIn(tx *bbolt.Tx) error {
	return each(bucket(tx, l.ns, bucketContainers), func(id string, v []byte) error {
		var c containersapi.Container
		if err := proto.Unmarshal(v, &c); err != nil {
			return fmt.Errorf("container %q: %w", id, err)
		}
		n := l.node(kindContainer, id)
		l.roots = append(l.roots, n)
		var refs []node
		if c.Snapshotter != "" {
			refs = append(refs, l.snapshot(c.Snapshotter, c.SnapshotKey))
		}
		l.add(n, c.Labels, refs...)
		return nil
	})
}

func (l loader) images() error {
	return each(bucket(l.tx, l.ns, bucketImages), func(name string, v []byte) error {
		var i imagesapi.Image
		if err := proto.Unmarshal(v, &i); err != nil {
			return fmt.Errorf("image %q: %w", name, err)
		}
		n := l.node(kindImage, name)
		if !l.expired(i.Labels) {
			l.roots = append(l.roots, n)
		}
		l.add(n, i.Labels, l.node(kindContent, i.GetTarget().GetDigest()))
		return nil
	})
}

func (l loader) content() error {
	return each(bucket(l.tx, l.ns, bucketContent), func(d string, v []byte) error {
		var i contentapi.Info
		if err := proto.Unmarshal(v, &i); err != nil {
			return fmt.Errorf("content %s: %w", d, err)
		}
		l.addRooted(l.node(kindContent, d), i.Labels)
		return nil
	})
}

func (l loader) snapshots() error {
	all := bucket(l.tx, l.ns, bucketSnapshots)
	if all == nil {
		return nil
	}
	return all.ForEachBucket(func(snapshotter []byte) error {
		return each(all.Bucket(snapshotter).Bucket([]byte(bucketKeys)), func(key string, v []byte) error {
			var r snapshotRecord
			if err := json.Unmarshal(v, &r); err != nil {
				return fmt.Errorf("snapshot %q: %w", key, err)
			}
			// The parent comes first, even if there is none: see reachFlat.
			l.addRooted(l.snapshot(string(snapshotter), key), r.Labels, l.snapshot(string(snapshotter), r.Parent))
			return nil
		})
	})
}

// addRooted is add for what gc.root makes a root.
func (l loader) addRooted(n node, labels map[string]string, refs ...node) {
	if _, ok := labels[labelRoot]; ok {
		l.roots = append(l.roots, n)
	}
	l.add(n, labels, refs...)
}

func (l loader) leases() error {
	return eachLease(l.tx, l.ns, func(le lease.Lease, resources *bbolt.Bucket) error {
		n := l.node(kindLease, le.ID)
		l.refs[n] = nil
		if l.expired(le.Labels) {
			return nil
		}
		l.roots = append(l.roots, n)
		var held []node
		err := eachResource(resources, func(r lease.Resource) {
			if h, ok := l.resource(r); ok {
				held = append(held, h)
			}
		})
		if _, flat := le.Labels[labelFlat]; flat {
			l.flat = append(l.flat, held...)
		} else {
			l.refs[n] = held
		}
		return err
	})
}

func (l loader) resource(r lease.Resource) (node, bool) {
	switch r.Type {
	case typeContent:
		return l.node(kindContent, r.ID), true
	case typeImages:
		return l.node(kindImage, r.ID), true
	}
	if snapshotter, ok := strings.CutPrefix(r.Type, typeSnapshots); ok {
		return l.snapshot(snapshotter, r.ID), true
	}
	return node{}, false // ingests are looked up by sweepIngests
}

// expired says whether the labels set an expiry that has passed; one that does
// not parse does not count.
func (l loader) expired(labels map[string]string) bool {
	at, err := time.Parse(time.RFC3339, labels[labelExpire])
	return err == nil && l.now.After(at)
}

// leasedIngests lists the backend refs that some lease holds.
func (s *contentStore) leasedIngests() (map[string]bool, error) {
	out := make(map[string]bool)
	err := s.db.view(func(tx *bbolt.Tx) error {
		return tx.Bucket(bucketV1).ForEachBucket(func(ns []byte) error {
			return eachLease(tx, string(ns), func(_ lease.Lease, b *bbolt.Bucket) error {
				return eachResource(b, func(r lease.Resource) {
					if r.Type == typeIngests {
						out[backendRef(string(ns), r.ID)] = true
					}
				})
			})
		})
	})
	return out, err
}
