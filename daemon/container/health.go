package container

import (
	containertypes "github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/events"

	"gantry/daemon/health"
)

// Checks makes the health checks of containers that run; daemon/probe.Service does.
type Checks interface {
	// Begin is called when a container with this state has begun to run, or goes on.
	Begin(c *Snapshot)
	// Rest is called before a container is paused or has ended. Results that come
	// afterwards are not valid.
	Rest(id string)
}

// SetChecks says who makes the checks.
func (s *Service) SetChecks(c Checks) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.checks = c
}

func (s *Service) checker() Checks {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.checks
}

// beginChecks has a container checked if it runs.
func (s *Service) beginChecks(c *Snapshot) {
	if by := s.checker(); by != nil && c.Status == Running {
		by.Begin(c)
	}
}

func (s *Service) restChecks(id string) {
	if by := s.checker(); by != nil {
		by.Rest(id)
	}
}

// firstHealth is the health of a container whose checks begin anew.
func firstHealth(c *Snapshot) *health.Health {
	if _, ok := health.Of(c.Config); !ok {
		return nil
	}
	return health.Begin(c.Health)
}

// Checked commits the result of a check, in memory only, and returns the health as it
// is then. It waits for no lane.
func (s *Service) Checked(id string, c health.Check, r containertypes.HealthcheckResult, valid func() bool) *health.Health {
	e := s.entry(id)
	if e == nil {
		return nil
	}
	var before, after containertypes.HealthStatus
	next := e.change(func(n *Snapshot) {
		if !valid() {
			return
		}
		before = health.Status(n.Health)
		n.Health = c.After(n.Health, r, n.StartedAt)
		after = n.Health.Status
	})
	if before != after {
		s.publish(next, events.ActionHealthStatus+events.Action(": "+after), nil)
	}
	return next.Health
}
