package system

import (
	"context"
	"fmt"
	"slices"

	"github.com/docker/docker/api/types"
	"github.com/docker/docker/api/types/build"
	containertypes "github.com/docker/docker/api/types/container"
	imagetypes "github.com/docker/docker/api/types/image"
	volumetypes "github.com/docker/docker/api/types/volume"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/singleflight"
)

// DiskUsage counts what the kinds of objects take on disk, the kinds side by side.
// Callers at the same time share one calculation; what they get is shared: do not change.
func (s *Service) DiskUsage(ctx context.Context, kinds []types.DiskUsageObject) (*types.DiskUsage, error) {
	var out types.DiskUsage
	g, ctx := errgroup.WithContext(ctx)
	for _, kind := range slices.Compact(slices.Sorted(slices.Values(kinds))) {
		switch kind {
		case types.ContainerObject:
			g.Go(func() (err error) {
				out.Containers, err = shared(ctx, &s.usage, "containers", s.containerUsage)
				return err
			})
		case types.ImageObject:
			g.Go(func() error {
				u, err := shared(ctx, &s.usage, "images", s.imageUsage)
				out.Images, out.LayersSize = u.images, u.layers
				return err
			})
		case types.VolumeObject:
			g.Go(func() (err error) {
				out.Volumes, err = shared(ctx, &s.usage, "volumes", s.volumeUsage)
				return err
			})
		case types.BuildCacheObject:
			out.BuildCache = []*build.CacheRecord{} // there is no builder
		}
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	return &out, nil
}

// shared runs f once for all callers of the same key. The work goes on for the others
// when one of them leaves.
func shared[T any](ctx context.Context, g *singleflight.Group, key string, f func(context.Context) (T, error)) (T, error) {
	result := g.DoChan(key, func() (any, error) { return f(context.WithoutCancel(ctx)) })
	select {
	case r := <-result:
		v, _ := r.Val.(T)
		return v, r.Err
	case <-ctx.Done():
		var zero T
		return zero, ctx.Err()
	}
}

func (s *Service) containerUsage(ctx context.Context) ([]*containertypes.Summary, error) {
	list, err := s.deps.Containers.List(ctx, containertypes.ListOptions{All: true, Size: true})
	if err != nil {
		return nil, fmt.Errorf("failed to retrieve container list: %w", err)
	}
	out := make([]*containertypes.Summary, len(list))
	for i := range list {
		list[i].ImageManifestDescriptor = nil // Docker does not show it here
		out[i] = &list[i]
	}
	return out, nil
}

type imageUsage struct {
	images []*imagetypes.Summary
	layers int64
}

func (s *Service) imageUsage(ctx context.Context) (u imageUsage, err error) {
	u.images, err = s.deps.Images.List(ctx, imagetypes.ListOptions{SharedSize: true, ContainerCount: true})
	if err != nil {
		return u, fmt.Errorf("failed to retrieve image list: %w", err)
	}
	if u.images == nil {
		u.images = []*imagetypes.Summary{}
	}
	if s.deps.Layers != nil {
		u.layers, err = s.deps.Layers.LayersSize(ctx)
		return u, err
	}
	for _, img := range u.images {
		u.layers += max(img.Size, 0) // counts what is shared several times: nobody knows better
	}
	return u, nil
}

func (s *Service) volumeUsage(ctx context.Context) ([]*volumetypes.Volume, error) {
	list, err := s.deps.Volumes.DiskUsage(ctx)
	if list == nil {
		list = []*volumetypes.Volume{}
	}
	return list, err
}
