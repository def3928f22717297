package main

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"time"

	containerd "github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/pkg/cio"

	"bench/internal/procmem"
)

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
				c, err := s.create(ctx, fmt.Sprintf("memory%d", n), "", "sleep", "100000")
				if err != nil {
					return err
				}
				task, err := c.NewTask(ctx, cio.NullIO)
				if err != nil {
					return errors.Join(err, c.Delete(ctx, containerd.WithSnapshotCleanup))
				}
				tasks[s] = append(tasks[s], task)
				if err := task.Start(ctx); err != nil {
					return err
				}
			}
			time.Sleep(o.Settle)
			for _, task := range tasks[s] {
				if status, err := task.Status(ctx); err != nil || status.Status != containerd.Running {
					return fmt.Errorf("task %s: %s: %w", task.ID(), status.Status, err)
				}
			}
			full, err := usage(s, tasks[s])
			if err != nil {
				return err
			}
			add("tasks_pss", "KiB", float64(full.PSS))
			add("pss_per_task", "KiB", float64(full.PSS-idle.PSS)/float64(o.Tasks))
			return nil
		},
		teardown: func(ctx context.Context, s *subject) (err error) {
			for _, task := range tasks[s] {
				_, e := task.Delete(ctx, containerd.WithProcessKill)
				c, e2 := s.client.LoadContainer(ctx, task.ID())
				if err = errors.Join(err, e, e2); e2 == nil {
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
