package server_test

import (
	"testing"
	"time"

	"gantry/libctr/core/container"
	"gantry/libctr/core/task"
	restarts "gantry/libctr/restart"
)

// TestRestartMonitor: a container whose labels want it running is started, and started
// again; once somebody has stopped it, it is not.
func TestRestartMonitor(t *testing.T) {
	needRunc(t)
	cfg := newConfig(t)
	cfg.ShimDir = binaries(t)
	cfg.Plugins = map[string]any{"io.containerd.monitor.container.v1.restart": map[string]any{"interval": "200ms"}}
	c := start(t, cfg)
	c.runtime = "io.containerd.gantry.v2"
	ctx, id := testNamespace(t), "again"
	c.record(t, ctx, id, spec(userland(t), id, "sleep", "1000"))
	label := func(key, value string) {
		t.Helper()
		_, err := c.client.Containers().Update(ctx, container.Container{ID: id, Labels: map[string]string{key: value}}, "labels."+key)
		if err != nil {
			t.Fatal(err)
		}
	}
	state := func() (s task.State) {
		s, _ = c.client.Tasks().Get(ctx, id, "")
		return s
	}
	until := func(what string, ok func(task.State) bool) {
		t.Helper()
		for deadline := time.Now().Add(30 * time.Second); !ok(state()); time.Sleep(20 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("not %s: %+v", what, state())
			}
		}
	}
	running := func(s task.State) bool { return s.Status == task.StatusRunning }
	label(restarts.LabelPolicy, "unless-stopped")
	label(restarts.LabelStatus, "running")
	until("started", running)
	first := state().PID
	if err := c.client.Tasks().Kill(ctx, id, "", 9, true); err != nil {
		t.Fatal(err)
	}
	until("started again", func(s task.State) bool { return running(s) && s.PID != first })
	label(restarts.LabelStopped, "true")
	if err := c.client.Tasks().Kill(ctx, id, "", 9, true); err != nil {
		t.Fatal(err)
	}
	until("ended", func(s task.State) bool { return s.Status == task.StatusStopped })
	time.Sleep(600 * time.Millisecond) // three looks
	if s := state(); s.Status != task.StatusStopped {
		t.Errorf("one that was stopped: %+v", s)
	}
	label(restarts.LabelStopped, "false")
	until("started once more", running)
	label(restarts.LabelStatus, "stopped")
	until("taken down", func(s task.State) bool { return s.Status == task.StatusUnknown })
	rec, err := c.client.Containers().Get(ctx, id)
	if err != nil || rec.Labels[restarts.LabelCount] != "3" {
		t.Errorf("count: %v, %v", rec.Labels, err)
	}
	c.remove(t, ctx, id)
}
