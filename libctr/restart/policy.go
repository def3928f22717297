package restart

import (
	"strconv"
	"strings"

	"gantry/api/errdefs"
	"gantry/libctr/core/task"
)

// Labels of a container that is looked after; containerd's.
const (
	LabelStatus  = "containerd.io/restart.status"             // what its task shall be: running or stopped
	LabelPolicy  = "containerd.io/restart.policy"             // see ParsePolicy
	LabelCount   = "containerd.io/restart.count"              // restarts until now, kept here
	LabelLogURI  = "containerd.io/restart.loguri"             // where the task's output goes
	LabelStopped = "containerd.io/restart.explicitly-stopped" // "true" once somebody has stopped it
)

// The words of policies.
const (
	No            = "no"
	Always        = "always"
	OnFailure     = "on-failure"
	UnlessStopped = "unless-stopped"
)

// Policy says whether a task that has ended is to be started again.
type Policy struct {
	Name string
	Max  int // restarts of on-failure, 0 without a bound
}

// ParsePolicy reads "no", "always", "unless-stopped", "on-failure" or
// "on-failure:N"; "" is always.
func ParsePolicy(text string) (Policy, error) {
	name, count, bounded := strings.Cut(text, ":")
	if name == "" && !bounded {
		return Policy{Name: Always}, nil
	}
	switch name {
	case No, Always, UnlessStopped:
		if bounded {
			return Policy{}, errdefs.InvalidArgument("restart policy %q takes no count", text)
		}
		return Policy{Name: name}, nil
	case OnFailure:
		if !bounded {
			return Policy{Name: name}, nil
		}
		n, err := strconv.Atoi(count)
		if err != nil || n < 0 {
			return Policy{}, errdefs.InvalidArgument("restart policy %q has no valid count", text)
		}
		return Policy{Name: name, Max: n}, nil
	}
	return Policy{}, errdefs.InvalidArgument("restart policy %q is unknown", text)
}

// action is what a container needs.
type action uint8

const (
	leave action = iota
	start
	stop
)

// decide compares what the labels want with the task; there is false when the
// container has none. A label that can't be read leaves the container alone.
func decide(labels map[string]string, there bool, s task.State) (action, error) {
	wanted, now := labels[LabelStatus], task.StatusUnknown
	if there {
		now = s.Status
	}
	switch wanted {
	case "running":
		if now == task.StatusRunning || now == task.StatusPaused || now == task.StatusPausing {
			return leave, nil
		}
		again, err := restarts(labels, s.ExitStatus)
		if !again {
			return leave, err
		}
		return start, nil
	case "stopped":
		if !there || now == task.StatusStopped {
			return leave, nil
		}
		return stop, nil
	}
	return leave, nil
}

// restarts asks the policy about a task that has ended with that status, 0 when nothing
// is known of it.
func restarts(labels map[string]string, status uint32) (bool, error) {
	if stopped, _ := strconv.ParseBool(labels[LabelStopped]); stopped {
		return false, nil
	}
	p, err := ParsePolicy(labels[LabelPolicy])
	if err != nil {
		return false, err
	}
	switch p.Name {
	case Always, UnlessStopped:
		return true, nil
	case OnFailure:
		n, err := count(labels)
		return err == nil && status != 0 && (p.Max == 0 || n < p.Max), err
	}
	return false, nil
}

// count is how often the container has been restarted.
func count(labels map[string]string) (int, error) {
	text := labels[LabelCount]
	if text == "" {
		return 0, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		return 0, errdefs.InvalidArgument("label %s: %q is no number", LabelCount, text)
	}
	return n, nil
}
