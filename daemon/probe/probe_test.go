package probe

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	containertypes "github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/events"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"gantry/api/errdefs"
	"gantry/api/shimwire"
	"gantry/daemon/container"
	"gantry/daemon/health"
	"gantry/libctr/core/task"
)

// world is one container "c" whose checks do what run says.
type world struct {
	dialErr error

	mu     sync.Mutex
	run    func(ctx context.Context, o shimwire.Probe) (shimwire.Probed, error)
	health *health.Health
	began  time.Time
	dials  int
	open   int // probers
	told   []string
	byTask []string
}

func (w *world) Target(string) (container.Target, error) {
	return container.Target{Snapshot: w.snapshot(), Socket: "/s"}, nil
}

func (w *world) snapshot() *container.Snapshot {
	return &container.Snapshot{
		Record: &container.Record{ID: "c", Config: &containertypes.Config{Healthcheck: &containertypes.HealthConfig{
			Test: []string{"CMD", "look", "here"}, Interval: 10 * time.Second, Timeout: 2 * time.Second, Retries: 2,
		}}},
		State: container.State{Status: container.Running, StartedAt: w.began, Health: health.Begin(nil)},
	}
}

func (w *world) SetChecks(container.Checks) {}

func (w *world) PublishFleeting(_ string, a events.Action, extra map[string]string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.told = append(w.told, strings.TrimSpace(string(a)+" "+extra["exitCode"]))
}

func (w *world) Checked(_ string, c health.Check, r containertypes.HealthcheckResult, valid func() bool) *health.Health {
	w.mu.Lock()
	defer w.mu.Unlock()
	if valid() {
		w.health = c.After(w.health, r, w.began)
	}
	return w.health
}

func (w *world) state() health.Health {
	w.mu.Lock()
	defer w.mu.Unlock()
	return *w.health
}

func (w *world) Process(_ context.Context, _ container.Target, o containertypes.ExecOptions) (*specs.Process, error) {
	return &specs.Process{Args: o.Cmd}, nil
}

func (w *world) note(word string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.byTask = append(w.byTask, word)
	return nil
}

func (w *world) Exec(context.Context, task.ExecOptions) error { return w.note("exec") }
func (w *world) Start(context.Context, string, string) (uint32, error) {
	return 1, w.note("start")
}
func (w *world) Kill(context.Context, string, string, uint32, bool) error { return w.note("kill") }
func (w *world) Delete(context.Context, string, string) (task.Exit, error) {
	return task.Exit{}, w.note("delete")
}
func (w *world) Wait(ctx context.Context, _, id string) (task.Exit, error) {
	r, err := w.doing()(ctx, shimwire.Probe{ID: id})
	return task.Exit{Code: uint32(r.Status)}, err
}

// prober is w as a Prober.
type prober struct{ w *world }

func (p prober) Run(ctx context.Context, o shimwire.Probe) (shimwire.Probed, error) {
	return p.w.doing()(ctx, o)
}

func (w *world) doing() func(context.Context, shimwire.Probe) (shimwire.Probed, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.run
}

// do changes what checks do, and forgets what was noted.
func (w *world) do(run func(context.Context, shimwire.Probe) (shimwire.Probed, error)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.run, w.byTask = run, nil
}

// noted are the events, the calls of tasks, and the connections made.
func (w *world) noted() (told []string, byTask string, dials int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.told), strings.Join(w.byTask, " "), w.dials
}

func (p prober) Close() error {
	p.w.mu.Lock()
	defer p.w.mu.Unlock()
	p.w.open--
	return nil
}

func (w *world) dial(context.Context, string, []byte) (Prober, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.dialErr != nil {
		return nil, w.dialErr
	}
	w.dials++
	w.open++
	return prober{w}, nil
}

func exits(code int) func(context.Context, shimwire.Probe) (shimwire.Probed, error) {
	return func(context.Context, shimwire.Probe) (shimwire.Probed, error) {
		return shimwire.Probed{Status: code, Output: []byte("seen")}, nil
	}
}

func hangs(ctx context.Context, _ shimwire.Probe) (shimwire.Probed, error) {
	<-ctx.Done()
	return shimwire.Probed{}, ctx.Err()
}

func inBubble(t *testing.T, w *world, f func(s *Service)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w.began, w.health = time.Now(), health.Begin(nil)
		s := New(w, w, w, w.dial, slog.New(slog.DiscardHandler))
		s.Begin(w.snapshot())
		f(s)
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		if w.open != 0 {
			t.Errorf("%d probers are left open", w.open)
		}
	})
}

// pass lets d go by, and a moment more, so that what is due then has been done.
func pass(d time.Duration) { time.Sleep(d + time.Millisecond); synctest.Wait() }

func TestChecks(t *testing.T) {
	w := &world{run: exits(0)}
	inBubble(t, w, func(s *Service) {
		s.Begin(w.snapshot()) // again: nothing new
		pass(9 * time.Second)
		if h := w.state(); len(h.Log) != 0 || h.Status != containertypes.Starting {
			t.Errorf("too early: %+v", h)
		}
		pass(time.Second)
		if h := w.state(); len(h.Log) != 1 || h.Status != containertypes.Healthy || h.Log[0].Output != "seen" {
			t.Errorf("first check: %+v", h)
		}
		told, _, _ := w.noted()
		if got := strings.Join(told, ", "); got != "exec_create: look here, exec_start: look here, exec_die 0" {
			t.Errorf("told %s", got)
		}
		w.do(exits(3))
		pass(20 * time.Second)
		if h := w.state(); h.Status != containertypes.Unhealthy || h.FailingStreak != 2 {
			t.Errorf("two failures: %+v", h)
		}
		if _, _, n := w.noted(); n != 1 {
			t.Errorf("%d connections for three checks", n)
		}
		s.Rest("c")
		pass(time.Minute)
		if h := w.state(); len(h.Log) != 3 {
			t.Errorf("checked at rest: %+v", h)
		}
		s.Begin(w.snapshot())
		pass(10 * time.Second)
		_, _, n := w.noted()
		if h := w.state(); len(h.Log) != 4 || n != 2 {
			t.Errorf("goes on: %+v, %d connections", h, n)
		}
	})
}

// TestBad: what can go wrong with a check is its result, and told in dockerd's words.
func TestBad(t *testing.T) {
	for name, row := range map[string]struct {
		run   func(context.Context, shimwire.Probe) (shimwire.Probed, error)
		out   string
		dials int // for two checks
	}{
		"time is over": {func(context.Context, shimwire.Probe) (shimwire.Probed, error) {
			return shimwire.Probed{TimedOut: true, Status: 137}, nil
		}, "Health check exceeded timeout (2s)", 1},
		"time is over, with output": {func(context.Context, shimwire.Probe) (shimwire.Probed, error) {
			return shimwire.Probed{TimedOut: true, Status: 137, Output: []byte("half"), Cut: true}, nil
		}, "Health check exceeded timeout (2s): half...", 1},
		"not found": {func(context.Context, shimwire.Probe) (shimwire.Probed, error) {
			return shimwire.Probed{}, errdefs.NotFound(`exec: "look": executable file not found in $PATH`)
		}, `OCI runtime exec failed: exec failed: unable to start container process: exec: "look": executable file not found in $PATH`, 1},
		"shim is lost": {func(context.Context, shimwire.Probe) (shimwire.Probed, error) {
			return shimwire.Probed{}, errdefs.Unavailable("shim closed its stream socket")
		}, "shim closed its stream socket", 2},
		"shim is silent": {hangs, "timed out starting health check for container c", 2},
	} {
		t.Run(name, func(t *testing.T) {
			w := &world{run: row.run}
			inBubble(t, w, func(*Service) {
				pass(2 * (10*time.Second + startTime + 2*time.Second + killTime))
				h := w.state()
				if len(h.Log) < 2 || h.Log[1].ExitCode != -1 || h.Log[1].Output != row.out {
					t.Errorf("%+v", h.Log)
				}
				if _, _, n := w.noted(); len(h.Log) == 2 && n != row.dials {
					t.Errorf("%d connections", n)
				}
			})
		})
	}
}

// TestBrokenOff: the result of a check that a pause or an exit breaks off is nothing.
func TestBrokenOff(t *testing.T) {
	w := &world{run: hangs}
	inBubble(t, w, func(s *Service) {
		pass(11 * time.Second)
		s.Rest("c")
		pass(0)
		if h := w.state(); len(h.Log) != 0 {
			t.Errorf("%+v", h)
		}
		told, _, _ := w.noted()
		if got := told[len(told)-1]; got != "exec_die 137" {
			t.Errorf("told %s", got)
		}
	})
}

// TestByTasks: a shim that knows no probers is asked as for any exec.
func TestByTasks(t *testing.T) {
	w := &world{run: exits(0), dialErr: errdefs.NotImplemented("no probes here")}
	inBubble(t, w, func(*Service) {
		pass(10 * time.Second)
		_, by, _ := w.noted()
		if h := w.state(); h.Status != containertypes.Healthy || by != "exec start delete" {
			t.Errorf("%+v by %v", h, by)
		}
		n := 0
		w.do(func(ctx context.Context, o shimwire.Probe) (shimwire.Probed, error) {
			if n++; n > 1 { // the wait after the kill
				return shimwire.Probed{Status: 137}, nil
			}
			return hangs(ctx, o)
		})
		pass(12 * time.Second)
		_, by, _ = w.noted()
		if h := w.state(); len(h.Log) != 2 || h.Log[1].Output != "Health check exceeded timeout (2s)" || by != "exec start kill delete" {
			t.Errorf("%+v by %v", h.Log, by)
		}
	})
}

// TestDialFails: a check that cannot be asked for has failed.
func TestDialFails(t *testing.T) {
	w := &world{dialErr: errors.New("no memory")}
	inBubble(t, w, func(*Service) {
		pass(10 * time.Second)
		if h := w.state(); len(h.Log) != 1 || h.Log[0].ExitCode != -1 || h.Log[0].Output != "no memory" {
			t.Errorf("%+v", h)
		}
	})
}
