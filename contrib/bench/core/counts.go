package main

import (
	"context"
	"fmt"
	"path/filepath"
	"time"

	"bench/internal/tally"
)

// counts notes executions, new processes and syncs of core, shims and container for each
// life of a container and its task, less what the idle core does.
func counts(o options) test {
	return test{name: "core_counts", about: "execs, forks and syncs of core_task (needs -tracefs and -unified)", cost: 0,
		rep: func(ctx context.Context, s *subject, _ int, add add) error {
			if o.Tracefs == "" || o.Unified == "" {
				return nil
			}
			c, err := tally.Open(o.Tracefs, filepath.Join(o.Unified, s.cgroup))
			if err != nil {
				return err
			}
			defer c.Close()
			time.Sleep(o.Settle) // what the test before has left to do
			idle, err := c.Read()
			if err != nil {
				return err
			}
			time.Sleep(o.Settle)
			before, err := c.Read()
			if err != nil {
				return err
			}
			for name := range idle {
				idle[name] = (before[name] - idle[name]) / o.Settle.Seconds()
			}
			began := time.Now()
			const batch = 10
			once := lifeCycle("")
			for i := range batch {
				if err := once(ctx, s, i, func(string, string, float64) {}); err != nil {
					return fmt.Errorf("life cycle %d: %w", i, err)
				}
			}
			time.Sleep(o.Settle)
			after, err := c.Read()
			if err != nil {
				return err
			}
			per := tally.PerOperation(before, after, idle, time.Since(began).Seconds(), batch)
			for _, e := range tally.Events {
				add(e.Name, "", per[e.Name])
			}
			return nil
		},
	}
}
