package container

import (
	"context"
	"errors"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	containertypes "github.com/docker/docker/api/types/container"
	mounttypes "github.com/docker/docker/api/types/mount"

	apicontainer "gantry/api/container"
	"gantry/api/errdefs"
)

// inBubble runs f with a world and a service under a fake clock.
func inBubble(t *testing.T, f func(w *world, s *Service)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		s := w.service()
		f(w, s)
		w.shutDown(s)
	})
}

func TestLife(t *testing.T) {
	inBubble(t, func(w *world, s *Service) {
		ctx := w.t.Context()
		id := w.make(s, "web", nil)
		if err := s.Start(ctx, "web", containertypes.StartOptions{}); err != nil {
			t.Fatal(err)
		}
		if err := s.Start(ctx, "web", containertypes.StartOptions{}); !errdefs.IsNotModified(err) {
			t.Errorf("second start: %v", err)
		}
		c := s.entry(id).snapshot()
		if c.Status != Running || c.Pid == 0 || c.Network.NetnsPath == "" {
			t.Errorf("running: %+v", c.State)
		}
		wait, err := s.Wait(ctx, "web", containertypes.WaitConditionNextExit)
		if err != nil {
			t.Fatal(err)
		}
		w.end(id, 3)
		if r := <-wait; r.StatusCode != 3 || r.Error != nil {
			t.Errorf("wait: %+v", r)
		}
		synctest.Wait()
		c = s.entry(id).snapshot()
		if c.Status != Exited || c.ExitCode != 3 || c.Pid != 0 || c.FinishedAt.IsZero() {
			t.Errorf("exited: %+v", c.State)
		}
		if got := w.holding(); got != "snapshot" {
			t.Errorf("left after exit: %s", got)
		}
		if err := s.Stop(ctx, "web", containertypes.StopOptions{}); !errdefs.IsNotModified(err) {
			t.Errorf("stop of what is down: %v", err)
		}
		if err := s.Start(ctx, id[:6], containertypes.StartOptions{}); err != nil {
			t.Fatal(err)
		}
		if err := s.Stop(ctx, "web", containertypes.StopOptions{}); err != nil {
			t.Fatal(err)
		}
		if err := s.Remove(ctx, "web", containertypes.RemoveOptions{}); err != nil {
			t.Fatal(err)
		}
		if got, want := w.told(), "create start die start kill die stop destroy"; got != want {
			t.Errorf("events %q, want %q", got, want)
		}
		if got := w.holding(); got != "" {
			t.Errorf("left after removal: %s", got)
		}
		if _, err := s.Inspect(ctx, "web", false); text(err) != "No such container: web" {
			t.Errorf("inspect: %v", err)
		}
	})
}

// A failed start leaves a created container with Docker's code and nothing else.
func TestStartFails(t *testing.T) {
	notFound := errdefs.NotFound(`exec: "nope": executable file not found in $PATH`)
	const shimText = "failed to create task for container: failed to create shim task: OCI runtime create failed: runc create failed: unable to start container process: error during container init: "
	tests := []struct {
		step string
		err  error
		code int
		text string
		bad  bool // InvalidArgument
	}{
		{step: "mounts", err: errBroken, code: 128},
		{step: "lookup", err: errBroken, code: 128},
		{step: "allocate", err: errBroken, code: 128, text: "broken"},
		{step: "mount", err: errBroken, code: 128, text: "error while mounting volume '/volumes/v': broken"},
		{step: "core create", err: errBroken, code: 128},
		{step: "task create", err: notFound, code: 127, bad: true, text: shimText + notFound.Error()},
		{step: "task create", err: errdefs.PermissionDenied(`exec: "/etc/passwd": permission denied`), code: 126, bad: true},
		{step: "hold", err: errBroken, code: 128},
		{step: "task start", err: errors.New("start: no such file or directory"), code: 127, bad: true},
	}
	for _, tt := range tests {
		t.Run(tt.step, func(t *testing.T) {
			inBubble(t, func(w *world, s *Service) {
				id := w.make(s, "web", func(o *apicontainer.CreateOptions) { o.HostConfig.Binds = []string{"v:/v"} })
				before := w.holding()
				w.fail[tt.step] = tt.err
				err := s.Start(w.t.Context(), "web", containertypes.StartOptions{})
				if err == nil || tt.text != "" && err.Error() != tt.text || errdefs.IsInvalidArgument(err) != tt.bad {
					t.Fatalf("start: %v", err)
				}
				c := s.entry(id).snapshot()
				if c.Status != Created || c.ExitCode != tt.code || c.Error != err.Error() {
					t.Errorf("state %+v", c.State)
				}
				if got := w.holding(); got != before {
					t.Errorf("left: %s, before: %s", got, before)
				}
				delete(w.fail, tt.step)
				if err := s.Start(w.t.Context(), "web", containertypes.StartOptions{}); err != nil {
					t.Errorf("start afterwards: %v", err)
				}
			})
		})
	}
}

func TestCreateFails(t *testing.T) {
	for _, step := range []string{"validate", "prepare", "ensure", "view", "mounts", "open root", "copy up", "mount"} {
		t.Run(step, func(t *testing.T) {
			inBubble(t, func(w *world, s *Service) {
				w.make(s, "db", nil)
				before := w.holding()
				o := apicontainer.CreateOptions{Name: "web", Config: &containertypes.Config{Image: "with-volume"}, HostConfig: &containertypes.HostConfig{
					Links:  []string{"db:data"},
					Mounts: []mounttypes.Mount{{Type: mounttypes.TypeImage, Source: "app", Target: "/i"}, {Type: mounttypes.TypeImage, Source: "app", Target: "/j"}},
				}}
				w.fail[step] = errBroken
				if _, err := s.Create(w.t.Context(), o); !errors.Is(err, errBroken) {
					t.Fatalf("create: %v", err)
				}
				if got := w.holding(); got != before {
					t.Errorf("left: %s, before: %s", got, before)
				}
				if dirs, _ := os.ReadDir(s.cfg.Root); len(dirs) != 1 {
					t.Errorf("directory left")
				}
				if _, err := s.find("web/data"); !errdefs.IsNotFound(err) {
					t.Errorf("the link's name: %v", err)
				}
				clear(w.fail)
				o.Config = &containertypes.Config{Image: "with-volume"}
				if _, err := s.Create(w.t.Context(), o); err != nil {
					t.Errorf("the name is still taken: %v", err)
				}
			})
		})
	}
}

func TestCreateTexts(t *testing.T) {
	inBubble(t, func(w *world, s *Service) {
		holder := w.make(s, "taken", nil)
		tests := []struct {
			name, text string
			is         func(error) bool
			change     func(*apicontainer.CreateOptions)
		}{
			{"no config", "config cannot be empty in order to create a container", errdefs.IsInvalidArgument, func(o *apicontainer.CreateOptions) { o.Config = nil }},
			{"image", "No such image: nope:latest", errdefs.IsNotFound, func(o *apicontainer.CreateOptions) { o.Config.Image = "nope" }},
			{"name", "Invalid container name (a b), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed", errdefs.IsInvalidArgument, func(o *apicontainer.CreateOptions) { o.Name = "a b" }},
			{"taken", `Conflict. The container name "/taken" is already in use by container "` + holder + `". You have to remove (or rename) that container to be able to reuse that name.`, errdefs.IsConflict, func(o *apicontainer.CreateOptions) { o.Name = "/taken" }},
			{"command", "no command specified", errdefs.IsInvalidArgument, func(o *apicontainer.CreateOptions) { o.Config.Image = "" }},
			{"driver", "logger: no log driver named 'x' is registered", errdefs.IsInvalidArgument, func(o *apicontainer.CreateOptions) { o.HostConfig.LogConfig.Type = "x" }},
			{"security", `invalid --security-opt 2: "x=y"`, errdefs.IsInvalidArgument, func(o *apicontainer.CreateOptions) { o.HostConfig.SecurityOpt = []string{"x=y"} }},
			{"duplicate", "Duplicate mount point: /c", errdefs.IsInvalidArgument, func(o *apicontainer.CreateOptions) { o.HostConfig.Binds = []string{"/a:/c", "/b:/c"} }},
			{"link to nobody", "could not get container for nobody: No such container: nobody", errdefs.IsInvalidArgument, func(o *apicontainer.CreateOptions) { o.HostConfig.Links = []string{"nobody:b"} }},
			{"quota", "--storage-opt is supported only for overlay over xfs with 'pquota' mount option", isInternal, func(o *apicontainer.CreateOptions) { o.HostConfig.StorageOpt = map[string]string{"size": "1g"} }},
			{"storage option", "unknown option inodes", isInternal, func(o *apicontainer.CreateOptions) { o.HostConfig.StorageOpt = map[string]string{"inodes": "1"} }},
			{"runtime", "unknown or invalid runtime name: kata", errdefs.IsInvalidArgument, func(o *apicontainer.CreateOptions) { o.HostConfig.Runtime = "kata" }},
			{"runtime by path", "unknown or invalid runtime name: /bin/kata.v2", errdefs.IsInvalidArgument, func(o *apicontainer.CreateOptions) { o.HostConfig.Runtime = "/bin/kata.v2" }},
			{"volume at the root", "invalid volume specification: '/': invalid mount config for type \"volume\": invalid specification: destination can't be '/'", errdefs.IsInvalidArgument, func(o *apicontainer.CreateOptions) { o.Config.Volumes = map[string]struct{}{"/": {}} }},
			{"image mount of nothing", "No such image: nope:latest", errdefs.IsNotFound, func(o *apicontainer.CreateOptions) {
				o.HostConfig.Mounts = []mounttypes.Mount{{Type: mounttypes.TypeImage, Source: "nope", Target: "/m"}}
			}},
		}
		for _, tt := range tests {
			o := apicontainer.CreateOptions{Config: &containertypes.Config{Image: "app"}, HostConfig: &containertypes.HostConfig{}}
			tt.change(&o)
			if _, err := s.Create(w.t.Context(), o); text(err) != tt.text || !tt.is(err) {
				t.Errorf("%s: %v", tt.name, err)
			}
		}
	})
}

func isInternal(err error) bool { return errdefs.Class(err) == errdefs.ErrInternal }

func TestRestartPolicy(t *testing.T) {
	inBubble(t, func(w *world, s *Service) {
		ctx := w.t.Context()
		id := w.make(s, "web", func(o *apicontainer.CreateOptions) { o.HostConfig.RestartPolicy.Name = "always" })
		if err := s.Start(ctx, id, containertypes.StartOptions{}); err != nil {
			t.Fatal(err)
		}
		e := s.entry(id)
		for i, wait := range []time.Duration{100, 200, 400} {
			w.end(id, 1)
			synctest.Wait()
			if c := e.snapshot(); c.Status != Restarting || c.RestartCount != i+1 {
				t.Fatalf("after exit %d: %+v", i+1, c.State)
			}
			time.Sleep(wait*time.Millisecond - 1)
			synctest.Wait()
			if e.snapshot().Status != Restarting {
				t.Fatalf("restart %d came too early", i+1)
			}
			time.Sleep(time.Nanosecond)
			synctest.Wait()
			if c := e.snapshot(); c.Status != Running || c.RestartCount != i+1 {
				t.Fatalf("restart %d did not come: %+v", i+1, c.State)
			}
		}
		w.end(id, 1)
		synctest.Wait()
		if err := s.Stop(ctx, id, containertypes.StopOptions{}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour)
		if c := e.snapshot(); c.Status != Exited || !c.Stopped {
			t.Errorf("stopped while restarting: %+v", c.State)
		}
		if err := s.Start(ctx, id, containertypes.StartOptions{}); err != nil {
			t.Fatal(err)
		}
		if err := s.Kill(ctx, id, ""); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour)
		if c := e.snapshot(); c.Status != Exited || c.ExitCode != 137 {
			t.Errorf("killed: %+v", c.State)
		}
	})
}

// A restart that fails ends the policy's attempts, and the container.
func TestRestartFails(t *testing.T) {
	inBubble(t, func(w *world, s *Service) {
		id := w.make(s, "web", func(o *apicontainer.CreateOptions) { o.HostConfig.RestartPolicy.Name = "always" })
		if err := s.Start(w.t.Context(), id, containertypes.StartOptions{}); err != nil {
			t.Fatal(err)
		}
		w.fail["allocate"] = errBroken
		w.end(id, 1)
		time.Sleep(time.Second)
		synctest.Wait()
		if c := s.entry(id).snapshot(); c.Status != Exited || c.Error != "broken" || c.ExitCode != 1 {
			t.Errorf("%+v", c.State)
		}
		if got := w.holding(); got != "snapshot" {
			t.Errorf("left: %s", got)
		}
	})
}

func TestAutoRemove(t *testing.T) {
	inBubble(t, func(w *world, s *Service) {
		ctx := w.t.Context()
		id := w.make(s, "web", func(o *apicontainer.CreateOptions) {
			o.HostConfig.AutoRemove = true
			o.Config.Image = "with-volume"
		})
		wait, _ := s.Wait(ctx, id, containertypes.WaitConditionRemoved)
		if err := s.Start(ctx, id, containertypes.StartOptions{}); err != nil {
			t.Fatal(err)
		}
		if err := s.Restart(ctx, id, containertypes.StopOptions{}); err != nil {
			t.Fatal(err)
		}
		if s.entry(id) == nil {
			t.Fatal("removed by a restart")
		}
		w.end(id, 5)
		if r := <-wait; r.StatusCode != 5 {
			t.Errorf("wait: %+v", r)
		}
		synctest.Wait()
		if got := w.holding(); got != "" || s.entry(id) != nil {
			t.Errorf("left: %s", got)
		}
	})
}

// Stop waits for the process, then kills it.
func TestStopKills(t *testing.T) {
	inBubble(t, func(w *world, s *Service) {
		ctx := w.t.Context()
		id := w.make(s, "web", nil)
		if err := s.Start(ctx, id, containertypes.StartOptions{}); err != nil {
			t.Fatal(err)
		}
		w.mu.Lock()
		w.tasks[id].term = false
		w.mu.Unlock()
		begun := time.Now()
		gone, cancel := context.WithCancel(ctx)
		cancel() // the client's leaving changes nothing
		if err := s.Stop(gone, id, containertypes.StopOptions{}); err != nil {
			t.Fatal(err)
		}
		if d := time.Since(begun); d != 10*time.Second {
			t.Errorf("killed after %v", d)
		}
		if got, want := w.told(), "create start kill kill die stop"; got != want {
			t.Errorf("events %q, want %q", got, want)
		}
	})
}

func TestPause(t *testing.T) {
	inBubble(t, func(w *world, s *Service) {
		ctx := w.t.Context()
		id := w.make(s, "web", nil)
		if err := s.Pause(ctx, "web"); text(err) != "container "+id+" is not running" || !errdefs.IsConflict(err) {
			t.Errorf("pause of what is down: %v", err)
		}
		if err := s.Start(ctx, id, containertypes.StartOptions{}); err != nil {
			t.Fatal(err)
		}
		if err := s.Pause(ctx, "web"); err != nil {
			t.Fatal(err)
		}
		for what, got := range map[string]error{
			"Container " + id + " is already paused":                                        s.Pause(ctx, "web"),
			"cannot start a paused container, try unpause instead":                          s.Start(ctx, "web", containertypes.StartOptions{}),
			"Container web is paused, unpause the container before exec":                    second(s.Target("web")),
			"container web is paused, unpause the container before attach":                  s.Attach(ctx, "web", apicontainer.AttachOptions{}),
			`cannot remove container "web": container is paused and must be unpaused first`: s.Remove(ctx, "web", containertypes.RemoveOptions{}),
		} {
			if text(got) != what || !errdefs.IsConflict(got) {
				t.Errorf("got %v, want %s", got, what)
			}
		}
		if err := s.Unpause(ctx, "web"); err != nil {
			t.Fatal(err)
		}
		if err := s.Remove(ctx, "web", containertypes.RemoveOptions{}); !strings.HasPrefix(text(err), `cannot remove container "web": container is running: stop the container`) {
			t.Errorf("remove: %v", err)
		}
		if err := s.Remove(ctx, "web", containertypes.RemoveOptions{Force: true}); err != nil {
			t.Error(err)
		}
	})
}

func second[T any](_ T, err error) error { return err }

// A removal that fails leaves the container dead, to be removed again.
func TestRemoveFails(t *testing.T) {
	inBubble(t, func(w *world, s *Service) {
		ctx := w.t.Context()
		id := w.make(s, "web", nil)
		w.fail["remove snapshot"] = errBroken
		if err := s.Remove(ctx, "web", containertypes.RemoveOptions{}); text(err) != `cannot remove container "web": broken` {
			t.Fatalf("remove: %v", err)
		}
		if c := s.entry(id).snapshot(); c.Status != Dead {
			t.Errorf("%+v", c.State)
		}
		if err := s.Start(ctx, "web", containertypes.StartOptions{}); !errdefs.IsConflict(err) {
			t.Errorf("start of a dead one: %v", err)
		}
		delete(w.fail, "remove snapshot")
		if err := s.Remove(ctx, "web", containertypes.RemoveOptions{}); err != nil {
			t.Error(err)
		}
	})
}

// Reads wait for nobody, whatever an operation in the lane waits for.
func TestReadsDoNotWait(t *testing.T) {
	inBubble(t, func(w *world, s *Service) {
		ctx := w.t.Context()
		id := w.make(s, "web", nil)
		e := s.entry(id)
		e.lane.enter(ctx)
		if _, err := s.Inspect(ctx, id, false); err != nil {
			t.Error(err)
		}
		if l, err := s.List(ctx, containertypes.ListOptions{All: true}); err != nil || len(l) != 1 {
			t.Errorf("%v %v", l, err)
		}
		short, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		if err := s.Start(short, id, containertypes.StartOptions{}); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("start behind another: %v", err)
		}
		e.lane.leave()
	})
}
