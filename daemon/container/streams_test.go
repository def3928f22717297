package container

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"

	containertypes "github.com/docker/docker/api/types/container"

	apicontainer "gantry/api/container"
	"gantry/api/shimwire"
	"gantry/daemon/keeper"
	"gantry/libctr/core/task"
)

// fakeKeepers are those of the world, one for each container that has it held.
type fakeKeepers struct {
	w       *world
	adopted *[]string
}

func (f fakeKeepers) Begin(_ context.Context, id string, s keeper.Streams) (task.IO, error) {
	return task.IO{Stdout: "/fifo", Terminal: s.Terminal}, f.w.step("keeper begin", "keeper "+id)
}

func (f fakeKeepers) Adopt(_ context.Context, id string, _ keeper.Streams) error {
	*f.adopted = append(*f.adopted, id)
	return f.w.step("keeper adopt", "")
}

func (f fakeKeepers) CloseStdin(context.Context, string, string) error {
	return f.w.step("close stdin", "")
}

func (f fakeKeepers) End(_ context.Context, id string) error {
	if _, err := (fakeTasks{f.w}).get(id); err == nil {
		f.w.t.Error("the keeper ends before the task has been deleted")
	}
	f.w.drop("keeper " + id)
	return nil
}

func (f fakeKeepers) Keeps(id string) bool {
	f.w.mu.Lock()
	defer f.w.mu.Unlock()
	return f.w.held["keeper "+id]
}

func (f fakeKeepers) Sweep(context.Context, func(string) bool) {}

func foreignRuntime(o *apicontainer.CreateOptions) { o.HostConfig.Runtime = "io.containerd.other.v2" }

// A keeper is there before the task is made, and until it has been deleted.
func TestKeeper(t *testing.T) {
	for _, fails := range []string{"", "keeper begin", "task create", "hold", "task start"} {
		t.Run(fails, func(t *testing.T) {
			inBubble(t, func(w *world, s *Service) {
				s.Keepers = fakeKeepers{w, new([]string)}
				ctx := w.t.Context()
				id := w.make(s, "web", foreignRuntime)
				before := w.holding()
				w.at["task create"] = func() {
					if !s.kept(id) {
						t.Error("no keeper when the task is made")
					}
				}
				if fails != "" {
					w.fail[fails] = errBroken
					if err := s.Start(ctx, id, containertypes.StartOptions{}); err == nil {
						t.Fatal("started")
					}
				} else {
					if err := s.Start(ctx, id, containertypes.StartOptions{}); err != nil {
						t.Fatal(err)
					}
					if !s.kept(id) {
						t.Error("no keeper while it runs")
					}
					w.end(id, 0)
					synctest.Wait()
				}
				if got := w.holding(); got != before {
					t.Errorf("left: %s, before: %s", got, before)
				}
			})
		})
	}
}

// The next daemon takes the keeper up, and a dead one is replaced when somebody comes.
func TestKeeperTakenUp(t *testing.T) {
	inBubble(t, func(w *world, s *Service) {
		var adopted []string
		s.Keepers = fakeKeepers{w, &adopted}
		ctx := w.t.Context()
		id := w.make(s, "web", foreignRuntime)
		if err := s.Start(ctx, id, containertypes.StartOptions{}); err != nil {
			t.Fatal(err)
		}
		e := s.entry(id)
		s.adopt(ctx, e, task.State{ContainerID: id, PID: 1, Status: task.StatusRunning})
		synctest.Wait()
		if len(adopted) != 1 {
			t.Errorf("adopted %q", adopted)
		}
		if _, err := s.dial(ctx, e, shimwire.Hello{}, new(heir)); err == nil || len(adopted) != 2 || len(w.dialed) != 2 {
			t.Errorf("%v, adopted %q, dialed %d times", err, adopted, len(w.dialed))
		}
	})
}

// What a client gets that asked for nothing, or for a log that nobody keeps.
func TestAttachToNothing(t *testing.T) {
	inBubble(t, func(w *world, s *Service) {
		ctx := w.t.Context()
		id := w.make(s, "web", func(o *apicontainer.CreateOptions) {
			o.HostConfig.LogConfig.Type = "none"
			o.Config.OpenStdin, o.Config.StdinOnce = true, true
		})
		if err := s.Start(ctx, id, containertypes.StartOptions{}); err != nil {
			t.Fatal(err)
		}
		c := &client{}
		if err := s.Attach(ctx, id, apicontainer.AttachOptions{Logs: true, Stdout: true, Open: c.open}); err != nil {
			t.Error(err)
		}
		if got := c.out.String(); got != "Error attaching: configured logging driver does not support reading\n" {
			t.Errorf("without a log: %q", got)
		}
		done := make(chan error, 1)
		go func() { done <- s.Attach(ctx, id, apicontainer.AttachOptions{Stream: true, Open: (&client{}).open}) }()
		synctest.Wait()
		select {
		case <-done: // stdin is open once: dockerd waits for the end
			t.Error("left while the container runs")
		default:
		}
		w.end(id, 0)
		if err := <-done; err != nil || len(w.dialed) != 0 {
			t.Errorf("%v, dialed %v", err, w.dialed)
		}
		if got := w.told(); strings.Count(got, "attach") != 1 || strings.Contains(got, "detach") {
			t.Errorf("events %s", got)
		}
	})
}
