// Package health is what Docker's health checks mean: a check read from a container's
// configuration, and the states that results lead through. It is pure; daemon/probe runs
// the checks.
//
//	starting ──success──► healthy ◄──success── unhealthy
//	    └────────failures in a row────────────────▲
//
// A container that does not run, or is paused, counts as unhealthy, as with dockerd.
package health

import (
	"cmp"
	"slices"
	"time"

	containertypes "github.com/docker/docker/api/types/container"
)

// What a check does that does not say.
const (
	defaultInterval      = 30 * time.Second
	defaultTimeout       = 30 * time.Second
	defaultStartInterval = 5 * time.Second
	defaultRetries       = 3
)

// keep is how many results are told.
const keep = 5

// Check is a health check with its defaults.
type Check struct {
	Args     []string // in the container
	Interval time.Duration
	Timeout  time.Duration
	Retries  int
	// StartPeriod is how long after the start failures do not count, until there is a
	// success; checks are made each StartInterval meanwhile.
	StartPeriod, StartInterval time.Duration
}

// Of is the check of a container; false when it has none, or one of a kind that nobody
// knows.
func Of(c *containertypes.Config) (Check, bool) {
	h := c.Healthcheck
	if h == nil || len(h.Test) == 0 {
		return Check{}, false
	}
	var args []string
	switch h.Test[0] {
	case "CMD":
		args = h.Test[1:]
	case "CMD-SHELL":
		shell := []string(c.Shell)
		if len(shell) == 0 {
			shell = []string{"/bin/sh", "-c"}
		}
		args = append(slices.Clone(shell), h.Test[1:]...)
	}
	if len(args) == 0 {
		return Check{}, false
	}
	return Check{
		Args: args, Interval: or(h.Interval, defaultInterval), Timeout: or(h.Timeout, defaultTimeout),
		Retries: cmp.Or(max(h.Retries, 0), defaultRetries), StartPeriod: h.StartPeriod,
		StartInterval: or(h.StartInterval, defaultStartInterval),
	}, true
}

// longest is as good as for ever, and leaves room for sums.
const longest = 100 * 365 * 24 * time.Hour

// or is d, or what stands for it where it is not said, or is shorter than a request may
// say: an image may say anything.
func or(d, otherwise time.Duration) time.Duration {
	if d < containertypes.MinimumDuration {
		return otherwise
	}
	return min(d, longest)
}

// Health is a container's state of health; nil for none. It is never changed in place.
type Health = containertypes.Health

// Begin is the state at a container's start: what an earlier run left in the log stays.
func Begin(h *Health) *Health {
	return &Health{Status: containertypes.Starting, Log: logOf(h)}
}

// Rest is the state of a container that is not checked now, as it has ended or is paused.
func Rest(h *Health) *Health {
	if h == nil {
		return nil
	}
	next := *h
	next.Status = containertypes.Unhealthy
	return &next
}

// After is the state after a result; started is when the container was.
func (c Check) After(h *Health, r containertypes.HealthcheckResult, started time.Time) *Health {
	next := &Health{Status: Status(h), Log: append(tail(logOf(h), keep-1), &r)}
	if r.ExitCode == 0 {
		next.Status = containertypes.Healthy
		return next
	}
	if h != nil {
		next.FailingStreak = h.FailingStreak
	}
	if next.Status == containertypes.Starting && r.Start.Sub(started) < c.StartPeriod {
		return next
	}
	next.FailingStreak++
	if next.FailingStreak >= c.Retries {
		next.Status = containertypes.Unhealthy
	}
	return next
}

// Wait is the time to the next check, from the end of the one before.
func (c Check) Wait(h *Health, started, now time.Time) time.Duration {
	if Status(h) == containertypes.Starting && now.Sub(started) < c.StartPeriod {
		return c.StartInterval
	}
	return c.Interval
}

// Status is the word for a state, "none" without one.
func Status(h *Health) containertypes.HealthStatus {
	if h == nil {
		return containertypes.NoHealthcheck
	}
	return h.Status
}

// Text is what `docker ps` shows behind the time; "" without a state.
func Text(h *Health) string {
	switch {
	case h == nil:
		return ""
	case h.Status == containertypes.Starting:
		return " (health: starting)"
	}
	return " (" + h.Status + ")"
}

// Show is a copy for a client, whose log is never null; nil for none.
func Show(h *Health) *Health {
	if h == nil {
		return nil
	}
	return &Health{Status: h.Status, FailingStreak: h.FailingStreak, Log: append([]*containertypes.HealthcheckResult{}, h.Log...)}
}

func logOf(h *Health) []*containertypes.HealthcheckResult {
	if h == nil {
		return nil
	}
	return h.Log
}

// tail is a copy of the last n.
func tail(log []*containertypes.HealthcheckResult, n int) []*containertypes.HealthcheckResult {
	return append(make([]*containertypes.HealthcheckResult, 0, n+1), log[max(len(log)-n, 0):]...)
}
