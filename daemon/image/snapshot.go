package image

import (
	"context"
	"fmt"
	"time"

	"gantry/api/errdefs"
	"gantry/libctr/core/mount"
	"gantry/libctr/core/snapshot"
)

// Prepare makes the active snapshot key, a container's id, on the image's layers, and
// unpacks those first if need be. A nil image gives an empty root. AlreadyExists when
// there is such a key. The snapshot keeps itself and its parents until RemoveSnapshot,
// whatever becomes of the image.
func (s *Service) Prepare(ctx context.Context, img *Image, key string) error {
	labels := map[string]string{labelRoot: time.Now().UTC().Format(time.RFC3339)}
	parent := ""
	if img != nil {
		parent = img.ChainID.String()
	}
	_, err := s.Snapshots.Prepare(ctx, key, parent, labels)
	if err != nil && errdefs.IsNotFound(err) && parent != "" {
		err = s.unpackAndPrepare(ctx, img, key, labels)
	}
	if err != nil {
		return fmt.Errorf("prepare snapshot %s: %w", key, err)
	}
	return nil
}

func (s *Service) unpackAndPrepare(ctx context.Context, img *Image, key string, labels map[string]string) error {
	ctx, done, err := s.underLease(ctx, false)
	if err != nil {
		return err
	}
	defer done()
	m, err := s.readImage(ctx, img.Manifest)
	if err != nil {
		return err
	}
	chain, err := s.unpack(ctx, m, unpackHooks{})
	if err != nil {
		return err
	}
	_, err = s.Snapshots.Prepare(ctx, key, chain.String(), labels)
	return err
}

// Mounts of the snapshot key, for whoever makes the container's root.
func (s *Service) Mounts(ctx context.Context, key string) ([]mount.Mount, error) {
	return s.Snapshots.Mounts(ctx, key)
}

// RemoveSnapshot drops the snapshot key; it is fine when there is none.
func (s *Service) RemoveSnapshot(ctx context.Context, key string) error {
	if err := s.Snapshots.Remove(ctx, key); err != nil && !errdefs.IsNotFound(err) {
		return fmt.Errorf("remove snapshot %s: %w", key, err)
	}
	return nil
}

// Usage is what the snapshot key adds on disk, its parents not counted.
func (s *Service) Usage(ctx context.Context, key string) (snapshot.Usage, error) {
	return s.Snapshots.Usage(ctx, key)
}

// ParentUsage is what the layers below the snapshot key take on disk, in bytes, each as
// if it were this snapshot's alone.
func (s *Service) ParentUsage(ctx context.Context, key string) (int64, error) {
	var sum int64
	for {
		info, err := s.Snapshots.Stat(ctx, key)
		if err != nil {
			return 0, fmt.Errorf("snapshot %s: %w", key, err)
		}
		if key = info.Parent; key == "" {
			return sum, nil
		}
		u, err := s.usageOf(ctx, key)
		if err != nil {
			return 0, err
		}
		sum += u.Size
	}
}

// usageOf is the disk use of a committed snapshot, which never changes.
func (s *Service) usageOf(ctx context.Context, name string) (snapshot.Usage, error) {
	if u, ok := s.usages.Load(name); ok {
		return u.(snapshot.Usage), nil
	}
	u, err := s.Snapshots.Usage(ctx, name)
	if err != nil {
		return u, err
	}
	s.usages.Store(name, u)
	return u, nil
}
