package container

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	containertypes "github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/filters"

	"gantry/api/errdefs"
	"gantry/libctr/core/task"
)

// A shim that is too busy to answer a new daemon has not ended: its container runs on,
// and its exit is the one that Wait tells.
func TestRestoreStuck(t *testing.T) {
	inBubble(t, func(w *world, s *Service) {
		id := w.make(s, "busy", nil)
		if err := s.Start(w.t.Context(), id, containertypes.StartOptions{}); err != nil {
			t.Fatal(err)
		}
		pid := s.entry(id).snapshot().Pid
		w.shutDown(s)
		w.mu.Lock()
		w.tasks[id].status = task.StatusUnknown
		w.mu.Unlock()

		s2 := w.service()
		defer w.shutDown(s2)
		if c := s2.entry(id).snapshot(); c.Status != Running || c.Pid != pid {
			t.Errorf("after restart: %+v", c.State)
		}
		w.end(id, 3)
		synctest.Wait()
		if c := s2.entry(id).snapshot(); c.Status != Exited || c.ExitCode != 3 {
			t.Errorf("after the exit: %+v", c.State)
		}
	})
}

// A daemon that is cut off after it has released a task still knows its exit.
func TestRestoreCutExit(t *testing.T) {
	inBubble(t, func(w *world, s *Service) {
		id := w.make(s, "app", nil)
		if err := s.Start(w.t.Context(), id, containertypes.StartOptions{}); err != nil {
			t.Fatal(err)
		}
		var cut State // what is on disk when the task goes
		w.mu.Lock()
		w.at["task delete"] = func() {
			in, err := s.store.load()
			if err != nil || len(in.all) != 1 {
				t.Errorf("load: %v, %v", in.all, err)
				return
			}
			cut = in.all[0].State
		}
		w.mu.Unlock()
		w.end(id, 7)
		synctest.Wait()
		w.shutDown(s)
		if err := s.store.put(&Snapshot{Record: s.entry(id).snapshot().Record, State: cut}); err != nil {
			t.Fatal(err)
		}
		s2 := w.service()
		defer w.shutDown(s2)
		if c := s2.entry(id).snapshot(); c.Status != Exited || c.ExitCode != 7 || c.Exit != nil {
			t.Errorf("after restart: %+v", c.State)
		}
	})
}

// A client that leaves in the middle of a prune leaves no half-removed container.
func TestPruneLeft(t *testing.T) {
	inBubble(t, func(w *world, s *Service) {
		for _, name := range []string{"one", "two"} {
			w.make(s, name, nil)
		}
		ctx, leave := context.WithCancel(w.t.Context())
		w.at["remove snapshot"] = leave
		report, err := s.Prune(ctx, filters.NewArgs())
		if err != nil || len(report.ContainersDeleted) != 1 {
			t.Errorf("prune: %+v, %v", report, err)
		}
		left, err := s.List(w.t.Context(), containertypes.ListOptions{All: true})
		if err != nil || len(left) != 1 || left[0].State != string(Created) {
			t.Errorf("left: %+v, %v", left, err)
		}
	})
}

// A rename that waits for a removal writes no record of what has gone.
func TestRenameGone(t *testing.T) {
	inBubble(t, func(w *world, s *Service) {
		ctx := w.t.Context()
		e := s.entry(w.make(s, "old", nil))
		if err := e.lane.enter(ctx); err != nil {
			t.Fatal(err)
		}
		renamed := make(chan error, 1)
		go func() { renamed <- s.Rename(ctx, "old", "new") }()
		synctest.Wait()
		if err := s.takeAway(ctx, e, false); err != nil {
			t.Fatal(err)
		}
		e.lane.leave()
		if err := <-renamed; !errdefs.IsNotFound(err) {
			t.Errorf("rename: %v", err)
		}
		if in, err := s.store.load(); err != nil || len(in.all) != 0 {
			t.Errorf("on disk: %v, %v", in.all, err)
		}
		if _, ok := s.index.Reserve("new", "x"); !ok {
			t.Error("the new name is taken")
		}
	})
}

// Containers of one moment come in the same order every time.
func TestListOrder(t *testing.T) {
	inBubble(t, func(w *world, s *Service) { // no time passes in it
		for range 20 {
			w.make(s, "", nil)
		}
		first := s.sorted()
		for range 5 {
			for i, c := range s.sorted() {
				if c.ID != first[i].ID {
					t.Fatalf("position %d: %s, then %s", i, first[i].ID, c.ID)
				}
			}
		}
		time.Sleep(time.Second)
		if id := w.make(s, "late", nil); s.sorted()[0].ID != id {
			t.Error("the newest is not first")
		}
	})
}
