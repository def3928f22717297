package container

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"

	runcoptions "github.com/containerd/containerd/api/types/runc/options"
	"github.com/containerd/typeurl/v2"
	checkpointtypes "github.com/docker/docker/api/types/checkpoint"
	containertypes "github.com/docker/docker/api/types/container"
	"github.com/moby/sys/user"

	apicontainer "gantry/api/container"
	"gantry/api/errdefs"
	"gantry/daemon/checkpoint"
	"gantry/daemon/userns"
)

// Checkpoint writes what a dump writes last, and ends the task as CRIU does.
func (f fakeTasks) Checkpoint(_ context.Context, id, path string, options typeurl.Any) error {
	var o runcoptions.CheckpointOptions
	if err := typeurl.UnmarshalTo(options, &o); err != nil {
		return err
	}
	if o.ImagePath != path {
		return errors.New("two image paths")
	}
	if err := f.w.step("task checkpoint", ""); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(path, "inventory.img"), []byte("processes"), 0o600); err != nil {
		return err
	}
	if o.Exit {
		f.w.end(id, 137)
	}
	return nil
}

// below lists the files in a directory, hidden ones included.
func below(dir string) string {
	entries, _ := os.ReadDir(dir)
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return strings.Join(names, " ")
}

func (w *world) listed(s *Service, ref, dir string) string {
	w.t.Helper()
	list, err := s.ListCheckpoints(w.t.Context(), ref, checkpointtypes.ListOptions{CheckpointDir: dir})
	if err != nil {
		w.t.Error(err)
	}
	var names []string
	for _, c := range list {
		names = append(names, c.Name)
	}
	return strings.Join(names, " ")
}

func experimental(t *testing.T, f func(w *world, s *Service)) {
	t.Helper()
	inBubble(t, func(w *world, s *Service) {
		s.cfg.Experimental = true
		f(w, s)
	})
}

func always(o *apicontainer.CreateOptions) {
	o.HostConfig.RestartPolicy.Name = containertypes.RestartPolicyAlways
}

func TestCheckpoint(t *testing.T) {
	experimental(t, func(w *world, s *Service) {
		ctx := w.t.Context()
		id := w.make(s, "web", always)
		if err := s.Start(ctx, "web", containertypes.StartOptions{}); err != nil {
			t.Fatal(err)
		}
		if err := s.CreateCheckpoint(ctx, "web", checkpointtypes.CreateOptions{CheckpointID: "on1"}); err != nil {
			t.Fatal(err)
		}
		if c := s.entry(id).snapshot(); c.Status != Running || c.Stopped {
			t.Errorf("left running: %+v", c.State)
		}
		err := s.CreateCheckpoint(ctx, "web", checkpointtypes.CreateOptions{CheckpointID: "on1"})
		if got, want := text(err), "cannot checkpoint container web: checkpoint with name on1 already exists for container web"; got != want {
			t.Errorf("taken: %q, want %q", got, want)
		}
		if err := s.CreateCheckpoint(ctx, "web", checkpointtypes.CreateOptions{CheckpointID: "off1", Exit: true}); err != nil {
			t.Fatal(err)
		}
		if c := s.entry(id).snapshot(); c.Status != Exited || c.ExitCode != 137 || !c.Stopped {
			t.Errorf("after its end: %+v", c.State)
		}
		if got := w.listed(s, "web", ""); got != "off1 on1" {
			t.Errorf("list: %q", got)
		}
		if err := s.Start(ctx, "web", containertypes.StartOptions{CheckpointID: "off1"}); err != nil {
			t.Fatal(err)
		}
		if got, want := w.from(id), filepath.Join(s.dir(id), "checkpoints", "off1"); got != want {
			t.Errorf("restored from %q, want %q", got, want)
		}
		w.end(id, 1)
		synctest.Wait()
		if c := s.entry(id).snapshot(); c.Status != Restarting {
			t.Errorf("end of the restored: %+v", c.State)
		}
		if err := s.Stop(ctx, "web", containertypes.StopOptions{}); err != nil {
			t.Error(err)
		}
		if err := s.RemoveCheckpoint(ctx, "web", checkpointtypes.DeleteOptions{CheckpointID: "on1"}); err != nil {
			t.Error(err)
		}
		if got := below(filepath.Join(s.dir(id), "checkpoints")); got != "off1" {
			t.Errorf("left: %q", got)
		}
		if got, want := w.told(), "create start checkpoint checkpoint die start die stop"; got != want {
			t.Errorf("events %q, want %q", got, want)
		}
		if err := s.Remove(ctx, "web", containertypes.RemoveOptions{Force: true}); err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(s.dir(id)); err == nil {
			t.Error("its directory is left")
		}
	})
}

// from is what the task of a container was last to be restored from.
func (w *world) from(id string) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.froms[id]
}

// TestCheckpointFails: nothing of it is left, and the container goes on.
func TestCheckpointFails(t *testing.T) {
	experimental(t, func(w *world, s *Service) {
		ctx := w.t.Context()
		id := w.make(s, "web", always)
		if err := s.Start(ctx, "web", containertypes.StartOptions{}); err != nil {
			t.Fatal(err)
		}
		elsewhere := filepath.Join(w.dir, "elsewhere")
		w.fail["task checkpoint"] = errors.New("criu failed")
		for _, dir := range []string{"", elsewhere} {
			err := s.CreateCheckpoint(ctx, "web", checkpointtypes.CreateOptions{CheckpointID: "c1", CheckpointDir: dir, Exit: true})
			if got, want := text(err), "Cannot checkpoint container web: criu failed"; got != want {
				t.Errorf("%q, want %q", got, want)
			}
			if got := w.listed(s, "web", dir); got != "" {
				t.Errorf("listed: %s", got)
			}
		}
		if got := below(filepath.Join(s.dir(id), "checkpoints")) + below(elsewhere); got != "" {
			t.Errorf("left: %s", got)
		}
		if _, err := os.Stat(s.checkpointNote(s.entry(id))); err == nil {
			t.Error("the note is left")
		}
		if c := s.entry(id).snapshot(); c.Status != Running || c.Stopped {
			t.Errorf("container: %+v", c.State)
		}
		w.end(id, 1)
		synctest.Wait()
		if c := s.entry(id).snapshot(); c.Status != Restarting {
			t.Errorf("its policy is off: %+v", c.State)
		}
	})
}

func TestCheckpointRefused(t *testing.T) {
	experimental(t, func(w *world, s *Service) {
		ctx := w.t.Context()
		create := func(ref string, o checkpointtypes.CreateOptions) error {
			if o.CheckpointID == "" {
				o.CheckpointID = "c1"
			}
			return s.CreateCheckpoint(ctx, ref, o)
		}
		down := w.make(s, "down", nil)
		brief := w.make(s, "brief", nil)
		mapped := w.make(s, "mapped", nil)
		foreign := w.make(s, "foreign", nil)
		for _, ref := range []string{"brief", "mapped", "foreign"} {
			if err := s.Start(ctx, ref, containertypes.StartOptions{}); err != nil {
				t.Fatal(err)
			}
		}
		s.entry(mapped).change(func(n *Snapshot) {
			r := *n.Record
			r.IDs = userns.Mapping{UIDMaps: []user.IDMap{{ParentID: 100000, Count: 65536}}}
			n.Record = &r
		})
		s.entry(brief).change(func(n *Snapshot) {
			r, h := *n.Record, *n.Host
			h.AutoRemove = true
			r.Host = &h
			n.Record = &r
		})
		rts := s.live.Load().Runtimes
		rts["theirs"] = Runtime{Name: "io.containerd.runc.v2", Foreign: true}
		s.entry(foreign).change(func(n *Snapshot) {
			r, h := *n.Record, *n.Host
			h.Runtime = "theirs"
			r.Host = &h
			n.Record = &r
		})
		for name, c := range map[string]struct {
			err   error
			class error
			text  string
		}{
			"unknown":      {create("nope", checkpointtypes.CreateOptions{}), errdefs.ErrNotFound, "No such container: nope"},
			"down":         {create("down", checkpointtypes.CreateOptions{}), errdefs.ErrConflict, "container " + down + " is not running"},
			"name":         {create("brief", checkpointtypes.CreateOptions{CheckpointID: "../../x"}), nil, "Invalid checkpoint ID (../../x), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed"},
			"removed":      {create("brief", checkpointtypes.CreateOptions{Exit: true}), errdefs.ErrConflict, "cannot checkpoint container brief: it would be removed with its checkpoint when it ends; leave it running, or name a directory"},
			"relative":     {create("brief", checkpointtypes.CreateOptions{CheckpointDir: "x"}), errdefs.ErrInvalidArgument, `checkpoint directory "x" is not absolute`},
			"user":         {create("mapped", checkpointtypes.CreateOptions{}), errdefs.ErrNotImplemented, "checkpoints of containers in a user namespace are not supported"},
			"foreign shim": {create("foreign", checkpointtypes.CreateOptions{}), errdefs.ErrNotImplemented, "checkpoints are not supported with runtime theirs, whose shim is not the engine's own"},
			"rm of none":   {s.RemoveCheckpoint(ctx, "down", checkpointtypes.DeleteOptions{CheckpointID: "c1"}), nil, "checkpoint c1 does not exist for container down"},
			"ls of none": {func() error {
				_, err := s.ListCheckpoints(ctx, "down", checkpointtypes.ListOptions{CheckpointDir: "/nonexistent"})
				return err
			}(), nil, "checkpoint  does not exist for container down"},
			"start of none":    {s.Start(ctx, "down", containertypes.StartOptions{CheckpointID: "c1"}), nil, "checkpoint c1 does not exist for container down"},
			"start outside":    {s.Start(ctx, "down", containertypes.StartOptions{CheckpointID: ".."}), nil, "Invalid checkpoint ID (..), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed"},
			"start, directory": {s.Start(ctx, "down", containertypes.StartOptions{CheckpointDir: "/x"}), errdefs.ErrPermissionDenied, "custom checkpointdir is not supported"},
		} {
			if text(c.err) != c.text || c.class != nil && !errors.Is(c.err, c.class) {
				t.Errorf("%s: %v (%v), want %q", name, c.err, errdefs.Class(c.err), c.text)
			}
		}
		if c := s.entry(down).snapshot(); c.Status != Created || c.Error != "" {
			t.Errorf("a refused start has left %+v", c.State)
		}
		s.cfg.Experimental = false
		if err := s.Start(ctx, "down", containertypes.StartOptions{CheckpointID: "c1"}); !errdefs.IsInvalidArgument(err) ||
			text(err) != "checkpoint is only supported in experimental mode" {
			t.Errorf("without the option: %v", err)
		}
	})
}

// TestCheckpointCutOff: the next daemon keeps what a container has ended with, and
// removes the rest.
func TestCheckpointCutOff(t *testing.T) {
	for name, c := range map[string]struct {
		exit, ended, whole bool
		kept, again        bool
	}{
		"before the dump":         {exit: true},
		"in the dump":             {exit: true, ended: true, again: true},
		"after the container":     {exit: true, ended: true, whole: true, kept: true},
		"whole, and it runs":      {exit: true, whole: true},
		"whole, and it is to run": {whole: true},
		"ended by itself":         {ended: true, whole: true, again: true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				s := w.service()
				// A policy of always starts with the daemon whatever was.
				id := w.make(s, "web", func(o *apicontainer.CreateOptions) { o.HostConfig.RestartPolicy.Name = "unless-stopped" })
				if err := s.Start(t.Context(), "web", containertypes.StartOptions{}); err != nil {
					t.Fatal(err)
				}
				dir := checkpoint.Dir{Path: filepath.Join(w.dir, "elsewhere"), Container: "web"}
				draft, err := dir.Draft("c1")
				if err != nil {
					t.Fatal(err)
				}
				note := checkpoint.Note{Draft: draft, Exit: c.exit}
				if err := errors.Join(note.Save(s.checkpointNote(s.entry(id))), draft.Make()); err != nil {
					t.Fatal(err)
				}
				if c.whole {
					os.WriteFile(filepath.Join(draft.Path(), "inventory.img"), nil, 0o600)
				}
				s.Close()
				if c.ended {
					w.end(id, 137)
				}
				s = w.service()
				synctest.Wait() // what ended is learned beside the start
				want := ""
				if c.kept {
					want = "c1"
				}
				if got := below(dir.Path); got != want {
					t.Errorf("left: %q, want %q", got, want)
				}
				if _, err := os.Stat(s.checkpointNote(s.entry(id))); err == nil {
					t.Error("the note is left")
				}
				st := s.entry(id).snapshot()
				switch {
				case !c.ended && (st.Status != Running || st.Stopped):
					t.Errorf("it ran: %+v", st.State)
				case c.again && st.Status != Restarting && st.Status != Running:
					t.Errorf("its policy: %+v", st.State)
				case c.kept && (st.Status != Exited || !st.Stopped):
					t.Errorf("checkpointed: %+v", st.State)
				}
				w.shutDown(s)
			})
		})
	}
}
