package container

import (
	"context"
	"path/filepath"
	"strings"

	"gantry/api/errdefs"
	"gantry/api/undo"
	"gantry/daemon/quota"
	"gantry/libctr/core/mount"
)

// limitRoot bounds what a new container may write to its root, as StorageOpt says. Its
// snapshot has been made, and nothing has been written to it.
func (s *Service) limitRoot(ctx context.Context, c *Record, steps *undo.Stack) error {
	if len(c.Host.StorageOpt) == 0 {
		return nil
	}
	size, err := quota.Size(c.Host.StorageOpt)
	if err != nil {
		return errdefs.WithClass(errdefs.ErrInternal, err)
	}
	mounts, err := s.Images.Mounts(ctx, c.ID)
	if err != nil {
		return err
	}
	upper, work := writableDirs(mounts)
	if upper == "" {
		return errdefs.WithClass(errdefs.ErrInternal, quota.ErrUnsupported)
	}
	if err := quota.Limit(size, upper, work); err != nil {
		return errdefs.WithClass(errdefs.ErrInternal, err)
	}
	steps.Add("release quota", func(context.Context) error { return quota.Release(upper) })
	return nil
}

// releaseQuota gives up the limit of a container's root before that goes.
func (s *Service) releaseQuota(ctx context.Context, c *Record) {
	if len(c.Host.StorageOpt) > 0 {
		s.releaseAnyQuota(ctx, c.ID)
	}
}

// releaseAnyQuota is releaseQuota of a container without a record, which may have had no
// limit.
func (s *Service) releaseAnyQuota(ctx context.Context, id string) {
	mounts, err := s.Images.Mounts(ctx, id)
	if err != nil {
		return // it has gone
	}
	if upper, _ := writableDirs(mounts); upper != "" {
		if err := quota.Release(upper); err != nil {
			s.log.WarnContext(ctx, "release quota", "container", id, "path", filepath.Dir(upper), "err", err)
		}
	}
}

// writableDirs are an overlay's upper and work directory, "" where there are none.
func writableDirs(mounts []mount.Mount) (upper, work string) {
	for _, m := range mounts {
		for _, o := range m.Options {
			if dir, ok := strings.CutPrefix(o, "upperdir="); ok {
				upper = dir
			}
			if dir, ok := strings.CutPrefix(o, "workdir="); ok {
				work = dir
			}
		}
	}
	if work == "" {
		return "", ""
	}
	return upper, work
}
