package health

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	containertypes "github.com/docker/docker/api/types/container"
)

func TestOf(t *testing.T) {
	for name, row := range map[string]struct {
		test, shell []string
		want        string // "" is no check
	}{
		"inherited nothing": {nil, nil, ""},
		"none":              {[]string{"NONE"}, nil, ""},
		"unknown kind":      {[]string{"HTTP", "/"}, nil, ""},
		"nothing to run":    {[]string{"CMD"}, nil, ""},
		"command":           {[]string{"CMD", "a", "b"}, []string{"zsh"}, "a|b"},
		"shell":             {[]string{"CMD-SHELL", "a b"}, nil, "/bin/sh|-c|a b"},
		"shell of its own":  {[]string{"CMD-SHELL", "a b"}, []string{"bash", "-ec"}, "bash|-ec|a b"},
	} {
		c, ok := Of(&containertypes.Config{Shell: row.shell, Healthcheck: &containertypes.HealthConfig{Test: row.test}})
		if got := strings.Join(c.Args, "|"); got != row.want || ok != (row.want != "") {
			t.Errorf("%s: %q, %v", name, got, ok)
		}
	}
	if _, ok := Of(&containertypes.Config{}); ok {
		t.Error("a container without a check has one")
	}
}

func TestDefaults(t *testing.T) {
	c, _ := Of(&containertypes.Config{Healthcheck: &containertypes.HealthConfig{Test: []string{"CMD", "x"}}})
	want := Check{Args: []string{"x"}, Interval: 30 * time.Second, Timeout: 30 * time.Second, Retries: 3, StartInterval: 5 * time.Second}
	if fmt.Sprint(c) != fmt.Sprint(want) {
		t.Errorf("got %+v", c)
	}
}

// TestOutOfBounds: an image's check does not run without a pause, and has an end.
func TestOutOfBounds(t *testing.T) {
	for _, d := range []time.Duration{math.MinInt64, -1, 1, time.Millisecond - 1} {
		c, _ := Of(&containertypes.Config{Healthcheck: &containertypes.HealthConfig{
			Test: []string{"CMD", "x"}, Interval: d, Timeout: d, StartInterval: d, StartPeriod: d, Retries: -1,
		}})
		if c.Interval != defaultInterval || c.Timeout != defaultTimeout || c.StartInterval != defaultStartInterval || c.Retries != defaultRetries {
			t.Errorf("%d: %+v", d, c)
		}
		if w := c.Wait(nil, time.Now(), time.Now()); w < time.Second {
			t.Errorf("%d: next check after %s", d, w)
		}
	}
	c, _ := Of(&containertypes.Config{Healthcheck: &containertypes.HealthConfig{Test: []string{"CMD", "x"}, Timeout: math.MaxInt64, Interval: math.MaxInt64}})
	if c.Timeout+time.Hour < c.Timeout || c.Interval+time.Hour < c.Interval {
		t.Errorf("no room: %+v", c)
	}
	c, _ = Of(&containertypes.Config{Healthcheck: &containertypes.HealthConfig{Test: []string{"CMD", "x"}, Interval: time.Millisecond}})
	if c.Interval != time.Millisecond {
		t.Errorf("the shortest: %+v", c)
	}
}

// TestStates goes through a container's life by the codes of its checks, each a second
// after the one before.
func TestStates(t *testing.T) {
	start := time.Unix(1000, 0)
	for name, row := range map[string]struct {
		period time.Duration
		codes  []int
		want   string // status and streak after each
	}{
		"healthy at once":           {0, []int{0, 0}, "healthy 0, healthy 0"},
		"three failures":            {0, []int{1, 1, 1, 1}, "starting 1, starting 2, unhealthy 3, unhealthy 4"},
		"a success begins anew":     {0, []int{1, 1, 0, 1, 1}, "starting 1, starting 2, healthy 0, healthy 1, healthy 2"},
		"recovers":                  {0, []int{1, 1, 1, 0}, "starting 1, starting 2, unhealthy 3, healthy 0"},
		"failures in the period":    {3 * time.Second, []int{1, 1, 1, 1, 1}, "starting 0, starting 0, starting 1, starting 2, unhealthy 3"},
		"the period ends by health": {time.Minute, []int{1, 0, 1, -1, 2}, "starting 0, healthy 0, healthy 1, healthy 2, unhealthy 3"},
	} {
		check := Check{Retries: 3, StartPeriod: row.period}
		h := Begin(nil)
		var got []string
		for i, code := range row.codes {
			h = check.After(h, containertypes.HealthcheckResult{ExitCode: code, Start: start.Add(time.Duration(i+1) * time.Second)}, start)
			got = append(got, fmt.Sprint(h.Status, " ", h.FailingStreak))
		}
		if s := strings.Join(got, ", "); s != row.want {
			t.Errorf("%s: %s", name, s)
		}
	}
}

// TestLog: the last five are kept, over a restart too, and no state is ever changed.
func TestLog(t *testing.T) {
	h := Begin(nil)
	var all []*Health
	for i := range 8 {
		h = Check{Retries: 3}.After(h, containertypes.HealthcheckResult{ExitCode: i}, time.Time{})
		all = append(all, h)
	}
	codes := func(h *Health) (s []int) {
		for _, r := range h.Log {
			s = append(s, r.ExitCode)
		}
		return s
	}
	if got := codes(h); !slices.Equal(got, []int{3, 4, 5, 6, 7}) {
		t.Errorf("log %v", got)
	}
	if got := codes(all[5]); !slices.Equal(got, []int{1, 2, 3, 4, 5}) {
		t.Errorf("an older state has changed: %v", got)
	}
	again := Begin(Rest(h))
	if again.Status != containertypes.Starting || again.FailingStreak != 0 || len(again.Log) != 5 {
		t.Errorf("restarted: %+v", again)
	}
	if r := Rest(h); r.Status != containertypes.Unhealthy || r.FailingStreak != h.FailingStreak {
		t.Errorf("at rest: %+v", r)
	}
	if Rest(nil) != nil || Show(nil) != nil || Status(nil) != "none" || Text(nil) != "" {
		t.Error("no health is something")
	}
}

func TestWait(t *testing.T) {
	c := Check{Interval: 10 * time.Second, StartInterval: time.Second, StartPeriod: time.Minute}
	start := time.Unix(1000, 0)
	starting, healthy := Begin(nil), &Health{Status: containertypes.Healthy}
	for name, row := range map[string]struct {
		h    *Health
		at   time.Duration
		want time.Duration
	}{
		"starting":         {starting, 0, c.StartInterval},
		"healthy":          {healthy, 0, c.Interval},
		"after the period": {starting, time.Minute, c.Interval},
	} {
		if got := c.Wait(row.h, start, start.Add(row.at)); got != row.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}
