// Package restart decides whether an ended container is started again, and when.
// It is pure: the caller keeps the Attempt between exits and waits itself.
package restart

import (
	"time"

	containertypes "github.com/docker/docker/api/types/container"
)

const (
	first   = 100 * time.Millisecond
	longest = time.Minute
	steady  = 10 * time.Second // a run this long starts the waits anew
)

// Attempt is what the next decision needs to know of the ones before.
type Attempt struct {
	Count int           // restarts so far, for on-failure's maximum
	Wait  time.Duration // the wait before the last restart; 0 before the first
}

// Exit describes one end of a container.
type Exit struct {
	Code int
	Ran  time.Duration
	// Stopped: a user asked for this end (stop, kill), or the daemon goes down.
	Stopped bool
}

// Policy is Docker's restart policy.
type Policy containertypes.RestartPolicy

// Next says whether to start again after e, and the attempt to remember, whose Wait
// is to pass first: 100 ms, doubled each time up to 1 min, back to 100 ms once a run
// has lasted 10 s. What a user stopped stays down under every policy until the daemon
// starts again, see AtBoot.
func (p Policy) Next(prev Attempt, e Exit) (next Attempt, again bool) {
	if !p.wants(prev.Count, e) {
		return Attempt{Count: prev.Count}, false
	}
	return Attempt{Count: prev.Count + 1, Wait: wait(prev.Wait, e.Ran)}, true
}

func (p Policy) wants(count int, e Exit) bool {
	if e.Stopped {
		return false
	}
	switch p.Name {
	case containertypes.RestartPolicyAlways, containertypes.RestartPolicyUnlessStopped:
		return true
	case containertypes.RestartPolicyOnFailure:
		return e.Code != 0 && (p.MaximumRetryCount == 0 || count < p.MaximumRetryCount)
	}
	return false
}

func wait(prev, ran time.Duration) time.Duration {
	if prev == 0 || ran >= steady {
		return first
	}
	return min(2*prev, longest)
}

// AtBoot says whether a container that is not running when the daemon starts is to be
// started: always in any case, unless-stopped unless a user had stopped it, on-failure
// when it had failed and has retries left.
func (p Policy) AtBoot(count, exitCode int, stopped bool) bool {
	switch p.Name {
	case containertypes.RestartPolicyAlways:
		return true
	case containertypes.RestartPolicyUnlessStopped:
		return !stopped
	case containertypes.RestartPolicyOnFailure:
		return !stopped && exitCode != 0 && (p.MaximumRetryCount == 0 || count < p.MaximumRetryCount)
	}
	return false
}
