package exec

import (
	"context"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	containertypes "github.com/docker/docker/api/types/container"

	"gantry/api/errdefs"
	"gantry/daemon/container"
	"gantry/daemon/keeper"
	"gantry/libctr/core/task"
)

// Execs that nobody starts don't grow without end.
func TestTooMany(t *testing.T) {
	inBubble(t, func(w *world, s *Service) {
		for range mostAlive {
			w.make(s, containertypes.ExecOptions{})
		}
		if _, err := s.Create(t.Context(), "web", containertypes.ExecOptions{Cmd: []string{"ps"}}); errdefs.Class(err) != errdefs.ErrResourceExhausted {
			t.Errorf("one more: %v", err)
		}
		w.exited("c")
		w.make(s, containertypes.ExecOptions{})
	})
}

// Neither do long commands of execs that have ended.
func TestLongCommands(t *testing.T) {
	inBubble(t, func(w *world, s *Service) {
		long := strings.Repeat("x", keepSize/4)
		var all []*exec
		for range 6 {
			x := newExec("c", containertypes.ExecOptions{Cmd: []string{long}, Env: []string{long}}, nil)
			s.add(x)
			x.finish(0)
			s.finished(x)
			all = append(all, x)
		}
		if len(s.execs) != 3 || len(s.ended) != 3 || s.execs[all[5].id] == nil || all[5].opts.Env != nil {
			t.Errorf("%d are kept, %d in their order, the last %+v", len(s.execs), len(s.ended), all[5].id)
		}
		s.forget("c")
		if s.endedSize != 0 || len(s.execs) != 0 {
			t.Errorf("%d bytes of %d execs are left", s.endedSize, len(s.execs))
		}
	})
}

// kept is a world whose one container has a keeper.
type kept struct{ *world }

func (k kept) Adopted() []container.Target {
	t, _ := k.Target("web")
	t.Kept = true
	return []container.Target{t}
}

// Delete refuses what runs, as shims do.
func (k kept) Delete(ctx context.Context, id, exec string) (task.Exit, error) {
	k.mu.Lock()
	ch := k.execs[exec]
	k.mu.Unlock()
	if exec == "runs" && ch != nil && len(ch) == 0 {
		return task.Exit{}, errdefs.FailedPrecondition("it runs")
	}
	return k.world.Delete(ctx, id, exec)
}

// Wait leaves the exit where Delete sees it.
func (k kept) Wait(ctx context.Context, id, exec string) (task.Exit, error) {
	k.mu.Lock()
	ch := k.execs[exec]
	k.mu.Unlock()
	e, err := k.world.Wait(ctx, id, exec)
	if err == nil {
		ch <- e
	}
	return e, err
}

// keepers have the streams of execs, by their ids.
type keepers struct {
	mu      *sync.Mutex
	streams *[]string // guarded by mu
}

func (k keepers) BeginExec(context.Context, string, string, keeper.Streams) (task.IO, error) {
	return task.IO{}, nil
}
func (k keepers) CloseStdin(context.Context, string, string) error { return nil }
func (k keepers) Keeps(string) bool                                { return true }

func (k keepers) Execs(string) []string {
	k.mu.Lock()
	defer k.mu.Unlock()
	return slices.Clone(*k.streams)
}

func (k keepers) EndExec(_ context.Context, _, exec string) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	*k.streams = slices.DeleteFunc(*k.streams, func(s string) bool { return s == exec })
	return nil
}

// Of execs that a daemon before has left under a foreign shim nothing stays when they
// have ended.
func TestSeeOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &world{t: t, failing: map[string]error{}, execs: map[string]chan task.Exit{
			"runs": make(chan task.Exit, 1), "never": make(chan task.Exit, 1),
		}}
		streams := []string{"runs", "never", "gone"}
		s := New(Config{Keepers: keepers{new(sync.Mutex), &streams}}, kept{w}, kept{w}, slog.New(slog.DiscardHandler))
		defer s.Close()
		s.Restore(t.Context())
		synctest.Wait()
		if len(streams) != 1 || streams[0] != "runs" || len(w.execs) != 1 {
			t.Errorf("while it runs there are streams of %q, and %d execs", streams, len(w.execs))
		}
		w.exit(0)
		synctest.Wait()
		if len(streams) != 0 || len(w.execs) != 0 {
			t.Errorf("left: streams of %q, %d execs", streams, len(w.execs))
		}
	})
}
