package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/containerd/containerd/v2/core/containers"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/errdefs"
	"google.golang.org/protobuf/types/known/anypb"
)

func listImages(o options) test {
	name := func(i int) string { return fmt.Sprintf("bench/many:%d", i) }
	return test{name: "core_images", about: "list of many images", cost: 2,
		setup: func(ctx context.Context, s *subject) error {
			return many(ctx, o.Records, func(i int) error {
				_, err := s.client.ImageService().Create(ctx, images.Image{Name: name(i), Target: s.image.Target(), Labels: map[string]string{"n": fmt.Sprint(i)}})
				return err
			})
		},
		rep: func(ctx context.Context, s *subject, i int, add add) error {
			began := time.Now()
			all, err := s.client.ImageService().List(ctx)
			if err != nil || len(all) <= o.Records {
				return fmt.Errorf("%d images: %w", len(all), err)
			}
			add("list", "ms", ms(began))
			began = time.Now()
			if all, err = s.client.ImageService().List(ctx, "labels.n==17"); err != nil || len(all) != 1 {
				return fmt.Errorf("%d images: %w", len(all), err)
			}
			add("filtered", "ms", ms(began))
			return nil
		},
		teardown: func(ctx context.Context, s *subject) error {
			return many(ctx, o.Records, func(i int) error { return s.client.ImageService().Delete(ctx, name(i)) })
		},
	}
}

func listContainers(o options) test {
	id := func(i int) string { return fmt.Sprintf("many%d", i) }
	return test{name: "core_containers", about: "list of many containers", cost: 2,
		setup: func(ctx context.Context, s *subject) error {
			return many(ctx, o.Records, func(i int) error {
				_, err := s.client.ContainerService().Create(ctx, containers.Container{ID: id(i), Labels: map[string]string{"n": fmt.Sprint(i)},
					Runtime: containers.RuntimeInfo{Name: "io.containerd.runc.v2"}, Spec: &anypb.Any{TypeUrl: "types.containerd.io/opencontainers/runtime-spec/1/Spec", Value: make([]byte, 4096)}})
				return err
			})
		},
		rep: func(ctx context.Context, s *subject, i int, add add) error {
			began := time.Now()
			all, err := s.client.ContainerService().List(ctx)
			if err != nil || len(all) < o.Records {
				return fmt.Errorf("%d containers: %w", len(all), err)
			}
			add("list", "ms", ms(began))
			began = time.Now()
			if all, err = s.client.ContainerService().List(ctx, "labels.n==17"); err != nil || len(all) != 1 {
				return fmt.Errorf("%d containers: %w", len(all), err)
			}
			add("filtered", "ms", ms(began))
			return nil
		},
		teardown: func(ctx context.Context, s *subject) error {
			return many(ctx, o.Records, func(i int) error { return s.client.ContainerService().Delete(ctx, id(i)) })
		},
	}
}

// many calls do for 0..n-1, eight at a time.
func many(ctx context.Context, n int, do func(i int) error) error {
	var next atomic.Int64
	var wg sync.WaitGroup
	errs := make([]error, 8)
	for w := range errs {
		wg.Go(func() {
			for i := int(next.Add(1)) - 1; i < n && ctx.Err() == nil; i = int(next.Add(1)) - 1 {
				if err := do(i); err != nil && !errdefs.IsAlreadyExists(err) {
					errs[w] = err
					return
				}
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}
