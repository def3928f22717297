package server_test

import (
	"syscall"
	"testing"
	"time"

	"gantry/libctr/core/task"
)

// TestStateTimeout: a shim that takes longer than the usual two seconds is waited for
// where the configuration says so, and not where it says otherwise.
func TestStateTimeout(t *testing.T) {
	needRunc(t)
	for bound, want := range map[string]task.Status{"40s": task.StatusRunning, "0s": task.StatusRunning, "100ms": task.StatusUnknown} {
		t.Run(bound, func(t *testing.T) {
			cfg := newConfig(t)
			cfg.ShimDir = binaries(t)
			cfg.Timeouts = map[string]string{"io.containerd.timeout.task.state": bound}
			c := start(t, cfg)
			c.runtime = "io.containerd.gantry.v2"
			ctx := testNamespace(t)
			c.run(t, ctx, userland(t), "slow", "sleep", "1000")
			defer c.remove(t, ctx, "slow")
			shim := c.shimOf(t, "slow")
			freeze(t, shim)
			awake := time.AfterFunc(3*time.Second, func() { _ = syscall.Kill(shim, syscall.SIGCONT) })
			st, err := c.client.Tasks().Get(ctx, "slow", "")
			if awake.Stop() {
				_ = syscall.Kill(shim, syscall.SIGCONT)
			}
			if err != nil || st.Status != want {
				t.Errorf("state %+v, %v", st, err)
			}
		})
	}
}
