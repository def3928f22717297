package main

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	containerd "github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/core/containers"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/core/leases"
	"github.com/containerd/containerd/v2/core/unpack"
	"github.com/containerd/containerd/v2/pkg/cio"
	"github.com/containerd/containerd/v2/pkg/oci"
	"github.com/containerd/errdefs"
	"github.com/containerd/platforms"
	"golang.org/x/sync/semaphore"
	"google.golang.org/protobuf/types/known/anypb"

	"bench/internal/procmem"
)

func tests(o options) []test {
	return []test{
		memory(o), // while the daemons are fresh
		{name: "core_ctr", about: "ctr run --rm true, a program each", cost: 1, rep: func(ctx context.Context, s *subject, i int, add add) error {
			began := time.Now()
			out, err := exec.CommandContext(ctx, o.CTR, "-a", s.socket, "-n", s.name, "run", "--rm", "--null-io", "--cgroup", s.cgroup+"/ctr",
				s.image.Name(), "ctr", "true").CombinedOutput()
			if err != nil {
				return fmt.Errorf("%w: %s", err, out)
			}
			add("total", "ms", ms(began))
			return nil
		}},
		{name: "core_task", about: "create, start, wait and delete of a task; before and after it the container", cost: 1, rep: lifeCycle},
		{name: "core_parallel", about: "the same, several at a time", cost: 4, rep: func(ctx context.Context, s *subject, i int, add add) error {
			return parallel(ctx, s, o, add)
		}},
		listImages(o), listContainers(o), unpacking(o),
	}
}

func ms(began time.Time) float64 { return float64(time.Since(began)) / 1e6 }

// create makes a container of busybox with a snapshot of its own.
func (s *subject) create(ctx context.Context, id string, args ...string) (containerd.Container, error) {
	return s.client.NewContainer(ctx, id, containerd.WithSnapshotter(snapshotter), containerd.WithNewSnapshot(id, s.image),
		containerd.WithNewSpec(oci.WithImageConfig(s.image), oci.WithProcessArgs(args...), oci.WithCgroup(s.cgroup+"/"+id)))
}

// run is the life of a task of c.
func run(ctx context.Context, c containerd.Container) error {
	task, err := c.NewTask(ctx, cio.NullIO)
	if err != nil {
		return fmt.Errorf("create: %w", err)
	}
	exited, err := task.Wait(ctx)
	if err != nil {
		return fmt.Errorf("wait: %w", err)
	}
	if err := task.Start(ctx); err != nil {
		return fmt.Errorf("start: %w", err)
	}
	if status := <-exited; status.Error() != nil || status.ExitCode() != 0 {
		return fmt.Errorf("exit code %d: %w", status.ExitCode(), status.Error())
	}
	if _, err := task.Delete(ctx); err != nil {
		return fmt.Errorf("delete: %w", err)
	}
	return nil
}

func lifeCycle(ctx context.Context, s *subject, i int, add add) error {
	began := time.Now()
	c, err := s.create(ctx, fmt.Sprintf("life%d", i+1), "true")
	if err != nil {
		return err
	}
	task := time.Now()
	if err := run(ctx, c); err != nil {
		return errors.Join(err, c.Delete(ctx, containerd.WithSnapshotCleanup))
	}
	add("task", "ms", ms(task))
	if err := c.Delete(ctx, containerd.WithSnapshotCleanup); err != nil {
		return err
	}
	add("container", "ms", ms(began))
	return nil
}

func parallel(ctx context.Context, s *subject, o options, add add) error {
	made := make([]containerd.Container, o.Batch)
	for i := range made {
		var err error
		if made[i], err = s.create(ctx, fmt.Sprintf("parallel%d", i), "true"); err != nil {
			return err
		}
	}
	began := time.Now()
	var next atomic.Int64
	var wg sync.WaitGroup
	errs := make([]error, o.Workers)
	for w := range o.Workers {
		wg.Go(func() {
			for i := int(next.Add(1)) - 1; i < len(made); i = int(next.Add(1)) - 1 {
				errs[w] = errors.Join(errs[w], run(ctx, made[i]))
			}
		})
	}
	wg.Wait()
	add("throughput", "/s", float64(o.Batch)/time.Since(began).Seconds())
	err := errors.Join(errs...)
	for _, c := range made {
		err = errors.Join(err, c.Delete(ctx, containerd.WithSnapshotCleanup))
	}
	return err
}

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

// unpacking gives a core the blobs of an image and measures the way to its snapshots: one
// layer after the other, and as many at a time as the core's snapshotter allows.
func unpacking(o options) test {
	made := map[*subject]containerd.Image{}
	var layers [][]byte
	return test{name: "core_unpack", about: "blobs of an image of many layers to snapshots", cost: 5,
		setup: func(ctx context.Context, s *subject) (err error) {
			if layers == nil {
				for i := range o.Layers {
					layers = append(layers, layer(uint64(i), o.LayerMB))
				}
			}
			made[s], err = s.put(ctx, "bench/layers:latest", layers, true)
			return err
		},
		rep: func(ctx context.Context, s *subject, i int, add add) error {
			for _, way := range []struct {
				name string
				most int64
			}{{"serial", 1}, {"parallel", 4}} {
				took, err := s.unpack(ctx, made[s], way.most)
				if err != nil {
					return fmt.Errorf("%s: %w", way.name, err)
				}
				add(way.name, "ms", took)
			}
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

func memory(o options) test {
	tasks := map[*subject][]containerd.Task{}
	return test{name: "core_memory", about: "of daemon and shims", cost: 0,
		rep: func(ctx context.Context, s *subject, i int, add add) error {
			time.Sleep(o.Settle)
			idle, err := usage(s, nil)
			if err != nil {
				return err
			}
			add("idle_pss", "KiB", float64(idle.PSS))
			add("idle_rss", "KiB", float64(idle.RSS))
			for n := range o.Tasks {
				c, err := s.create(ctx, fmt.Sprintf("memory%d", n), "sleep", "100000")
				if err != nil {
					return err
				}
				task, err := c.NewTask(ctx, cio.NullIO)
				if err != nil {
					return err
				}
				tasks[s] = append(tasks[s], task)
				if err := task.Start(ctx); err != nil {
					return err
				}
			}
			time.Sleep(o.Settle)
			full, err := usage(s, tasks[s])
			if err != nil {
				return err
			}
			add("tasks_pss", "KiB", float64(full.PSS))
			add("pss_per_task", "KiB", float64(full.PSS-idle.PSS)/float64(o.Tasks))
			return nil
		},
		teardown: func(ctx context.Context, s *subject) (err error) {
			for n, task := range tasks[s] {
				_, e := task.Delete(ctx, containerd.WithProcessKill)
				err = errors.Join(err, e)
				if c, e := s.client.LoadContainer(ctx, fmt.Sprintf("memory%d", n)); e == nil {
					err = errors.Join(err, c.Delete(ctx, containerd.WithSnapshotCleanup))
				}
			}
			return err
		},
	}
}

// usage is what the daemon, and the helpers of tasks, need.
func usage(s *subject, tasks []containerd.Task) (procmem.Usage, error) {
	table, err := procmem.Snapshot()
	if err != nil {
		return procmem.Usage{}, err
	}
	if syscall.Kill(s.pid, 0) != nil {
		return procmem.Usage{}, fmt.Errorf("no process %d", s.pid)
	}
	inits := make([]int, len(tasks))
	for i, task := range tasks {
		inits[i] = int(task.Pid())
	}
	return procmem.Measure(table.Helpers([]int{s.pid}, inits)), nil
}
