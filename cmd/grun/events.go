package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"github.com/spf13/pflag"

	"gantry/cmd/grun/first"
	"gantry/runtime/cgroup"
	"gantry/runtime/container"
)

// event is a line of events; Data is the statistics of a "stats" event.
type event struct {
	Type string `json:"type"` // "stats" or "oom"
	ID   string `json:"id"`
	Data any    `json:"data,omitempty"`
}

var eventsCommand = command{
	name: "events", args: "<container-id>", about: "print statistics and out-of-memory events as JSON lines", min: 1, max: 1,
	prepare: func(f *pflag.FlagSet) func(context.Context, *request, []string) error {
		interval := f.Duration("interval", 5*time.Second, "time between statistics")
		once := f.Bool("stats", false, "print the statistics once")
		return func(ctx context.Context, r *request, args []string) error {
			if *interval <= 0 {
				return errors.New("duration interval must be greater than 0")
			}
			c, err := r.load(args[0])
			if err != nil {
				return err
			}
			s, err := c.State()
			if err != nil {
				return err
			}
			if s.Status == specs.StateStopped {
				return fmt.Errorf("container with id %s is not running", c.ID())
			}
			w := json.NewEncoder(r.stdout)
			if *once {
				return printStats(w, c)
			}
			return watch(ctx, w, c, *interval)
		}
	},
}

// measured is what the statistics come from.
type measured interface {
	ID() string
	Stats() (*cgroup.Stats, error)
}

func printStats(w *json.Encoder, c measured) error {
	s, err := c.Stats()
	if err != nil {
		return err
	}
	return w.Encode(event{"stats", c.ID(), statsOf(s)})
}

// watch prints until the container has ended.
func watch(ctx context.Context, w *json.Encoder, c *container.Container, interval time.Duration) error {
	oom, stop, err := c.OOM()
	if err != nil {
		return err
	}
	defer stop()
	first.Stay()
	tick := time.NewTicker(interval)
	defer tick.Stop()
	ended := ends(c.PidFD())
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ended:
			return nil
		case _, more := <-oom:
			if !more {
				oom = nil // the cgroup is gone
				continue
			}
			err = w.Encode(event{Type: "oom", ID: c.ID()})
		case <-tick.C:
			err = printStats(w, c)
		}
		if err != nil {
			return err
		}
	}
}

// ends gives a channel that is closed when the process has ended. Its goroutine
// ends with the process or with us.
func ends(pidfd *os.File) <-chan struct{} {
	done := make(chan struct{})
	go func() {
		defer close(done)
		awaitEnd(pidfd)
	}()
	return done
}
