package process

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"gantry/api/errdefs"
	"gantry/runtime/cgroup"
	"gantry/shim/reaper"
	"gantry/shim/stdio"
)

func TestMoves(t *testing.T) {
	// Rows are states, columns events: start pause resume stop delete; "" is illegal.
	want := map[State][5]string{
		Created: {"running", "", "", "stopped", ""},
		Running: {"", "paused", "", "stopped", ""},
		Paused:  {"", "", "running", "stopped", ""},
		Stopped: {"", "", "", "", "deleted"},
		Deleted: {"", "", "", "", ""},
	}
	for s, row := range want {
		for e := Start; e <= Delete; e++ {
			to, err := s.next(e)
			switch {
			case row[e] == "":
				if !errdefs.IsFailedPrecondition(err) || to != s {
					t.Errorf("%s a %s one: %v, %v", verbs[e], s, to, err)
				}
			case err != nil || to.String() != row[e]:
				t.Errorf("%s a %s one: %v, %v, want %s", verbs[e], s, to, err, row[e])
			}
		}
	}
}

// fake is a runtime whose containers are processes of /bin/sleep.
type fake struct {
	start    func(pid int) error                            // what Start does with the init
	began    func(context.Context)                          // told what Start is given; may be nil
	restored func(ctx context.Context, images string) error // may be nil
	stuck    int                                            // how many deletes fail
	oom      uint64
	init     int
	mu       sync.Mutex
	execs    []int // guarded by mu
}

func spawn() (int, error) {
	p, err := os.StartProcess("/bin/sleep", []string{"sleep", "1000"}, &os.ProcAttr{})
	if err != nil {
		return 0, err
	}
	defer p.Release()
	return p.Pid, nil
}

func (f *fake) Create(context.Context, CreateOptions) (Container, Started, error) {
	var err error
	f.init, err = spawn()
	return f, Started{Pid: f.init}, err
}

// Restore makes what Create makes, and lets restored say what becomes of it.
func (f *fake) Restore(ctx context.Context, o CreateOptions, images string) (Container, Started, error) {
	if f.restored != nil {
		if err := f.restored(ctx, images); err != nil {
			return nil, Started{}, err
		}
	}
	return f.Create(ctx, o)
}

func (f *fake) Load(string, string) (Container, error) { return f, nil }

func (f *fake) Start(ctx context.Context) error {
	if f.began != nil {
		f.began(ctx)
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if f.start != nil {
		return f.start(f.init)
	}
	return nil
}

func (f *fake) Exec(context.Context, ExecOptions) (Started, error) {
	pid, err := spawn()
	f.mu.Lock()
	defer f.mu.Unlock()
	f.execs = append(f.execs, pid)
	return Started{Pid: pid}, err
}

func (f *fake) Kill(_ context.Context, sig unix.Signal, all bool) error {
	if all {
		f.mu.Lock()
		defer f.mu.Unlock()
		for _, pid := range f.execs {
			unix.Kill(pid, sig)
		}
	}
	unix.Kill(f.init, sig)
	return nil
}

func (f *fake) Pause(context.Context) error                         { return nil }
func (f *fake) Resume(context.Context) error                        { return nil }
func (f *fake) Checkpoint(context.Context, CheckpointOptions) error { return nil }
func (f *fake) Delete(context.Context, bool) error {
	if f.stuck--; f.stuck >= 0 {
		return errdefs.Unavailable("cgroup is busy")
	}
	return nil
}
func (f *fake) Pids() ([]int, error)          { return nil, nil }
func (f *fake) Stats() (*cgroup.Stats, error) { return nil, nil }
func (f *fake) OOMKilled() (uint64, error)    { return f.oom, nil }
func (f *fake) OOM() (<-chan struct{}, func(), error) {
	return nil, nil, errdefs.NotImplemented("no oom")
}
func (f *fake) Update(context.Context, *specs.LinuxResources) error { return nil }

// story collects what is told.
type story struct {
	mu   sync.Mutex
	said []string
}

func (s *story) say(format string, a ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.said = append(s.said, fmt.Sprintf(format, a...))
}

func (s *story) Started(exec string, _ int)        { s.say("start %q", exec) }
func (s *story) OutOfMemory()                      { s.say("oom") }
func (s *story) Exited(exec string, e reaper.Exit) { s.say("exit %q %d", exec, e.Status) }
func (s *story) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.Join(s.said, ", ")
}

var testReaper = reaper.New() // one per process

func newTask(t *testing.T, f Runtime) (*Task, *story) {
	t.Helper()
	told := new(story)
	task, err := New(t.Context(), Options{
		ID: "c", Runtime: f, Reaper: testReaper, Tell: told, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	return task, told
}

func (t *Task) mustWait(test *testing.T, exec string) reaper.Exit {
	test.Helper()
	p, err := t.Process(exec)
	if err != nil {
		test.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(test.Context(), 10*time.Second)
	defer cancel()
	e, err := p.Wait(ctx)
	if err != nil {
		test.Fatal(err)
	}
	return e
}

// TestEarlyExit pins that an exit during the start is told after the start.
func TestEarlyExit(t *testing.T) {
	f := &fake{start: func(pid int) error {
		unix.Kill(pid, unix.SIGKILL)
		time.Sleep(20 * time.Millisecond) // the reaper has it long before we return
		return nil
	}}
	task, told := newTask(t, f)
	if _, err := task.Start(t.Context(), ""); err != nil {
		t.Fatal(err)
	}
	task.mustWait(t, "")
	if got := told.String(); got != `start "", exit "" 137` {
		t.Errorf("told %s", got)
	}
}

// TestStartOutlivesItsClient pins that a start whose client leaves is no failure.
func TestStartOutlivesItsClient(t *testing.T) {
	ctx, leave := context.WithCancel(t.Context())
	task, told := newTask(t, &fake{began: func(context.Context) { leave() }})
	if _, err := task.Start(ctx, ""); err != nil {
		t.Fatal(err)
	}
	task.Kill(t.Context(), "", unix.SIGKILL, false)
	task.mustWait(t, "")
	if got := told.String(); got != `start "", exit "" 137` {
		t.Errorf("told %s", got)
	}
}

// TestDeleteAgain pins that a delete which fails can be tried again.
func TestDeleteAgain(t *testing.T) {
	task, _ := newTask(t, &fake{stuck: 1})
	if _, _, err := task.Delete(t.Context(), ""); !errors.Is(err, errdefs.ErrUnavailable) {
		t.Errorf("first: %v", err)
	}
	if _, _, err := task.Delete(t.Context(), ""); err != nil {
		t.Errorf("second: %v", err)
	}
}

func TestFailedStart(t *testing.T) {
	f := &fake{start: func(pid int) error {
		unix.Kill(pid, unix.SIGKILL)
		return errdefs.NotFound("exec: %q: no such file or directory", "/x")
	}}
	task, told := newTask(t, f)
	if _, err := task.Start(t.Context(), ""); !errdefs.IsNotFound(err) {
		t.Errorf("start: %v", err)
	}
	if e := task.mustWait(t, ""); e.Status != 127 {
		t.Errorf("status %d", e.Status)
	}
	if got := told.String(); got != "" {
		t.Errorf("told %s", got)
	}
	if _, _, err := task.Delete(t.Context(), ""); err != nil {
		t.Error(err)
	}
}

// TestInitLast pins that the init's exit waits for those of the execs, also
// when they share its pid namespace with others and must be killed.
func TestInitLast(t *testing.T) {
	f := &fake{oom: 1}
	task, told := newTask(t, f)
	if _, err := task.Start(t.Context(), ""); err != nil {
		t.Fatal(err)
	}
	for i := range 5 {
		id := fmt.Sprint("e", i)
		if err := task.AddExec(t.Context(), id, new(specs.Process), stdio.Spec{}); err != nil {
			t.Fatal(err)
		}
		if _, err := task.Start(t.Context(), id); err != nil {
			t.Fatal(err)
		}
	}
	if err := task.AddExec(t.Context(), "e0", new(specs.Process), stdio.Spec{}); !errdefs.IsAlreadyExists(err) {
		t.Errorf("taken exec id: %v", err)
	}
	if err := task.AddExec(t.Context(), "late", new(specs.Process), stdio.Spec{}); err != nil {
		t.Fatal(err)
	}
	if err := task.Kill(t.Context(), "", unix.SIGKILL, false); err != nil {
		t.Fatal(err)
	}
	task.mustWait(t, "")
	if _, err := task.Start(t.Context(), "late"); !errdefs.IsFailedPrecondition(err) {
		t.Errorf("exec in a stopped container: %v", err)
	}
	said := strings.Split(told.String(), ", ")
	if len(said) != 13 || said[6] != "oom" || said[12] != `exit "" 137` {
		t.Errorf("told %q", said)
	}
	for i := range 5 {
		if e := task.mustWait(t, fmt.Sprint("e", i)); e.Status != 137 {
			t.Errorf("e%d: status %d", i, e.Status)
		}
	}
	if _, _, err := task.Delete(t.Context(), ""); err != nil {
		t.Error(err)
	}
	if _, _, err := task.Delete(t.Context(), ""); !errdefs.IsFailedPrecondition(err) {
		t.Errorf("second delete: %v", err)
	}
}

// TestExecAtTheEnd starts execs while the init ends: each either fails or is
// told whole, before the init's exit.
func TestExecAtTheEnd(t *testing.T) {
	for range 20 {
		task, told := newTask(t, &fake{})
		if _, err := task.Start(t.Context(), ""); err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		var mu sync.Mutex
		ok := 0
		for i := range 4 {
			wg.Go(func() {
				id := fmt.Sprint("e", i)
				if task.AddExec(t.Context(), id, new(specs.Process), stdio.Spec{}) != nil {
					return
				}
				if _, err := task.Start(t.Context(), id); err != nil {
					return
				}
				mu.Lock()
				ok++
				mu.Unlock()
				task.Kill(t.Context(), id, unix.SIGKILL, false)
			})
		}
		task.Kill(t.Context(), "", unix.SIGKILL, false)
		wg.Wait()
		task.mustWait(t, "")
		said := strings.Split(told.String(), ", ")
		if len(said) != 2+2*ok || said[len(said)-1] != `exit "" 137` {
			t.Fatalf("%d execs, told %q", ok, said)
		}
	}
}
