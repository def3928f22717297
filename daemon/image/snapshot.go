package image

import (
	"context"
	"crypto/rand"
	"fmt"
	"maps"
	"time"

	"gantry/api/errdefs"
	"gantry/api/failpoint"
	"gantry/libctr/core/content"
	"gantry/libctr/core/mount"
	"gantry/libctr/core/snapshot"
)

// Prepare makes the active snapshot key, a container's id, on the image's layers and the
// init layer, and makes those first if need be. A nil image gives a root with an init
// layer alone. AlreadyExists when there is such a key. The snapshot keeps itself and its
// parents until RemoveSnapshot, whatever becomes of the image. The snapshotter gets the
// labels.
func (s *Service) Prepare(ctx context.Context, img *Image, key string, labels map[string]string) error {
	labels = maps.Clone(labels)
	if labels == nil {
		labels = map[string]string{}
	}
	labels[labelRoot] = time.Now().UTC().Format(time.RFC3339)
	chain := ""
	if img != nil {
		chain = img.ChainID.String()
	}
	_, err := s.Snapshots.Prepare(ctx, key, initName(chain), labels)
	if errdefs.IsNotFound(err) {
		err = s.layAndPrepare(ctx, img, key, labels)
	}
	if err != nil {
		return fmt.Errorf("prepare snapshot %s: %w", key, err)
	}
	return nil
}

// layAndPrepare makes what lies below a container's snapshot first.
func (s *Service) layAndPrepare(ctx context.Context, img *Image, key string, labels map[string]string) error {
	ctx, done, err := s.underLease(ctx, false)
	if err != nil {
		return err
	}
	defer done()
	below, err := s.layBelow(ctx, img)
	if err != nil {
		return err
	}
	_, err = s.Snapshots.Prepare(ctx, key, below, labels)
	return err
}

// layBelow makes the snapshots of an image's layers and the init layer on them, and ties
// that to the image. ctx must be under a lease.
func (s *Service) layBelow(ctx context.Context, img *Image) (name string, err error) {
	if img == nil {
		return s.makeInit(ctx, "")
	}
	m, err := s.readImage(ctx, img.Manifest)
	if err != nil {
		return "", err
	}
	chain, err := s.unpack(ctx, m, unpackHooks{})
	if err != nil {
		return "", err
	}
	if name, err = s.makeInit(ctx, chain.String()); err != nil {
		return "", err
	}
	err = content.AddLabels(ctx, s.Content, m.body.Config.Digest, map[string]string{
		labelRefSnapshot + s.cfg.Snapshotter + labelRefInit: name,
	})
	if err != nil {
		return "", fmt.Errorf("label config %s: %w", m.body.Config.Digest, err)
	}
	failpoint.Hit("daemon/image.init.labelled")
	return name, nil
}

// Mounts of the snapshot key, for whoever makes the container's root.
func (s *Service) Mounts(ctx context.Context, key string) ([]mount.Mount, error) {
	return s.Snapshots.Mounts(ctx, key)
}

// Parent mounts what the snapshot key was made on, read-only, until release is called.
func (s *Service) Parent(ctx context.Context, key string) (mounts []mount.Mount, release func(), err error) {
	ctx, done, err := s.underLease(ctx, false)
	if err != nil {
		return nil, nil, err
	}
	mounts, drop, err := s.viewParent(ctx, key)
	if err != nil {
		done()
		return nil, nil, err
	}
	return mounts, func() { drop(); done() }, nil
}

// viewParent makes a view of what the snapshot key was made on. ctx must be under a lease.
func (s *Service) viewParent(ctx context.Context, key string) (mounts []mount.Mount, drop func(), err error) {
	info, err := s.Snapshots.Stat(ctx, key)
	if err != nil {
		return nil, nil, fmt.Errorf("snapshot %s: %w", key, err)
	}
	view := extractPrefix + "view-" + rand.Text()
	mounts, err = s.Snapshots.View(ctx, view, info.Parent, nil)
	if err != nil {
		return nil, nil, fmt.Errorf("view snapshot %s: %w", info.Parent, err)
	}
	return mounts, func() { s.dropSnapshot(ctx, view) }, nil
}

// RemoveSnapshot drops the snapshot key; it is fine when there is none.
func (s *Service) RemoveSnapshot(ctx context.Context, key string) error {
	defer s.parents.Delete(key)
	if err := s.Snapshots.Remove(ctx, key); err != nil && !errdefs.IsNotFound(err) {
		return fmt.Errorf("remove snapshot %s: %w", key, err)
	}
	return nil
}

// Usage is what the snapshot key adds on disk, its parents not counted.
func (s *Service) Usage(ctx context.Context, key string) (snapshot.Usage, error) {
	return s.Snapshots.Usage(ctx, key)
}

// ParentUsage is what the image's layers below the snapshot key take on disk, in bytes,
// each as if it were this snapshot's alone.
func (s *Service) ParentUsage(ctx context.Context, key string) (int64, error) {
	var sum int64
	for {
		parent, err := s.parentOf(ctx, key)
		if err != nil {
			return 0, err
		}
		if key = parent; key == "" {
			return sum, nil
		}
		if isInit(key) {
			continue
		}
		u, err := s.usageOf(ctx, key)
		if err != nil {
			return 0, err
		}
		sum += u.Size
	}
}

// parentOf is the parent of a snapshot, which never changes.
func (s *Service) parentOf(ctx context.Context, key string) (string, error) {
	if parent, ok := s.parents.Load(key); ok {
		return parent.(string), nil
	}
	info, err := s.Snapshots.Stat(ctx, key)
	if err != nil {
		return "", fmt.Errorf("snapshot %s: %w", key, err)
	}
	s.parents.Store(key, info.Parent)
	return info.Parent, nil
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
