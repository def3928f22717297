package main

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"sync"
	"sync/atomic"
	"time"

	containerd "github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/pkg/cio"
	"github.com/containerd/containerd/v2/pkg/oci"
)

// ends is the exit code of ending, a command that only a shell that ran could give.
const ends = 7

var ending = []string{"sh", "-c", fmt.Sprint("exit ", ends)}

// create makes a container of busybox with a snapshot of its own, in the core's shim for
// runc's name unless a shim is named.
func (s *subject) create(ctx context.Context, id, shim string, args ...string) (containerd.Container, error) {
	opts := []containerd.NewContainerOpts{containerd.WithSnapshotter(snapshotter), containerd.WithNewSnapshot(id, s.image),
		containerd.WithNewSpec(oci.WithImageConfig(s.image), oci.WithProcessArgs(args...), oci.WithCgroup(s.cgroup+"/"+id))}
	if shim != "" {
		opts = append(opts, containerd.WithRuntime(shim, nil))
	}
	return s.client.NewContainer(ctx, id, opts...)
}

// run is the life of a task of c, which runs ending. It notes how long each step took.
func run(ctx context.Context, c containerd.Container, add add) error {
	began := time.Now()
	step := func(name string) {
		add(name, "ms", ms(began))
		began = time.Now()
	}
	task, err := c.NewTask(ctx, cio.NullIO)
	if err != nil {
		return fmt.Errorf("create: %w", err)
	}
	step("create")
	exited, err := task.Wait(ctx)
	if err != nil {
		return fmt.Errorf("wait: %w", err)
	}
	if err := task.Start(ctx); err != nil {
		return fmt.Errorf("start: %w", err)
	}
	step("start")
	if status := <-exited; status.Error() != nil || status.ExitCode() != ends {
		return fmt.Errorf("exit code %d, not %d: %w", status.ExitCode(), ends, status.Error())
	}
	step("exit")
	if _, err := task.Delete(ctx); err != nil {
		return fmt.Errorf("delete: %w", err)
	}
	step("delete")
	return nil
}

func lifeCycle(shim string) func(context.Context, *subject, int, add) error {
	return func(ctx context.Context, s *subject, i int, add add) error {
		began := time.Now()
		c, err := s.create(ctx, fmt.Sprintf("life%d", i+1), shim, ending...)
		if err != nil {
			return err
		}
		task := time.Now()
		if err := run(ctx, c, add); err != nil {
			return errors.Join(err, c.Delete(ctx, containerd.WithSnapshotCleanup))
		}
		add("task", "ms", ms(task))
		if err := c.Delete(ctx, containerd.WithSnapshotCleanup); err != nil {
			return err
		}
		add("container", "ms", ms(began))
		return nil
	}
}

// withProgram measures the client program, and what it takes to ask for a version: the
// least that a command of it costs, whatever it talks to.
func withProgram(o options) test {
	ctr := func(ctx context.Context, s *subject, args ...string) (took float64, code int, err error) {
		cmd := exec.CommandContext(ctx, o.CTR, append([]string{"-a", s.socket, "-n", s.namespace}, args...)...)
		began := time.Now()
		out, err := cmd.CombinedOutput()
		took = ms(began)
		if e := (*exec.ExitError)(nil); errors.As(err, &e) {
			return took, e.ExitCode(), fmt.Errorf("%w: %s", err, out)
		}
		return took, 0, err
	}
	return test{name: "core_ctr", about: "ctr run --rm, a program each", cost: 1,
		rep: func(ctx context.Context, s *subject, i int, add add) error {
			args := append([]string{"run", "--rm", "--null-io", "--cgroup", s.cgroup + "/ctr", s.image.Name(), "ctr"}, ending...)
			took, code, err := ctr(ctx, s, args...)
			if code != ends {
				return fmt.Errorf("exit code %d, not %d: %w", code, ends, err)
			}
			add("total", "ms", took)
			least, _, err := ctr(ctx, s, "version")
			if err != nil {
				return err
			}
			add("version", "ms", least)
			add("beyond_version", "ms", took-least)
			return nil
		},
	}
}

// parallel runs the tasks of a batch of containers, several at a time.
func parallel(o options) test {
	return test{name: "core_parallel", about: "tasks, several at a time", cost: 4, rep: func(ctx context.Context, s *subject, i int, add add) (err error) {
		var made []containerd.Container
		defer func() {
			for _, c := range made {
				err = errors.Join(err, c.Delete(ctx, containerd.WithSnapshotCleanup))
			}
		}()
		for i := range o.Batch {
			c, err := s.create(ctx, fmt.Sprintf("parallel%d", i), "", ending...)
			if err != nil {
				return err
			}
			made = append(made, c)
		}
		began := time.Now()
		var next atomic.Int64
		var wg sync.WaitGroup
		errs := make([]error, o.Workers)
		for w := range o.Workers {
			wg.Go(func() {
				for i := int(next.Add(1)) - 1; i < len(made); i = int(next.Add(1)) - 1 {
					errs[w] = errors.Join(errs[w], run(ctx, made[i], func(string, string, float64) {}))
				}
			})
		}
		wg.Wait()
		add("throughput", "/s", float64(o.Batch)/time.Since(began).Seconds())
		return errors.Join(errs...)
	}}
}
