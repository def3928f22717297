package metadata

import (
	"context"
	"fmt"
	"strings"

	imagesapi "github.com/containerd/containerd/api/services/images/v1"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"go.etcd.io/bbolt"
	"google.golang.org/protobuf/proto"

	"gantry/api/errdefs"
	"gantry/api/failpoint"
	"gantry/libctr/core/image"
	"gantry/libctr/core/wire"
	"gantry/libctr/label"
)

const bucketImages = "images"

type imageStore struct{ db *DB }

var _ image.Store = imageStore{}

func (s imageStore) Get(ctx context.Context, name string) (out image.Image, err error) {
	ns, err := namespaceOf(ctx)
	if err != nil {
		return out, err
	}
	err = s.db.view(func(tx *bbolt.Tx) error {
		out, err = getImage(tx, ns, name)
		return err
	})
	return out, err
}

func getImage(tx *bbolt.Tx, ns, name string) (image.Image, error) {
	var m imagesapi.Image
	found, err := get(bucket(tx, ns, bucketImages), name, &m)
	if err == nil && !found {
		err = errdefs.NotFound("image %q: not found", name)
	}
	return wire.FromImage(&m), err
}

func (s imageStore) List(ctx context.Context, filters ...string) ([]image.Image, error) {
	ns, match, err := query(ctx, filters)
	if err != nil {
		return nil, err
	}
	var out []image.Image
	err = s.db.view(func(tx *bbolt.Tx) error {
		return choose(tx, ns, bucketImages, match, imageFields, func(name []byte, e encoded) {
			var m imagesapi.Image
			if err := proto.Unmarshal(e, &m); err != nil {
				s.db.passOver(ns, "image", string(name), err)
				return
			}
			out = append(out, wire.FromImage(&m))
		})
	})
	return out, err
}

// ListEncoded implements wire.EncodedLister: each is a containerd.services.images.v1.Image.
func (s imageStore) ListEncoded(ctx context.Context, filters ...string) ([][]byte, error) {
	ns, match, err := query(ctx, filters)
	if err != nil {
		return nil, err
	}
	out := s.db.copies(ns, bucketImages, new(imagesapi.Image))
	err = s.db.view(func(tx *bbolt.Tx) error {
		return choose(tx, ns, bucketImages, match, imageFields, out.add)
	})
	return out.all, err
}

func (s imageStore) Create(ctx context.Context, i image.Image) (image.Image, error) {
	ns, err := namespaceOf(ctx)
	if err != nil {
		return i, err
	}
	if err := checkImage(i); err != nil {
		return i, err
	}
	i.Labels = label.Clean(i.Labels)
	i.CreatedAt = s.db.now().UTC()
	i.UpdatedAt = i.CreatedAt
	err = s.db.update(ctx, func(tx *bbolt.Tx) error {
		b, err := makeBucket(tx, ns, bucketImages)
		if err != nil {
			return err
		}
		if b.Get([]byte(i.Name)) != nil {
			return errdefs.AlreadyExists("image %q: already exists", i.Name)
		}
		if err := holdImage(ctx, tx, ns, i); err != nil {
			return err
		}
		return put(b, i.Name, wire.Image(i))
	})
	return i, err
}

// holdImage has the lease of ctx hold an image that expires; another needs no lease.
func holdImage(ctx context.Context, tx *bbolt.Tx, ns string, i image.Image) error {
	if _, expires := i.Labels[labelExpire]; !expires {
		return nil
	}
	return hold(ctx, tx, ns, typeImages, i.Name)
}

func (s imageStore) Update(ctx context.Context, i image.Image, paths ...string) (out image.Image, err error) {
	ns, err := namespaceOf(ctx)
	if err != nil {
		return out, err
	}
	err = s.db.update(ctx, func(tx *bbolt.Tx) error {
		old, err := getImage(tx, ns, i.Name)
		if err != nil {
			return err
		}
		if out, err = mergeImage(old, i, paths); err != nil {
			return err
		}
		out.UpdatedAt = s.db.now().UTC()
		if err := holdImage(ctx, tx, ns, out); err != nil {
			return err
		}
		return put(bucket(tx, ns, bucketImages), i.Name, wire.Image(out))
	})
	if err == nil {
		s.db.collector.deleted() // the old target may be free
	}
	return out, err
}

func mergeImage(old, i image.Image, paths []string) (out image.Image, err error) {
	if len(paths) == 0 {
		paths = []string{"labels", "target"}
	}
	out = old
	for _, path := range paths {
		switch {
		case path == "target":
			out.Target = i.Target
		case path == "labels" || strings.HasPrefix(path, "labels."):
			if out.Labels, err = label.Update(out.Labels, i.Labels, path); err != nil {
				err = fmt.Errorf("image.Labels: %w", err)
			}
		case path == "annotations" || strings.HasPrefix(path, "annotations."):
			out.Target.Annotations, err = label.Update(out.Target.Annotations, i.Target.Annotations,
				"labels"+strings.TrimPrefix(path, "annotations"))
		default:
			err = errdefs.InvalidArgument("cannot update %q field on image %q: invalid argument", path, i.Name)
		}
		if err != nil {
			return old, err
		}
	}
	return out, checkImage(out)
}

func checkImage(i image.Image) error {
	if i.Name == "" {
		return errdefs.InvalidArgument("image name must not be empty: invalid argument")
	}
	if err := checkKey("image name", i.Name); err != nil {
		return err
	}
	if err := label.Validate(i.Labels); err != nil {
		return fmt.Errorf("image.Labels: %w", err)
	}
	return checkTarget(i.Target)
}

func (s imageStore) Delete(ctx context.Context, name string, sync bool, target *ocispec.Descriptor) error {
	ns, err := namespaceOf(ctx)
	if err != nil {
		return err
	}
	err = s.db.update(ctx, func(tx *bbolt.Tx) error {
		i, err := getImage(tx, ns, name)
		if err != nil {
			return err
		}
		if target != nil && target.Digest != "" && target.Digest != i.Target.Digest {
			return errdefs.NotFound("image %q has target %v, not %v: not found", name, i.Target.Digest, target.Digest)
		}
		if err := release(ctx, tx, ns, typeImages, name); err != nil {
			return err
		}
		return bucket(tx, ns, bucketImages).Delete([]byte(name))
	})
	failpoint.Hit("libctr/metadata.image.forgotten")
	if err != nil {
		return err
	}
	return s.db.freed(ctx, sync)
}
