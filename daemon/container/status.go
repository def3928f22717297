package container

import (
	"fmt"
	"time"

	"github.com/docker/go-units"

	"gantry/daemon/health"
)

// statusText is the STATUS column of `docker ps`.
func statusText(c *Snapshot) string {
	since := func(t time.Time) string { return units.HumanDuration(time.Now().UTC().Sub(t)) }
	switch c.Status {
	case Paused:
		return fmt.Sprintf("Up %s (Paused)", since(c.StartedAt))
	case Restarting:
		return fmt.Sprintf("Restarting (%d) %s ago", c.ExitCode, since(c.FinishedAt))
	case Running:
		return "Up " + since(c.StartedAt) + health.Text(c.Health)
	case Removing:
		return "Removal In Progress"
	case Dead:
		return "Dead"
	case Created:
		return "Created"
	}
	if c.FinishedAt.IsZero() {
		return ""
	}
	return fmt.Sprintf("Exited (%d) %s ago", c.ExitCode, since(c.FinishedAt))
}
