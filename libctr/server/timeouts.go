package server

import (
	"errors"
	"fmt"
	"maps"
	"time"

	"gantry/libctr/task"
)

// timeouts are the bounds that the configuration may change.
type timeouts struct {
	shimLoad     time.Duration // a shim found at start answers
	shimCleanup  time.Duration // a call that cleans up after a failed one
	shimShutdown time.Duration // a shim is asked to end
	taskState    time.Duration // a task's state
	boltOpen     time.Duration // another process lets go of the metadata
}

// named lists them with containerd's names. What they are without a configuration is
// in timeoutDefaults.
func (t *timeouts) named() map[string]*time.Duration {
	return map[string]*time.Duration{
		"io.containerd.timeout.shim.load":     &t.shimLoad,
		"io.containerd.timeout.shim.cleanup":  &t.shimCleanup,
		"io.containerd.timeout.shim.shutdown": &t.shimShutdown,
		"io.containerd.timeout.task.state":    &t.taskState,
		"io.containerd.timeout.bolt.open":     &t.boltOpen,
	}
}

var timeoutDefaults = timeouts{
	shimLoad:     2 * time.Second,
	shimCleanup:  5 * time.Second,
	shimShutdown: 3 * time.Second,
	taskState:    2 * time.Second,
	boltOpen:     10 * time.Second,
}

// unbounded is what 0 in a configuration means, as a time that can still be added to.
const unbounded time.Duration = 1 << 61

// timeoutsOf reads the section; names that are not known are none of ours.
func timeoutsOf(section map[string]string) (timeouts, error) {
	t := timeoutDefaults
	known := t.named()
	var errs []error
	for name, text := range section {
		d, err := time.ParseDuration(text)
		switch to := known[name]; {
		case err != nil:
			errs = append(errs, fmt.Errorf("timeouts.%q: %w", name, err))
		case d < 0:
			errs = append(errs, fmt.Errorf("timeouts.%q: %s is negative", name, text))
		case to != nil && d == 0:
			*to = unbounded
		case to != nil:
			*to = d
		}
	}
	return t, errors.Join(errs...)
}

// byName is a section of all of them, with what else was in the given one.
func (t timeouts) byName(section map[string]string) map[string]string {
	out := maps.Clone(section)
	if out == nil {
		out = map[string]string{}
	}
	for name, d := range t.named() {
		if out[name] == "" {
			out[name] = d.String()
		}
	}
	return out
}

// ofTasks are those of the task manager.
func (t timeouts) ofTasks() task.Timeouts {
	return task.Timeouts{Load: t.shimLoad, State: t.taskState, Cleanup: t.shimCleanup, Shutdown: t.shimShutdown}
}
