package process

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"gantry/api/errdefs"
)

func newDormant(t *testing.T, f Runtime) (*Task, *story) {
	t.Helper()
	told := new(story)
	task, err := New(t.Context(), Options{
		ID: "c", Runtime: f, Reaper: testReaper, Tell: told, Log: slog.New(slog.DiscardHandler), Checkpoint: "/images",
	})
	if err != nil {
		t.Fatal(err)
	}
	return task, told
}

func TestRestore(t *testing.T) {
	from := ""
	f := &fake{restored: func(_ context.Context, images string) error { from = images; return nil }}
	task, told := newDormant(t, f)
	if s := task.init.Status(); s.State != Created || s.Pid != 0 || f.init != 0 {
		t.Fatalf("before its start: %+v, and a process %d", s, f.init)
	}
	for what, err := range map[string]error{
		"pause":      task.Pause(t.Context()),
		"checkpoint": task.Checkpoint(t.Context(), CheckpointOptions{}),
		"update":     task.Update(t.Context(), nil),
		"term":       task.Kill(t.Context(), "", unix.SIGTERM, false),
	} {
		if !errdefs.IsFailedPrecondition(err) && !errdefs.IsNotFound(err) {
			t.Errorf("%s before its start: %v", what, err)
		}
	}
	pid, err := task.Start(t.Context(), "")
	if err != nil || pid == 0 || pid != f.init || from != "/images" {
		t.Fatalf("start: %d of %q, %v", pid, from, err)
	}
	if _, err := task.Start(t.Context(), ""); !errdefs.IsFailedPrecondition(err) {
		t.Errorf("second start: %v", err)
	}
	if err := task.Kill(t.Context(), "", unix.SIGKILL, false); err != nil {
		t.Error(err)
	}
	if e := task.mustWait(t, ""); e.Status != 137 {
		t.Errorf("exit %d", e.Status)
	}
	if _, _, err := task.Delete(t.Context(), ""); err != nil {
		t.Error(err)
	}
	if got := told.String(); got != `start "", exit "" 137` {
		t.Error("told:", got)
	}
}

// TestRestoreFails: nothing is told of what never ran, and it can be deleted.
func TestRestoreFails(t *testing.T) {
	f := &fake{restored: func(context.Context, string) error { return errors.New("no images") }}
	task, told := newDormant(t, f)
	if _, err := task.Start(t.Context(), ""); err == nil || err.Error() != "no images" {
		t.Fatalf("start: %v", err)
	}
	if e := task.mustWait(t, ""); e.Status != 255 {
		t.Errorf("exit %d", e.Status)
	}
	if err := task.Kill(t.Context(), "", unix.SIGKILL, true); err != nil && !errdefs.IsNotFound(err) {
		t.Errorf("kill: %v", err)
	}
	if _, _, err := task.Delete(t.Context(), ""); err != nil {
		t.Error(err)
	}
	if got := told.String(); got != "" {
		t.Error("told:", got)
	}
}

// TestKillDormant: KILL ends a task that was never restored, and a restore under way.
func TestKillDormant(t *testing.T) {
	t.Run("waiting", func(t *testing.T) {
		task, told := newDormant(t, &fake{})
		if err := task.Kill(t.Context(), "", unix.SIGKILL, true); err != nil {
			t.Fatal(err)
		}
		if e := task.mustWait(t, ""); e.Status != 137 {
			t.Errorf("exit %d", e.Status)
		}
		if _, err := task.Start(t.Context(), ""); !errdefs.IsFailedPrecondition(err) {
			t.Errorf("start after it: %v", err)
		}
		if _, _, err := task.Delete(t.Context(), ""); err != nil || told.String() != "" {
			t.Errorf("delete: %v; told: %s", err, told)
		}
	})
	t.Run("under way", func(t *testing.T) {
		begun := make(chan struct{})
		task, told := newDormant(t, &fake{restored: func(ctx context.Context, _ string) error {
			close(begun)
			<-ctx.Done()
			return ctx.Err()
		}})
		started := make(chan error, 1)
		go func() {
			_, err := task.Start(t.Context(), "")
			started <- err
		}()
		<-begun
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		if err := task.Kill(ctx, "", unix.SIGKILL, true); err != nil {
			t.Fatal(err)
		}
		if err := <-started; !errors.Is(err, context.Canceled) {
			t.Errorf("start: %v", err)
		}
		task.mustWait(t, "")
		if _, _, err := task.Delete(t.Context(), ""); err != nil || told.String() != "" {
			t.Errorf("delete: %v; told: %s", err, told)
		}
	})
	t.Run("deleted", func(t *testing.T) {
		task, _ := newDormant(t, &fake{})
		if _, _, err := task.Delete(t.Context(), ""); err != nil {
			t.Error(err)
		}
	})
}
