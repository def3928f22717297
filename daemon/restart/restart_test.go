package restart_test

import (
	"testing"
	"time"

	containertypes "github.com/docker/docker/api/types/container"

	"gantry/daemon/restart"
)

func TestNext(t *testing.T) {
	const ms, s = time.Millisecond, time.Second
	tests := []struct {
		name   string
		policy restart.Policy
		prev   restart.Attempt
		exit   restart.Exit
		again  bool
		wait   time.Duration
	}{
		{name: "no", policy: restart.Policy{Name: "no"}, exit: restart.Exit{Code: 1}},
		{name: "empty", exit: restart.Exit{Code: 1}},
		{name: "always first", policy: restart.Policy{Name: "always"}, again: true, wait: 100 * ms},
		{name: "always doubles", policy: restart.Policy{Name: "always"}, prev: restart.Attempt{Count: 1, Wait: 100 * ms}, again: true, wait: 200 * ms},
		{name: "capped", policy: restart.Policy{Name: "always"}, prev: restart.Attempt{Count: 9, Wait: 51200 * ms}, again: true, wait: time.Minute},
		{name: "reset by a long run", policy: restart.Policy{Name: "always"}, prev: restart.Attempt{Count: 9, Wait: time.Minute}, exit: restart.Exit{Ran: 10 * s}, again: true, wait: 100 * ms},
		{name: "always, stopped by user", policy: restart.Policy{Name: "always"}, exit: restart.Exit{Stopped: true}},
		{name: "unless-stopped", policy: restart.Policy{Name: "unless-stopped"}, again: true, wait: 100 * ms},
		{name: "unless-stopped, stopped", policy: restart.Policy{Name: "unless-stopped"}, exit: restart.Exit{Stopped: true}},
		{name: "on-failure, success", policy: restart.Policy{Name: "on-failure"}},
		{name: "on-failure, failed", policy: restart.Policy{Name: "on-failure"}, exit: restart.Exit{Code: 3}, again: true, wait: 100 * ms},
		{name: "on-failure, last", policy: restart.Policy{Name: "on-failure", MaximumRetryCount: 2}, prev: restart.Attempt{Count: 1, Wait: 100 * ms}, exit: restart.Exit{Code: 3}, again: true, wait: 200 * ms},
		{name: "on-failure, used up", policy: restart.Policy{Name: "on-failure", MaximumRetryCount: 2}, prev: restart.Attempt{Count: 2, Wait: 200 * ms}, exit: restart.Exit{Code: 3}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			next, again := tt.policy.Next(tt.prev, tt.exit)
			if again != tt.again || next.Wait != tt.wait {
				t.Fatalf("Next = %+v, %v", next, again)
			}
			if again && next.Count != tt.prev.Count+1 {
				t.Fatalf("count %d after %d", next.Count, tt.prev.Count)
			}
		})
	}
}

func TestAtBoot(t *testing.T) {
	tests := []struct {
		policy  containertypes.RestartPolicy
		code    int
		stopped bool
		want    bool
	}{
		{containertypes.RestartPolicy{Name: "no"}, 1, false, false},
		{containertypes.RestartPolicy{Name: "always"}, 0, true, true},
		{containertypes.RestartPolicy{Name: "unless-stopped"}, 0, true, false},
		{containertypes.RestartPolicy{Name: "unless-stopped"}, 0, false, true},
		{containertypes.RestartPolicy{Name: "on-failure"}, 0, false, false},
		{containertypes.RestartPolicy{Name: "on-failure"}, 1, false, true},
		{containertypes.RestartPolicy{Name: "on-failure"}, 137, true, false},
	}
	for _, tt := range tests {
		if got := restart.Policy(tt.policy).AtBoot(0, tt.code, tt.stopped); got != tt.want {
			t.Errorf("%+v code %d stopped %v: %v", tt.policy, tt.code, tt.stopped, got)
		}
	}
}
