package metadata

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	containersapi "github.com/containerd/containerd/api/services/containers/v1"
	contentapi "github.com/containerd/containerd/api/services/content/v1"
	imagesapi "github.com/containerd/containerd/api/services/images/v1"
	"github.com/containerd/containerd/api/types"
	"go.etcd.io/bbolt"
	"google.golang.org/protobuf/proto"

	"gantry/libctr/core/lease"
)

// Labels that the collector goes by; containerd's.
const (
	labelGC     = "containerd.io/gc."
	labelRoot   = labelGC + "root"   // and whatever begins so, on content, snapshots: a root
	labelExpire = labelGC + "expire" // on leases, images: RFC 3339 time from which it is none
	labelFlat   = labelGC + "flat"   // on leases: hold the resources, not what their labels refer to
	labelRef    = labelGC + "ref."   // content[./…], image[./…], snapshot.<snapshotter>[/…] = name
	labelBack   = labelGC + "bref."  // the same the other way, container[./…] too: kept while the named is
)

// loadGraph reads all namespaces, and in boot, unless it is nil, more of their
// containers. Expiry goes by now.
func loadGraph(tx, boot *bbolt.Tx, now time.Time) (*graph, error) {
	g := &graph{records: make(map[node]record), back: make(map[node][]node)}
	err := tx.Bucket(bucketV1).ForEachBucket(func(ns []byte) error {
		l := loader{graph: g, tx: tx, boot: boot, ns: string(ns), now: now, conditions: new(conditions)}
		for _, load := range []func() error{l.containers, l.images, l.content, l.snapshots, l.sandboxes, l.leases} {
			if err := load(); err != nil {
				return fmt.Errorf("namespace %q: %w", ns, err)
			}
		}
		l.conditions.meet(func(of, kept node) { g.back[of] = append(g.back[of], kept) })
		return nil
	})
	return g, err
}

// loader adds the records of one namespace.
type loader struct {
	*graph
	tx         *bbolt.Tx
	boot       *bbolt.Tx
	ns         string
	now        time.Time
	conditions *conditions
}

func (l loader) node(kind nodeKind, key string) node {
	return node{kind: kind, namespace: l.ns, key: key}
}

func (l loader) snapshot(snapshotter, key string) node {
	return node{kind: kindSnapshot, namespace: l.ns, snapshotter: snapshotter, key: key}
}

// add notes a record and what its labels say.
func (l loader) add(n node, labels map[string]string, own ...node) {
	r := record{own: own}
	for k, v := range labels {
		if !strings.HasPrefix(k, labelGC) {
			continue
		}
		if name, ok := strings.CutPrefix(k, labelRef); ok {
			if to, ok := l.reference(name, v); ok && to.kind != kindContainer {
				r.labels = append(r.labels, to)
			}
		} else if name, ok := strings.CutPrefix(k, labelBack); ok {
			if of, ok := l.reference(name, v); ok {
				l.back[of] = append(l.back[of], n)
			}
		} else if name, ok := strings.CutPrefix(k, labelCond); ok {
			l.conditions.add(l, n, name, v)
		}
	}
	l.records[n] = r
}

// addRooted is add for what gc.root makes a root.
func (l loader) addRooted(n node, labels map[string]string, own ...node) {
	for k := range labels {
		if strings.HasPrefix(k, labelRoot) {
			l.roots = append(l.roots, root{node: n})
			break
		}
	}
	l.add(n, labels, own...)
}

var referenceKinds = []struct {
	name string
	kind nodeKind
}{{"content", kindContent}, {"image", kindImage}, {"container", kindContainer}}

// reference reads what follows gc.ref. or gc.bref.: a kind, perhaps a
// snapshotter, and after a dot or slash any name that tells such labels apart.
func (l loader) reference(rest, value string) (node, bool) {
	if snapshotter, ok := strings.CutPrefix(rest, "snapshot."); ok {
		snapshotter, _, _ = strings.Cut(snapshotter, "/")
		return l.snapshot(snapshotter, value), true
	}
	for _, k := range referenceKinds {
		if after, ok := strings.CutPrefix(rest, k.name); ok && (after == "" || after[0] == '.' || after[0] == '/') {
			return l.node(k.kind, value), true
		}
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
		l.roots = append(l.roots, root{node: n})
		var own []node
		if c.Snapshotter != "" {
			own = append(own, l.snapshot(c.Snapshotter, c.SnapshotKey))
		}
		l.add(n, c.Labels, own...)
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
			l.roots = append(l.roots, root{node: n})
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
			n := l.snapshot(string(snapshotter), key)
			var own []node
			if r.Parent != "" {
				own = append(own, l.snapshot(string(snapshotter), r.Parent))
			}
			l.addRooted(n, r.Labels, own...)
			l.conditions.value(n, r.Labels)
			return nil
		})
	})
}

// sandboxes are no nodes: nothing refers to them, and what their labels refer to is held.
func (l loader) sandboxes() error {
	return each(bucket(l.tx, l.ns, bucketSandboxes), func(id string, v []byte) error {
		var s types.Sandbox
		if err := proto.Unmarshal(v, &s); err != nil {
			return fmt.Errorf("sandbox %q: %w", id, err)
		}
		for k, v := range s.Labels {
			name, ok := strings.CutPrefix(k, labelRef)
			if !ok {
				continue
			}
			if to, ok := l.reference(name, v); ok {
				l.roots = append(l.roots, root{node: to})
			}
		}
		return nil
	})
}

func (l loader) leases() error {
	return eachLease(l.tx, l.ns, func(le lease.Lease, resources *bbolt.Bucket) error {
		n := l.node(kindLease, le.ID)
		l.records[n] = record{}
		if l.expired(le.Labels) {
			return nil
		}
		l.roots = append(l.roots, root{node: n})
		_, flat := le.Labels[labelFlat]
		return eachResource(resources, func(r lease.Resource) {
			if held, ok := l.resource(r); ok {
				l.roots = append(l.roots, root{held, flat})
			}
		})
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

// expired says whether the labels set an expiry that has passed, and notes one that is
// to come; one that does not parse does not count.
func (l loader) expired(labels map[string]string) bool {
	text, ok := labels[labelExpire]
	if !ok {
		return false
	}
	at, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return false
	}
	if l.now.After(at) {
		return true
	}
	if l.graph.expires.IsZero() || at.Before(l.graph.expires) {
		l.graph.expires = at
	}
	return false
}
