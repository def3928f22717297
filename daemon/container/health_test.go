package container

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	containertypes "github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/filters"

	apicontainer "gantry/api/container"
	"gantry/daemon/health"
)

// checker notes when it is to check.
type checker struct {
	mu   sync.Mutex
	said []string // guarded by mu
}

func (c *checker) say(word string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.said = append(c.said, word)
}

func (c *checker) Begin(s *Snapshot) { c.say("begin " + string(health.Status(s.Health))) }
func (c *checker) Rest(string)       { c.say("rest") }

func (c *checker) String() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return strings.Join(c.said, ", ")
}

// TestHealth goes through what happens to the health of a container.
func TestHealth(t *testing.T) {
	inBubble(t, func(w *world, s *Service) {
		ctx := w.t.Context()
		by := &checker{}
		s.SetChecks(by)
		id := w.make(s, "web", func(o *apicontainer.CreateOptions) {
			o.Config.Healthcheck = &containertypes.HealthConfig{Test: []string{"CMD", "x"}, Retries: 1}
		})
		now := func(what, want string) {
			t.Helper()
			synctest.Wait()
			c := s.entry(id).snapshot()
			log := 0
			if c.Health != nil {
				log = len(c.Health.Log)
			}
			got := fmt.Sprintf("%s %d%s", health.Status(c.Health), log, strings.TrimPrefix(statusText(c), "Up Less than a second"))
			if got != want {
				t.Errorf("%s: %s, want %s", what, got, want)
			}
		}
		check, _ := health.Of(s.entry(id).snapshot().Config)
		ends := func(code int, valid bool) {
			s.Checked(id, check, containertypes.HealthcheckResult{ExitCode: code, Start: time.Now()}, func() bool { return valid })
		}
		now("created", "none 0Created")
		if err := s.Start(ctx, "web", containertypes.StartOptions{}); err != nil {
			t.Fatal(err)
		}
		now("started", "starting 0 (health: starting)")
		ends(0, true)
		now("looked at", "healthy 1 (healthy)")
		ends(1, false)
		now("a result that is not valid", "healthy 1 (healthy)")
		list, err := s.List(ctx, containertypes.ListOptions{Filters: filters.NewArgs(filters.Arg("health", "healthy"))})
		if err != nil || len(list) != 1 {
			t.Errorf("healthy ones: %v, %v", list, err)
		}
		if err := s.Pause(ctx, "web"); err != nil {
			t.Fatal(err)
		}
		now("paused", "unhealthy 1 (Paused)")
		if err := s.Unpause(ctx, "web"); err != nil {
			t.Fatal(err)
		}
		now("goes on", "unhealthy 1 (unhealthy)")
		ends(0, true)
		w.end(id, 0)
		synctest.Wait()
		if c := s.entry(id).snapshot(); c.Health.Status != containertypes.Unhealthy || len(c.Health.Log) != 2 {
			t.Errorf("ended: %+v", c.Health)
		}
		if err := s.Start(ctx, "web", containertypes.StartOptions{}); err != nil {
			t.Fatal(err)
		}
		now("started again", "starting 2 (health: starting)")
		if got := by.String(); got != "begin starting, rest, begin unhealthy, rest, begin starting" {
			t.Errorf("checks: %s", got)
		}
		if got := w.told(); !strings.Contains(got, "health_status: healthy pause unpause health_status: healthy die start") {
			t.Errorf("events: %s", got)
		}
	})
}
