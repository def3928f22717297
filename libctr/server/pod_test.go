package server_test

import (
	"fmt"
	"sync"
	"syscall"
	"testing"

	eventtypes "github.com/containerd/containerd/api/events"

	"gantry/libctr/core/task"
)

// TestGroup has the containers of a pod share one shim, over a restart of the core, the end
// of the first of them and the death of the shim.
func TestGroup(t *testing.T) {
	onEachShim(t, groupLife)
	onOurShimWithRunc(t, groupLife)
}

func groupLife(t *testing.T, c *core) {
	ctx := testNamespace(t)
	run := func(id, group string) uint32 {
		t.Helper()
		s := spec(userland(t), id, "sleep", "1000")
		s.Annotations = map[string]string{"io.kubernetes.cri.sandbox-id": group}
		return c.runSpec(t, ctx, id, s)
	}
	shims := func(want int) { t.Helper(); c.haveShims(t, want) }
	run("pod-0", "pod")
	leader := c.shimOf(t, "pod-0")
	var wg sync.WaitGroup
	for i := 1; i < 4; i++ { // all at once
		wg.Go(func() { run(fmt.Sprintf("pod-%d", i), "pod") })
	}
	wg.Wait()
	run("other", "other")
	shims(2)
	c.remove(t, ctx, "other")

	c.remove(t, ctx, "pod-0") // its bundle goes, its shim stays
	shims(1)
	cfg, runtime, options := c.cfg, c.runtime, c.options
	c.stop(t)
	c = start(t, cfg)
	c.runtime, c.options = runtime, options
	if states, err := c.client.Tasks().List(ctx); err != nil || len(states) != 3 || states[0].Status != task.StatusRunning {
		t.Fatalf("after the restart: %+v, %v", states, err)
	}
	run("pod-4", "pod")
	shims(1)

	events, _ := c.client.Events().Subscribe(ctx, `topic=="/tasks/exit"`)
	if err := syscall.Kill(leader, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	dead := map[string]bool{}
	for len(dead) < 4 {
		exit, _ := nextEvent[*eventtypes.TaskExit](t, events, "/tasks/exit")
		if dead[exit.GetContainerID()] || exit.GetExitStatus() != 137 || running(exit.GetPid()) {
			t.Errorf("exit %v", exit)
		}
		dead[exit.GetContainerID()] = true
	}
	run("pod-5", "pod")
	shims(1)
	for i := 1; i < 6; i++ {
		c.remove(t, ctx, fmt.Sprintf("pod-%d", i))
	}
	c.noneLeft(t)
}

// haveShims waits until the core has so many shims: one that has no task any more takes a
// moment to end.
func (c *core) haveShims(t *testing.T, want int) {
	t.Helper()
	eventually(t, "shims", func() error {
		if have := c.processes(t); len(have) != want {
			return fmt.Errorf("%d shims, want %d: %v", len(have), want, have)
		}
		return nil
	})
}

// TestGroupStartsTogether has the members of a pod come and go at once: one shim at a time
// serves them, and none is left.
func TestGroupStartsTogether(t *testing.T) {
	onEachShim(t, func(t *testing.T, c *core) {
		ctx := testNamespace(t)
		roots := []string{userland(t), userland(t), userland(t), userland(t)} // links are made in each
		for round := range 2 {
			var wg sync.WaitGroup
			for i := range 4 {
				id := fmt.Sprintf("r%d-%d", round, i)
				wg.Go(func() {
					s := spec(roots[i], id, "true")
					s.Annotations = map[string]string{"io.containerd.runc.v2.group": "g"}
					c.runSpec(t, ctx, id, s)
					c.remove(t, ctx, id)
				})
			}
			wg.Wait()
			c.noneLeft(t)
		}
	})
}
