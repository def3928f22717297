package exec

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	containertypes "github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/events"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	apicontainer "gantry/api/container"
	"gantry/api/errdefs"
	"gantry/api/logfile"
	"gantry/api/shimwire"
	apistream "gantry/api/stream"
	"gantry/daemon/container"
	"gantry/daemon/stream"
	"gantry/libctr/core/task"
)

// world is one running container "web" and its task.
type world struct {
	t      *testing.T
	target error // of Target
	stuck  bool  // Delete does not come back

	mu      sync.Mutex
	failing map[string]error
	events  []string
	execs   map[string]chan task.Exit // by id, until deleted
	last    task.ExecOptions
	conn    *conn
	remove  func(string)
	exited  func(string)
	left    []shimwire.Exec // what a daemon before has left
}

func (w *world) Target(ref string) (container.Target, error) {
	if w.target != nil {
		return container.Target{}, w.target
	}
	return container.Target{Socket: "/io/c.sock", Snapshot: &container.Snapshot{
		Record: &container.Record{ID: "c", Config: &containertypes.Config{User: "bob"}, Host: &containertypes.HostConfig{}},
	}}, nil
}

func (w *world) LookupUser(_ context.Context, _ *container.Snapshot, user string) (specs.User, string, error) {
	if user == "nope" {
		return specs.User{}, "", errdefs.InvalidArgument("unable to find user nope: no matching entries in passwd file")
	}
	return specs.User{UID: 5}, "/home/" + user, nil
}

func (w *world) Publish(_ string, a events.Action, extra map[string]string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.events = append(w.events, strings.TrimSpace(string(a)+" "+extra["exitCode"]))
}

func (w *world) OnRemove(f func(string)) { w.remove = f }
func (w *world) OnExit(f func(string))   { w.exited = f }
func (w *world) Adopted() []container.Target {
	t, _ := w.Target("web")
	return []container.Target{t}
}
func (w *world) SetExecs(func(string) []string) {}

func (w *world) Exec(_ context.Context, o task.ExecOptions) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := w.failing["exec"]; err != nil {
		return err
	}
	w.last, w.execs[o.ExecID] = o, make(chan task.Exit, 1)
	return nil
}

func (w *world) Start(_ context.Context, _, id string) (uint32, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return 77, w.failing["start"]
}

func (w *world) Delete(ctx context.Context, _, id string) (task.Exit, error) {
	if w.stuck {
		<-ctx.Done()
		return task.Exit{}, ctx.Err()
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.execs, id)
	return task.Exit{}, nil
}

func (w *world) Wait(ctx context.Context, _, id string) (task.Exit, error) {
	w.mu.Lock()
	ch := w.execs[id]
	w.mu.Unlock()
	select {
	case e := <-ch:
		return e, nil
	case <-ctx.Done():
		return task.Exit{}, ctx.Err()
	}
}

func (w *world) CloseIO(context.Context, string, string) error                   { return nil }
func (w *world) ResizePty(context.Context, string, string, uint32, uint32) error { return nil }

// exit ends the one exec there is.
func (w *world) exit(code uint32) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, ch := range w.execs {
		ch <- task.Exit{Code: code}
	}
}

type conn struct{ frames chan shimwire.Frame }

func (c *conn) Read() (shimwire.Frame, error) {
	f, ok := <-c.frames
	if !ok {
		return f, io.EOF
	}
	return f, nil
}
func (c *conn) Write(p []byte) (int, error) { return len(p), nil }
func (c *conn) CloseStdin() error           { return nil }
func (c *conn) Close() error                { return nil }

func inBubble(t *testing.T, f func(w *world, s *Service)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := &world{t: t, failing: map[string]error{}, execs: map[string]chan task.Exit{}, conn: &conn{frames: make(chan shimwire.Frame, 8)}}
		s := New(Config{
			Dial: func(context.Context, string, shimwire.Hello) (stream.Process, error) { return w.conn, nil },
			List: func(context.Context, string) ([]shimwire.Exec, error) { return w.left, nil },
		}, w, w, slog.New(slog.DiscardHandler))
		f(w, s)
		s.Close()
	})
}

func (w *world) make(s *Service, o containertypes.ExecOptions) string {
	w.t.Helper()
	if o.Cmd == nil {
		o.Cmd = []string{"ps", "-a"}
	}
	id, err := s.Create(w.t.Context(), "web", o)
	if err != nil {
		w.t.Fatal(err)
	}
	return id
}

// The exit code is there when the client's stream ends, whatever comes first.
func TestAttached(t *testing.T) {
	inBubble(t, func(w *world, s *Service) {
		id := w.make(s, containertypes.ExecOptions{AttachStdout: true})
		var out bytes.Buffer
		open := func(bool) (*apistream.Client, error) {
			r, _ := io.Pipe()
			return &apistream.Client{Stdin: r, Stdout: &out, Stderr: io.Discard, Close: r.Close}, nil
		}
		done := make(chan error, 1)
		go func() { done <- s.Start(w.t.Context(), id, apicontainer.ExecStartOptions{Open: open}) }()
		synctest.Wait()
		if x, _ := s.Inspect(w.t.Context(), id); !x.Running || x.Pid != 77 {
			t.Errorf("running: %+v", x)
		}
		w.conn.frames <- shimwire.Frame{Kind: shimwire.Data, Stream: logfile.Stdout, Data: []byte("hi")}
		w.conn.frames <- shimwire.Frame{Kind: shimwire.End}
		synctest.Wait() // the end of the output is known, the exit is not
		w.exit(7)
		if err := <-done; err != nil || out.String() != "hi" {
			t.Fatalf("%v %q", err, out.String())
		}
		if x, _ := s.Inspect(w.t.Context(), id); x.Running || x.ExitCode == nil || *x.ExitCode != 7 {
			t.Errorf("exited: %+v", x)
		}
		if err := s.Start(w.t.Context(), id, apicontainer.ExecStartOptions{Detach: true}); err == nil || err.Error() != "exec command "+id+" has already run" {
			t.Errorf("second start: %v", err)
		}
		if got, want := strings.Join(w.events, ","), "exec_create: ps -a,exec_start: ps -a,exec_die 7"; got != want {
			t.Errorf("events %s", got)
		}
		if !strings.Contains(string(w.last.Spec.GetValue()), `"HOME=/home/bob"`) || w.last.IO.Stdin != "" || w.last.IO.Stdout != "gantry-stream:///io/c.sock" {
			t.Errorf("%+v %s", w.last.IO, w.last.Spec.GetValue())
		}
	})
}

func TestStartFails(t *testing.T) {
	const prefix = "OCI runtime exec failed: exec failed: unable to start container process: "
	tests := []struct {
		step string
		err  error
		code int
		text string
	}{
		{"exec", errdefs.NotFound(`exec: "nope": executable file not found in $PATH`), 127, prefix + `exec: "nope": executable file not found in $PATH`},
		{"start", errdefs.PermissionDenied(`exec: "/etc": permission denied`), 126, prefix + `exec: "/etc": permission denied`},
		{"start", errdefs.Unavailable("gone"), 128, "gone"},
	}
	for _, tt := range tests {
		inBubble(t, func(w *world, s *Service) {
			id := w.make(s, containertypes.ExecOptions{})
			w.failing[tt.step] = tt.err
			if err := s.Start(w.t.Context(), id, apicontainer.ExecStartOptions{Detach: true}); err == nil || err.Error() != tt.text {
				t.Errorf("start: %v", err)
			}
			if x, _ := s.Inspect(w.t.Context(), id); x.Running || x.ExitCode == nil || *x.ExitCode != tt.code {
				t.Errorf("%+v", x)
			}
			if len(w.execs) != 0 {
				t.Error("exec left in the core")
			}
		})
	}
}

func TestRefused(t *testing.T) {
	inBubble(t, func(w *world, s *Service) {
		ctx := w.t.Context()
		for want, o := range map[string]containertypes.ExecOptions{
			"No exec command specified":                                    {},
			"unable to find user nope: no matching entries in passwd file": {Cmd: []string{"x"}, User: "nope"},
		} {
			if _, err := s.Create(ctx, "web", o); err == nil || err.Error() != want || !errdefs.IsInvalidArgument(err) {
				t.Errorf("%v, want %s", err, want)
			}
		}
		_, err := s.Create(ctx, "web", containertypes.ExecOptions{Cmd: []string{"x"}, DetachKeys: "ctrl-"})
		if err == nil || err.Error() != "Invalid escape keys (ctrl-) provided" || errdefs.Class(err) != errdefs.ErrInternal {
			t.Error(err)
		}
		if _, err := s.Inspect(ctx, "zz"); err == nil || err.Error() != "No such exec instance: zz" {
			t.Error(err)
		}
		id := w.make(s, containertypes.ExecOptions{DetachKeys: "ctrl-x"})
		if i, err := s.Inspect(ctx, id); err != nil || string(i.DetachKeys) != "\x18" {
			t.Errorf("detach keys %q, %v", i.DetachKeys, err)
		}
		id = w.make(s, containertypes.ExecOptions{})
		if i, err := s.Inspect(ctx, id); err != nil || i.DetachKeys == nil || len(i.DetachKeys) != 0 {
			t.Errorf("detach keys that nobody gave: %q, %v", i.DetachKeys, err)
		}
		w.target = errdefs.Conflict("Container web is paused, unpause the container before exec")
		if err := s.Start(ctx, id, apicontainer.ExecStartOptions{Detach: true}); !errdefs.IsConflict(err) {
			t.Error(err)
		}
	})
}

// Records go some time after their end, and with their container.
func TestPrune(t *testing.T) {
	inBubble(t, func(w *world, s *Service) {
		ctx := w.t.Context()
		id := w.make(s, containertypes.ExecOptions{})
		if err := s.Start(ctx, id, apicontainer.ExecStartOptions{Detach: true}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour)
		if got := s.running("c"); len(got) != 1 {
			t.Errorf("running: %v", got)
		}
		time.Sleep(time.Minute) // between two sweeps
		w.exit(0)
		time.Sleep(time.Minute)
		if x, err := s.Inspect(ctx, id); err != nil || x.CanRemove || x.Pid != 77 {
			t.Errorf("just ended: %+v, %v", x, err)
		}
		time.Sleep(sweepEvery)
		if x, err := s.Inspect(ctx, id); err != nil || !x.CanRemove {
			t.Errorf("after a sweep: %+v, %v", x, err)
		}
		time.Sleep(sweepEvery)
		if _, err := s.Inspect(ctx, id); !errdefs.IsNotFound(err) {
			t.Error("kept for ever")
		}
		never := w.make(s, containertypes.ExecOptions{})
		w.exited("c")
		if _, err := s.Inspect(ctx, never); !errdefs.IsNotFound(err) {
			t.Error("one that was never started outlives the run")
		}
		other := w.make(s, containertypes.ExecOptions{})
		w.remove("c")
		if _, err := s.Inspect(ctx, other); !errdefs.IsNotFound(err) {
			t.Error("outlives its container")
		}
	})
}

// What is tidied up after a process does not hold back its exit.
func TestExitBeforeTidying(t *testing.T) {
	inBubble(t, func(w *world, s *Service) {
		w.stuck = true
		id := w.make(s, containertypes.ExecOptions{})
		if err := s.Start(w.t.Context(), id, apicontainer.ExecStartOptions{Detach: true}); err != nil {
			t.Fatal(err)
		}
		w.exit(3)
		synctest.Wait()
		if x, _ := s.Inspect(w.t.Context(), id); x.Running || x.ExitCode == nil || *x.ExitCode != 3 {
			t.Errorf("%+v", x)
		}
	})
}

// TestRestore: execs that the daemon before has left are known as long as their processes
// are, and their ends are told; one that was never started goes.
func TestRestore(t *testing.T) {
	inBubble(t, func(w *world, s *Service) {
		ctx := w.t.Context()
		w.left = []shimwire.Exec{
			{ID: "runs", Started: true, Pid: 78, Args: []string{"top", "-b"}, Terminal: true, Stdin: true, Stdout: true},
			{ID: "never", Args: []string{"x"}},
		}
		w.execs["runs"], w.execs["never"] = make(chan task.Exit, 1), make(chan task.Exit, 1)
		s.Restore(ctx)
		if got := strings.Join(s.running("c"), " "); got != "runs" {
			t.Errorf("running: %s", got)
		}
		if _, there := w.execs["never"]; there {
			t.Error("one that was never started is left")
		}
		x, err := s.Inspect(ctx, "runs")
		if err != nil || !x.Running || x.Pid != 78 || x.ProcessConfig.Entrypoint != "top" || !x.ProcessConfig.Tty || !x.OpenStdin {
			t.Errorf("%+v, %v", x, err)
		}
		w.exit(9)
		synctest.Wait()
		if x, err := s.Inspect(ctx, "runs"); err != nil || x.Running || x.ExitCode == nil || *x.ExitCode != 9 {
			t.Errorf("ended: %+v, %v", x, err)
		}
		if got := strings.Join(w.events, ","); got != "exec_die 9" {
			t.Errorf("told %s", got)
		}
	})
}
