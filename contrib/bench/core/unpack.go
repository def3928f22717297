package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	containerd "github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/core/leases"
	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/containerd/containerd/v2/core/unpack"
	"github.com/containerd/platforms"
	"github.com/opencontainers/image-spec/identity"
	"golang.org/x/sync/semaphore"
)

// unpacking gives a core the blobs of an image and measures the way to its snapshots: one
// layer after the other, and as many at a time as the core's snapshotter allows.
func unpacking(o options) test {
	made := map[*subject]containerd.Image{}
	var layers []packed
	return test{name: "core_unpack", about: "blobs of an image of many layers to snapshots", cost: 5,
		setup: func(ctx context.Context, s *subject) (err error) {
			if layers == nil {
				layers = make([]packed, o.Layers)
				var wg sync.WaitGroup
				for i := range layers {
					wg.Go(func() { layers[i] = zipped(layer(uint64(i), o.LayerMB)) })
				}
				wg.Wait()
			}
			made[s], err = s.put(ctx, "bench/layers:latest", layers...)
			return err
		},
		rep: func(ctx context.Context, s *subject, i int, add add) error {
			each := map[string]float64{}
			for _, way := range []struct {
				name string
				most int64
			}{{"serial", 1}, {"parallel", 4}} {
				took, err := s.unpack(ctx, made[s], way.most)
				if err != nil {
					return fmt.Errorf("%s: %w", way.name, err)
				}
				add(way.name, "ms", took)
				each[way.name] = took
			}
			add("speedup", "x", each["serial"]/each["parallel"])
			return nil
		},
		teardown: func(ctx context.Context, s *subject) error {
			return s.client.ImageService().Delete(ctx, "bench/layers:latest", images.SynchronousDelete())
		},
	}
}

// unpack returns how long it took, in ms, and takes the snapshots away again.
func (s *subject) unpack(ctx context.Context, img containerd.Image, most int64) (took float64, err error) {
	lease, err := s.client.LeasesService().Create(ctx, leases.WithRandomID(), leases.WithExpiration(time.Hour))
	if err != nil {
		return 0, err
	}
	defer func() {
		err = errors.Join(err, s.client.LeasesService().Delete(context.WithoutCancel(ctx), lease, leases.SynchronousDelete))
	}()
	leased := leases.WithLease(ctx, lease.ID)
	capabilities, err := s.client.GetSnapshotterCapabilities(ctx, snapshotter)
	if err != nil {
		return 0, err
	}
	began := time.Now()
	u, err := unpack.NewUnpacker(leased, s.client.ContentStore(), unpack.WithUnpackLimiter(semaphore.NewWeighted(most)),
		unpack.WithUnpackPlatform(unpack.Platform{Platform: platforms.All, SnapshotterKey: snapshotter, Snapshotter: s.client.SnapshotService(snapshotter),
			Applier: s.client.DiffService(), SnapshotterCapabilities: capabilities}))
	if err != nil {
		return 0, err
	}
	if err := images.Dispatch(leased, u.Unpack(images.ChildrenHandler(s.client.ContentStore())), nil, img.Target()); err != nil {
		return 0, err
	}
	if _, err := u.Wait(); err != nil {
		return 0, err
	}
	took = ms(began)
	if err := s.unpacked(leased, img); err != nil {
		return 0, err
	}
	// The client labels the config, which would keep the snapshots.
	config, err := img.Config(ctx)
	if err != nil {
		return 0, err
	}
	info, err := s.client.ContentStore().Info(ctx, config.Digest)
	if err != nil {
		return 0, err
	}
	for key := range info.Labels {
		if strings.HasPrefix(key, "containerd.io/gc.ref.snapshot.") {
			info.Labels[key] = ""
			if _, err := s.client.ContentStore().Update(ctx, info, "labels."+key); err != nil {
				return 0, err
			}
		}
	}
	return took, nil
}

// unpacked checks that the snapshots of img are there and hold its files.
func (s *subject) unpacked(ctx context.Context, img containerd.Image) error {
	layers, err := img.RootFS(ctx)
	if err != nil {
		return err
	}
	for _, id := range identity.ChainIDs(slices.Clone(layers)) {
		info, err := s.client.SnapshotService(snapshotter).Stat(ctx, id.String())
		if err != nil {
			return err
		}
		usage, err := s.client.SnapshotService(snapshotter).Usage(ctx, id.String())
		if err != nil {
			return err
		}
		if info.Kind != snapshots.KindCommitted || usage.Size < 1<<20 {
			return fmt.Errorf("snapshot %s: %s, %d bytes", id, info.Kind, usage.Size)
		}
	}
	return nil
}
