package restart

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/types/known/anypb"

	"gantry/api/errdefs"
	"gantry/api/reqctx"
	"gantry/libctr/core/container"
	"gantry/libctr/core/event"
	"gantry/libctr/core/mount"
	"gantry/libctr/core/task"
)

func TestParsePolicy(t *testing.T) {
	for text, want := range map[string]Policy{
		"": {Name: Always}, "no": {Name: No}, "always": {Name: Always}, "unless-stopped": {Name: UnlessStopped},
		"on-failure": {Name: OnFailure}, "on-failure:0": {Name: OnFailure}, "on-failure:3": {Name: OnFailure, Max: 3},
	} {
		if got, err := ParsePolicy(text); got != want || err != nil {
			t.Errorf("%q: %+v, %v", text, got, err)
		}
	}
	for _, text := range []string{"never", "always:3", "no:1", "on-failure:x", "on-failure:-1", "on-failure:", ":3"} {
		if _, err := ParsePolicy(text); !errdefs.IsInvalidArgument(err) {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func TestDecide(t *testing.T) {
	state := func(s task.Status, code uint32) *task.State { return &task.State{Status: s, ExitStatus: code} }
	for name, tc := range map[string]struct {
		labels []string // key, value …
		state  *task.State
		want   action
		fails  bool
	}{
		"runs":                        {[]string{LabelStatus, "running"}, state(task.StatusRunning, 0), leave, false},
		"is paused":                   {[]string{LabelStatus, "running"}, state(task.StatusPaused, 0), leave, false},
		"has ended":                   {[]string{LabelStatus, "running"}, state(task.StatusStopped, 0), start, false},
		"has no task":                 {[]string{LabelStatus, "running"}, nil, start, false},
		"was stopped":                 {[]string{LabelStatus, "running", LabelStopped, "true"}, state(task.StatusStopped, 0), leave, false},
		"no":                          {[]string{LabelStatus, "running", LabelPolicy, "no"}, state(task.StatusStopped, 1), leave, false},
		"on failure, fine":            {[]string{LabelStatus, "running", LabelPolicy, "on-failure"}, state(task.StatusStopped, 0), leave, false},
		"on failure, failed":          {[]string{LabelStatus, "running", LabelPolicy, "on-failure"}, state(task.StatusStopped, 1), start, false},
		"on failure, gone":            {[]string{LabelStatus, "running", LabelPolicy, "on-failure"}, nil, leave, false},
		"on failure, often enough":    {[]string{LabelStatus, "running", LabelPolicy, "on-failure:2", LabelCount, "2"}, state(task.StatusStopped, 1), leave, false},
		"on failure, not yet":         {[]string{LabelStatus, "running", LabelPolicy, "on-failure:2", LabelCount, "1"}, state(task.StatusStopped, 1), start, false},
		"on failure, count is broken": {[]string{LabelStatus, "running", LabelPolicy, "on-failure:2", LabelCount, "x"}, state(task.StatusStopped, 1), leave, true},
		"unknown policy":              {[]string{LabelStatus, "running", LabelPolicy, "often"}, state(task.StatusStopped, 1), leave, true},
		"shall be down, runs":         {[]string{LabelStatus, "stopped"}, state(task.StatusRunning, 0), stop, false},
		"shall be down, is":           {[]string{LabelStatus, "stopped"}, state(task.StatusStopped, 0), leave, false},
		"shall be down, never was":    {[]string{LabelStatus, "stopped"}, nil, leave, false},
		"strange":                     {[]string{LabelStatus, "dancing"}, nil, leave, false},
	} {
		labels := map[string]string{}
		for i := 0; i < len(tc.labels); i += 2 {
			labels[tc.labels[i]] = tc.labels[i+1]
		}
		var s task.State
		if tc.state != nil {
			s = *tc.state
		}
		if got, err := decide(labels, tc.state != nil, s); got != tc.want || (err != nil) != tc.fails {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
}

// world is a core of one namespace; it counts what is done to its tasks.
type world struct {
	mu     sync.Mutex
	recs   map[string]container.Container
	tasks  map[string]task.State
	calls  []string
	lists  int
	broken error // of Tasks.Start
	events chan *event.Envelope
}

func newWorld() *world {
	return &world{recs: map[string]container.Container{}, tasks: map[string]task.State{}, events: make(chan *event.Envelope, 64)}
}

func (w *world) call(s string) { w.calls = append(w.calls, s) }

type worldContainers struct{ *world }

func (w worldContainers) Get(_ context.Context, id string) (container.Container, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	c, ok := w.recs[id]
	if !ok {
		return c, errdefs.NotFound("container %s not found", id)
	}
	return c, nil
}

func (w worldContainers) List(ctx context.Context, _ ...string) (out []container.Container, _ error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.lists++
	if reqctx.Namespace(ctx) != "ns" {
		return nil, nil
	}
	for _, c := range w.recs {
		if c.Labels[LabelStatus] != "" {
			out = append(out, c)
		}
	}
	return out, nil
}

func (w worldContainers) Update(_ context.Context, c container.Container, _ ...string) (container.Container, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	old := w.recs[c.ID]
	labels := map[string]string{}
	for k, v := range old.Labels {
		labels[k] = v
	}
	for k, v := range c.Labels {
		labels[k] = v
	}
	old.Labels = labels
	w.recs[c.ID] = old
	return old, nil
}

func (w *world) Get(_ context.Context, id, _ string) (task.State, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	s, ok := w.tasks[id]
	if !ok {
		return s, errdefs.NotFound("task %s not found", id)
	}
	return s, nil
}

func (w *world) Create(_ context.Context, o task.CreateOptions) (uint32, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if o.IO.Stdout != "" && (!o.IO.Terminal || o.IO.Stderr != "") || len(o.Rootfs) != 1 {
		w.call("create with wrong options")
	}
	w.call("create " + o.ContainerID + " " + o.IO.Stdout)
	w.tasks[o.ContainerID] = task.State{Status: task.StatusCreated}
	return 1, nil
}

func (w *world) Start(_ context.Context, id, _ string) (uint32, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.call("start " + id)
	if w.broken != nil {
		return 0, w.broken
	}
	w.tasks[id] = task.State{Status: task.StatusRunning}
	return 1, nil
}

func (w *world) Kill(_ context.Context, id, _ string, _ uint32, _ bool) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	s, ok := w.tasks[id]
	if !ok || s.Status == task.StatusStopped {
		return errdefs.NotFound("process already finished")
	}
	w.call("kill " + id)
	w.tasks[id] = task.State{Status: task.StatusStopped, ExitStatus: 137}
	return nil
}

func (w *world) Wait(context.Context, string, string) (task.Exit, error) { return task.Exit{}, nil }

func (w *world) Delete(_ context.Context, id, _ string) (task.Exit, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if _, ok := w.tasks[id]; !ok {
		return task.Exit{}, errdefs.NotFound("task %s not found", id)
	}
	w.call("delete " + id)
	delete(w.tasks, id)
	return task.Exit{}, nil
}

type worldNamespaces struct{}

func (worldNamespaces) List(context.Context) ([]string, error) { return []string{"ns", "other"}, nil }

func (w *world) Subscribe(ctx context.Context, _ ...string) (<-chan *event.Envelope, <-chan error) {
	errs := make(chan error, 1)
	context.AfterFunc(ctx, func() { errs <- ctx.Err() })
	return w.events, errs
}

func (w *world) Publish(context.Context, string, any) error { return nil }

func (w *world) Mounts(context.Context, string, string) ([]mount.Mount, error) {
	return []mount.Mount{{Type: "bind", Source: "/x"}}, nil
}

func (w *world) put(id string, labels map[string]string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	// A type that nobody has registered.
	spec := &anypb.Any{TypeUrl: "types.containerd.io/opencontainers/runtime-spec/1/Spec", Value: []byte(`{"process": {"terminal": true}}`)}
	w.recs[id] = container.Container{ID: id, Labels: labels, Spec: spec, SnapshotKey: "k", Snapshotter: "native"}
}

func (w *world) set(id string, s task.State) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.tasks[id] = s
}

// done returns what has been done since the last call.
func (w *world) done() []string {
	synctest.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	out := w.calls
	w.calls = nil
	return out
}

func (w *world) run(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	m := New(Config{Containers: worldContainers{w}, Tasks: w, Events: w, Namespaces: worldNamespaces{}, Mounts: w, Log: slog.New(slog.DiscardHandler)})
	ended := make(chan struct{})
	go func() { m.Run(ctx); close(ended) }()
	t.Cleanup(func() { cancel(); <-ended })
}

func same(t *testing.T, what string, got []string, want ...string) {
	t.Helper()
	if len(got) != len(want) {
		t.Errorf("%s: %q", what, got)
		return
	}
	for i := range got {
		if got[i] != want[i] {
			t.Errorf("%s: %q", what, got)
			return
		}
	}
}

// inBubble runs a test on a clock of its own.
func inBubble(t *testing.T, f func(t *testing.T, w *world)) {
	synctest.Test(t, func(t *testing.T) { f(t, newWorld()) })
}

func TestRestartsWhatHasEnded(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.put("c", map[string]string{LabelStatus: "running", LabelLogURI: "file:///log"})
		w.set("c", task.State{Status: task.StatusRunning})
		w.run(t)
		same(t, "while it runs", w.done())
		w.set("c", task.State{Status: task.StatusStopped, ExitStatus: 1})
		time.Sleep(11 * time.Second)
		same(t, "when it has ended", w.done(), "delete c", "create c file:///log", "start c")
		if n := w.recs["c"].Labels[LabelCount]; n != "1" {
			t.Errorf("count %s", n)
		}
		// One that can't be started is tried again, and nothing of it stays.
		w.mu.Lock()
		w.broken = errors.New("no such file")
		w.mu.Unlock()
		w.set("c", task.State{Status: task.StatusStopped})
		time.Sleep(10 * time.Second)
		same(t, "one that fails", w.done(), "delete c", "create c file:///log", "start c", "kill c", "delete c")
	})
}

// TestAtBoot: the first look starts at once what has no task, and forgets who was
// stopped where the policy is always, and there alone.
func TestAtBoot(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.put("always", map[string]string{LabelStatus: "running", LabelPolicy: "always", LabelStopped: "true"})
		w.put("unless", map[string]string{LabelStatus: "running", LabelPolicy: "unless-stopped", LabelStopped: "true"})
		w.put("down", map[string]string{LabelStatus: "stopped"})
		w.set("down", task.State{Status: task.StatusRunning})
		w.run(t)
		seen := map[string]bool{}
		for _, call := range w.done() {
			seen[call] = true
		}
		if len(seen) != 4 || !seen["create always "] || !seen["start always"] || !seen["kill down"] || !seen["delete down"] {
			t.Errorf("done %v", seen)
		}
	})
}

// TestLeavesClientsTime: a container whose client is about to make and start its task
// is not touched before the look after the next.
func TestLeavesClientsTime(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.run(t)
		w.done()
		w.put("new", map[string]string{LabelStatus: "running"})
		w.events <- &event.Envelope{Namespace: "ns", Topic: "/containers/create"}
		time.Sleep(11 * time.Second)
		same(t, "at the next look", w.done())
		w.set("new", task.State{Status: task.StatusRunning})
		time.Sleep(10 * time.Second)
		same(t, "once it runs", w.done())
		w.put("lost", map[string]string{LabelStatus: "running"})
		time.Sleep(20 * time.Second)
		same(t, "one whose client never comes", w.done(), "create lost ", "start lost")
	})
}

// TestIdle: namespaces without such containers are not asked again.
func TestIdle(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.run(t)
		w.done()
		before := w.lists
		time.Sleep(time.Hour)
		w.done()
		if w.lists != before {
			t.Errorf("%d lists in an idle hour", w.lists-before)
		}
	})
}
