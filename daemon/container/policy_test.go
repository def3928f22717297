package container

import (
	"testing"
	"testing/synctest"
	"time"

	containertypes "github.com/docker/docker/api/types/container"

	apicontainer "gantry/api/container"
	"gantry/api/errdefs"
)

// underPolicy makes and starts a container with a restart policy and a stop signal.
func underPolicy(w *world, s *Service, policy containertypes.RestartPolicyMode, signal string) *entry {
	w.t.Helper()
	id := w.make(s, "web", func(o *apicontainer.CreateOptions) {
		o.Config.StopSignal, o.HostConfig.RestartPolicy.Name = signal, policy
	})
	if err := s.Start(w.t.Context(), id, containertypes.StartOptions{}); err != nil {
		w.t.Fatal(err)
	}
	return s.entry(id)
}

// A signal that is not the container's stop signal does not end the wait for a restart.
func TestSignalWhileRestarting(t *testing.T) {
	inBubble(t, func(w *world, s *Service) {
		ctx := w.t.Context()
		e := underPolicy(w, s, "always", "SIGUSR1")
		w.end(e.id, 1)
		synctest.Wait()
		if err := s.Start(ctx, e.id, containertypes.StartOptions{}); !errdefs.IsNotModified(err) || e.snapshot().Status != Restarting {
			t.Errorf("start while restarting: %v", err)
		}
		if err := s.Kill(ctx, e.id, "TERM"); err != nil {
			t.Error(err)
		}
		time.Sleep(time.Second)
		if c := e.snapshot(); c.Status != Running {
			t.Fatalf("after another signal %+v", c.State)
		}
		w.end(e.id, 1)
		synctest.Wait()
		if err := s.Kill(ctx, e.id, "USR1"); err != nil {
			t.Error(err)
		}
		time.Sleep(time.Hour)
		if c := e.snapshot(); c.Status != Exited {
			t.Errorf("after the stop signal %+v", c.State)
		}
	})
}

// A user's signal counts until a user starts the container, whatever the policy does.
func TestStoppedOutlastsPolicy(t *testing.T) {
	inBubble(t, func(w *world, s *Service) {
		ctx := w.t.Context()
		e := underPolicy(w, s, "always", "SIGUSR1")
		if err := s.Kill(ctx, e.id, "TERM"); err != nil { // ends it, and is not its stop signal
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		if c := e.snapshot(); c.Status != Running || !c.Stopped {
			t.Errorf("restarted by the policy: %+v", c.State)
		}
		if err := s.Stop(ctx, e.id, containertypes.StopOptions{}); err != nil {
			t.Fatal(err)
		}
		if err := s.Start(ctx, e.id, containertypes.StartOptions{}); err != nil {
			t.Fatal(err)
		}
		if e.snapshot().Stopped {
			t.Error("started by a user, and stopped by one")
		}
	})
}

// Where a start failed before the runtime was asked, the exit code of the run before stays.
func TestFailedStartKeepsCode(t *testing.T) {
	inBubble(t, func(w *world, s *Service) {
		e := underPolicy(w, s, "no", "")
		w.end(e.id, 3)
		synctest.Wait()
		w.fail["allocate"] = errBroken
		if err := s.Restart(w.t.Context(), e.id, containertypes.StopOptions{}); errdefs.Class(err) != errdefs.ErrInternal || text(err) != "Cannot restart container "+e.id+": broken" {
			t.Errorf("restart: %v", err)
		}
		if c := e.snapshot(); c.ExitCode != 3 || c.Error != "broken" {
			t.Errorf("%+v", c.State)
		}
		clear(w.fail)
		w.fail["task create"] = errdefs.NotFound(`exec: "nope": executable file not found in $PATH`)
		if err := s.Restart(w.t.Context(), e.id, containertypes.StopOptions{}); errdefs.Class(err) != errdefs.ErrInternal {
			t.Errorf("restart: %v", err)
		}
		if c := e.snapshot(); c.ExitCode != 127 {
			t.Errorf("%+v", c.State)
		}
	})
}

// Who waits for a removal hears that it failed; the next one may succeed.
func TestFailedRemovalIsTold(t *testing.T) {
	inBubble(t, func(w *world, s *Service) {
		ctx := w.t.Context()
		id := w.make(s, "web", nil)
		w.fail["remove snapshot"] = errBroken
		for _, want := range []string{"broken", ""} {
			wait, err := s.Wait(ctx, id, containertypes.WaitConditionRemoved)
			if err != nil {
				t.Fatal(err)
			}
			err = s.Remove(ctx, id, containertypes.RemoveOptions{})
			if (err != nil) != (want != "") {
				t.Errorf("remove: %v", err)
			}
			r := <-wait
			if got := ""; r.Error != nil && r.Error.Message != want || r.Error == nil && want != got {
				t.Errorf("told %+v, want %q", r, want)
			}
			clear(w.fail)
		}
	})
}

// What nobody has started when the daemon ends is removed by the next one, where it was
// to be removed at its end: who was to start it has gone.
func TestAutoRemoveOfCreated(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		s := w.service()
		w.make(s, "gone", func(o *apicontainer.CreateOptions) { o.HostConfig.AutoRemove = true })
		w.make(s, "stays", nil)
		w.shutDown(s)
		s = w.service()
		synctest.Wait()
		if _, err := s.find("gone"); !errdefs.IsNotFound(err) {
			t.Errorf("gone: %v", err)
		}
		if _, err := s.find("stays"); err != nil {
			t.Error(err)
		}
		w.shutDown(s)
	})
}
