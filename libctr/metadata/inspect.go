package metadata

import (
	"encoding/json"
	"fmt"
	"strings"

	containersapi "github.com/containerd/containerd/api/services/containers/v1"
	contentapi "github.com/containerd/containerd/api/services/content/v1"
	imagesapi "github.com/containerd/containerd/api/services/images/v1"
	leasesapi "github.com/containerd/containerd/api/services/leases/v1"
	"github.com/containerd/containerd/api/types"
	"go.etcd.io/bbolt"
	"google.golang.org/protobuf/proto"

	"gantry/api/database"
	"gantry/libctr/core/container"
	"gantry/libctr/core/content"
	"gantry/libctr/core/image"
	"gantry/libctr/core/lease"
	"gantry/libctr/core/snapshot"
	"gantry/libctr/core/wire"
)

// Inspection is what a file of records says.
type Inspection struct {
	Version, Newest int
	Boot            string // the boot that a file of the boot is of
	Wrong           []error
	Namespaces      []Namespace
}

// Namespace has the records of one namespace.
type Namespace struct {
	Name       string
	Containers []container.Container
	Images     []image.Image
	Blobs      []content.Info
	Snapshots  []Snapshot
	Children   []Child
	Leases     []Lease
	Ingests    []string
	Sandboxes  []string
	Unreadable []error // records that cannot be decoded
}

// Snapshot is a record of a snapshot, and its key in the backend.
type Snapshot struct {
	snapshot.Info
	Snapshotter, Backend string
}

// Child is an entry of the index that says which snapshots have children.
type Child struct{ Snapshotter, Parent, Key string }

// Lease is a lease and its resources.
type Lease struct {
	lease.Lease
	Resources []lease.Resource
}

// Inspect reads a file of records, durable or of the boot, that no process has open,
// without changing it.
func Inspect(path string) (in Inspection, err error) {
	schema := database.Schema{Steps: migrations}
	in.Newest = schema.Newest()
	err = database.Inspect(path, schema, func(tx *bbolt.Tx, version int, wrong []error) error {
		in.Version, in.Wrong = version, wrong
		if b := tx.Bucket([]byte("boot")); b != nil {
			in.Boot = string(b.Get([]byte("id")))
		}
		root := tx.Bucket(bucketV1)
		if root == nil {
			return nil
		}
		return root.ForEachBucket(func(ns []byte) error {
			n := Namespace{Name: string(ns)}
			n.read(tx)
			in.Namespaces = append(in.Namespaces, n)
			return nil
		})
	})
	return in, err
}

// read takes all records; what cannot be decoded is noted.
func (n *Namespace) read(tx *bbolt.Tx) {
	read(n, tx, bucketContainers, new(containersapi.Container), func(m *containersapi.Container) {
		n.Containers = append(n.Containers, wire.FromContainer(m))
	})
	read(n, tx, bucketImages, new(imagesapi.Image), func(m *imagesapi.Image) { n.Images = append(n.Images, wire.FromImage(m)) })
	read(n, tx, bucketContent, new(contentapi.Info), func(m *contentapi.Info) { n.Blobs = append(n.Blobs, wire.FromContentInfo(m)) })
	read(n, tx, bucketSandboxes, new(types.Sandbox), func(m *types.Sandbox) { n.Sandboxes = append(n.Sandboxes, m.GetSandboxID()) })
	n.unreadable(eachIngest(tx, n.Name, func(ref string, _ ingestRecord) { n.Ingests = append(n.Ingests, ref) }))
	n.readSnapshots(tx)
	n.readLeases(tx)
}

func read[M proto.Message](n *Namespace, tx *bbolt.Tx, kind string, m M, fn func(M)) {
	n.unreadable(each(bucket(tx, n.Name, kind), func(key string, v []byte) error {
		proto.Reset(m)
		if err := proto.Unmarshal(v, m); err != nil {
			n.unreadable(fmt.Errorf("%s %q: %w", kind, key, err))
			return nil
		}
		fn(m)
		return nil
	}))
}

func (n *Namespace) unreadable(err error) {
	if err != nil {
		n.Unreadable = append(n.Unreadable, err)
	}
}

func (n *Namespace) readSnapshots(tx *bbolt.Tx) {
	all := bucket(tx, n.Name, bucketSnapshots)
	if all == nil {
		return
	}
	n.unreadable(all.ForEachBucket(func(name []byte) error {
		one := all.Bucket(name)
		_ = each(one.Bucket([]byte(bucketKeys)), func(key string, v []byte) error {
			var r snapshotRecord
			if err := json.Unmarshal(v, &r); err != nil {
				n.unreadable(fmt.Errorf("snapshot %q of %s: %w", key, name, err))
				return nil
			}
			n.Snapshots = append(n.Snapshots, Snapshot{r.info(key), string(name), r.Backend})
			return nil
		})
		return each(one.Bucket([]byte(bucketChildren)), func(k string, _ []byte) error {
			parent, key, _ := strings.Cut(k, "\x00")
			n.Children = append(n.Children, Child{string(name), parent, key})
			return nil
		})
	}))
}

func (n *Namespace) readLeases(tx *bbolt.Tx) {
	all := bucket(tx, n.Name, bucketLeases)
	if all == nil {
		return
	}
	n.unreadable(all.ForEachBucket(func(id []byte) error {
		var m leasesapi.Lease
		found, err := get(all.Bucket(id), keyLease, &m)
		b := all.Bucket(id).Bucket([]byte(bucketResources))
		if err != nil || !found || b == nil {
			n.unreadable(fmt.Errorf("lease %q is not whole: %v", id, err))
			return nil
		}
		l := Lease{Lease: wire.FromLease(&m)}
		n.unreadable(eachResource(b, func(r lease.Resource) { l.Resources = append(l.Resources, r) }))
		n.Leases = append(n.Leases, l)
		return nil
	}))
}
