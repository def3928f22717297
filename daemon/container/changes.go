package container

import (
	"context"

	containertypes "github.com/docker/docker/api/types/container"

	"gantry/daemon/changes"
	"gantry/daemon/rootfs"
)

// Changes lists what has changed in a container's root filesystem since it was made.
// What is in volumes and other mounts is not part of it. nil when nothing has changed.
func (s *Service) Changes(ctx context.Context, ref string) ([]containertypes.FilesystemChange, error) {
	e, err := s.find(ref)
	if err != nil {
		return nil, err
	}
	mounts, err := s.Images.Mounts(ctx, e.id)
	if err != nil {
		return nil, wrap("mounts of container "+e.id, err)
	}
	parts, ok, err := rootfs.OpenParts(mounts)
	if err != nil {
		return nil, err
	}
	if !ok {
		return s.mergedChanges(ctx, e)
	}
	defer parts.Close()
	return changes.List(ctx, changes.Source{
		Lower: parts.Lower.Dir(), Upper: parts.Upper, Overlay: true, Opaque: parts.Opaque,
	})
}

// mergedChanges compares the container's whole tree with the one that it was made on.
func (s *Service) mergedChanges(ctx context.Context, e *entry) ([]containertypes.FilesystemChange, error) {
	mounts, release, err := s.Images.Parent(ctx, e.id)
	if err != nil {
		return nil, err
	}
	defer release()
	lower, err := rootfs.Open(withIDs(mounts, e.snapshot().IDs)) // owners as in the container's tree
	if err != nil {
		return nil, err
	}
	defer lower.Close()
	upper, err := s.openRootOnly(ctx, e)
	if err != nil {
		return nil, err
	}
	defer upper.Close()
	return changes.List(ctx, changes.Source{Lower: lower.Dir(), Upper: upper.Dir()})
}
