package metadata

import (
	"context"
	"crypto/rand"
	"slices"
	"strings"

	leasesapi "github.com/containerd/containerd/api/services/leases/v1"
	"github.com/opencontainers/go-digest"
	"go.etcd.io/bbolt"

	"gantry/api/errdefs"
	"gantry/api/failpoint"
	"gantry/libctr/core/lease"
	"gantry/libctr/core/wire"
	"gantry/libctr/label"
)

const (
	bucketLeases    = "leases"
	bucketResources = "resources"
	keyLease        = "lease"

	typeContent   = "content"
	typeIngests   = "ingests"
	typeImages    = "images"
	typeSnapshots = "snapshots/" // and the snapshotter's name
)

type leaseManager struct{ db *DB }

var _ lease.Manager = leaseManager{}

func (m leaseManager) Create(ctx context.Context, id string, labels map[string]string) (lease.Lease, error) {
	l := lease.Lease{ID: id, Labels: label.Clean(labels), CreatedAt: m.db.now().UTC()}
	ns, err := namespaceOf(ctx)
	if err != nil {
		return l, err
	}
	if l.ID == "" {
		l.ID = strings.ToLower(rand.Text())
	}
	if err := checkKey("lease id", l.ID); err != nil {
		return l, err
	}
	if err := label.Validate(labels); err != nil {
		return l, err
	}
	err = m.db.update(ctx, func(tx *bbolt.Tx) error {
		if bucket(tx, ns, bucketLeases, l.ID) != nil {
			return errdefs.AlreadyExists("lease %q: already exists", l.ID)
		}
		b, err := makeBucket(tx, ns, bucketLeases, l.ID)
		if err != nil {
			return err
		}
		if _, err := b.CreateBucket([]byte(bucketResources)); err != nil {
			return err
		}
		return put(b, keyLease, wire.Lease(l))
	})
	return l, err
}

func (m leaseManager) Delete(ctx context.Context, id string, sync bool) error {
	ns, err := namespaceOf(ctx)
	if err != nil {
		return err
	}
	err = m.db.update(ctx, func(tx *bbolt.Tx) error {
		if _, err := resources(tx, ns, id); err != nil {
			return err
		}
		return bucket(tx, ns, bucketLeases).DeleteBucket([]byte(id))
	})
	failpoint.Hit("libctr/metadata.lease.forgotten")
	if err != nil {
		return err
	}
	return m.db.freed(ctx, sync)
}

func (m leaseManager) List(ctx context.Context, filters ...string) ([]lease.Lease, error) {
	ns, match, err := query(ctx, filters)
	if err != nil {
		return nil, err
	}
	var out []lease.Lease
	err = m.db.view(func(tx *bbolt.Tx) error {
		return eachLease(tx, ns, func(l lease.Lease, _ *bbolt.Bucket) error {
			if match.Match(fieldsOf("id", l.ID, l.Labels)) {
				out = append(out, l)
			}
			return nil
		})
	})
	return out, err
}

func getLease(tx *bbolt.Tx, ns, id string) (lease.Lease, error) {
	if _, err := resources(tx, ns, id); err != nil {
		return lease.Lease{}, err
	}
	var l leasesapi.Lease
	_, err := get(bucket(tx, ns, bucketLeases, id), keyLease, &l)
	return wire.FromLease(&l), err
}

// eachLease calls fn with each lease of ns and the bucket of its resources.
func eachLease(tx *bbolt.Tx, ns string, fn func(l lease.Lease, resources *bbolt.Bucket) error) error {
	b := bucket(tx, ns, bucketLeases)
	if b == nil {
		return nil
	}
	return b.ForEachBucket(func(id []byte) error {
		var l leasesapi.Lease
		one := b.Bucket(id)
		if _, err := get(one, keyLease, &l); err != nil {
			return err
		}
		return fn(wire.FromLease(&l), one.Bucket([]byte(bucketResources)))
	})
}

func (m leaseManager) AddResource(ctx context.Context, id string, r lease.Resource) error {
	ns, err := namespaceOf(ctx)
	if err != nil {
		return err
	}
	if err := checkResource(r); err != nil {
		return err
	}
	return m.db.update(ctx, func(tx *bbolt.Tx) error {
		b, err := resources(tx, ns, id)
		if err != nil {
			return err
		}
		return b.Put(resourceKey(r), nil)
	})
}

func (m leaseManager) DeleteResource(ctx context.Context, id string, r lease.Resource) error {
	ns, err := namespaceOf(ctx)
	if err != nil {
		return err
	}
	if err := checkResource(r); err != nil {
		return err
	}
	err = m.db.update(ctx, func(tx *bbolt.Tx) error {
		b, err := resources(tx, ns, id)
		if err != nil {
			return err
		}
		return b.Delete(resourceKey(r))
	})
	if err == nil && r.Type == typeIngests {
		err = m.db.freeIngest(ns, r.ID, id)
	}
	if err == nil {
		m.db.collector.deleted()
	}
	return err
}

func (m leaseManager) ListResources(ctx context.Context, id string) ([]lease.Resource, error) {
	ns, err := namespaceOf(ctx)
	if err != nil {
		return nil, err
	}
	var out []lease.Resource
	var l lease.Lease
	err = m.db.view(func(tx *bbolt.Tx) error {
		b, err := resources(tx, ns, id)
		if err != nil {
			return err
		}
		if l, err = getLease(tx, ns, id); err != nil {
			return err
		}
		return eachResource(b, func(r lease.Resource) { out = append(out, r) })
	})
	if err != nil {
		return nil, err
	}
	refs, err := m.db.ingestsOf(ns, l)
	for _, ref := range refs {
		if r := (lease.Resource{Type: typeIngests, ID: ref}); !slices.Contains(out, r) {
			out = append(out, r)
		}
	}
	return out, err
}

// eachResource calls fn with each resource of a lease's bucket.
func eachResource(b *bbolt.Bucket, fn func(lease.Resource)) error {
	return b.ForEach(func(k, _ []byte) error {
		typ, id, _ := strings.Cut(string(k), "\x00")
		fn(lease.Resource{Type: typ, ID: id})
		return nil
	})
}

// resources returns the bucket of what the lease holds.
func resources(tx *bbolt.Tx, ns, id string) (*bbolt.Bucket, error) {
	var b *bbolt.Bucket
	if id != "" {
		b = bucket(tx, ns, bucketLeases, id, bucketResources)
	}
	if b == nil {
		return nil, errdefs.NotFound("lease %q: not found", id)
	}
	return b, nil
}

// hold adds a resource to the lease of ctx, if there is one, inside the
// transaction that records it.
func hold(ctx context.Context, tx *bbolt.Tx, ns, typ, id string) error {
	l := lease.From(ctx)
	if l == "" {
		return nil
	}
	b, err := resources(tx, ns, l)
	if err != nil {
		return errdefs.NotFound("lease does not exist: not found")
	}
	return b.Put(resourceKey(lease.Resource{Type: typ, ID: id}), nil)
}

// release takes a resource that is deleted from the lease of ctx, if that has it.
func release(ctx context.Context, tx *bbolt.Tx, ns, typ, id string) error {
	l := lease.From(ctx)
	if l == "" {
		return nil
	}
	b := bucket(tx, ns, bucketLeases, l, bucketResources)
	if b == nil {
		return nil
	}
	return b.Delete(resourceKey(lease.Resource{Type: typ, ID: id}))
}

// leased fails with NotFound when ctx is under a lease that is not there.
func (db *DB) leased(ctx context.Context, ns string) error {
	id := lease.From(ctx)
	if id == "" {
		return nil
	}
	return db.view(func(tx *bbolt.Tx) error {
		if _, err := resources(tx, ns, id); err != nil {
			return errdefs.NotFound("lease does not exist: not found")
		}
		return nil
	})
}

// held says whether hold would change nothing.
func held(ctx context.Context, tx *bbolt.Tx, ns, typ, id string) bool {
	l := lease.From(ctx)
	if l == "" {
		return true
	}
	b, err := resources(tx, ns, l)
	if err != nil {
		return false // hold will say so
	}
	k, _ := b.Cursor().Seek(resourceKey(lease.Resource{Type: typ, ID: id}))
	return slices.Equal(k, resourceKey(lease.Resource{Type: typ, ID: id}))
}

func resourceKey(r lease.Resource) []byte { return []byte(r.Type + "\x00" + r.ID) }

func checkResource(r lease.Resource) error {
	if err := checkKey("resource", r.ID); err != nil && r.Type != typeContent {
		return err
	}
	kind, name, qualified := strings.Cut(r.Type, "/")
	switch kind {
	case typeContent, typeIngests, typeImages:
		if qualified {
			return errdefs.InvalidArgument("invalid resource type %s: invalid argument", r.Type)
		}
	case strings.TrimSuffix(typeSnapshots, "/"):
		if !qualified || strings.Contains(name, "/") {
			return errdefs.InvalidArgument("invalid snapshot resource type %s: invalid argument", r.Type)
		}
		return checkKey("snapshotter", name)
	default:
		return errdefs.NotImplemented("resource type %s not supported yet: not implemented", r.Type)
	}
	if r.Type == typeContent {
		if err := digest.Digest(r.ID).Validate(); err != nil {
			return errdefs.InvalidArgument("invalid content resource id %s: %w: invalid argument", r.ID, err)
		}
	}
	return nil
}
