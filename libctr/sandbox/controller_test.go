package sandbox_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	sandboxapi "github.com/containerd/containerd/api/runtime/sandbox/v1"
	"github.com/containerd/typeurl/v2"

	"gantry/api/errdefs"
	core "gantry/libctr/core/sandbox"
	"gantry/libctr/sandbox"
)

// fakeShims are shims whose answers a test makes.
type fakeShims struct {
	mu       sync.Mutex
	all      map[string]*fakeShim // guarded by mu
	launched []*fakeShim          // guarded by mu
	answer   func(s *fakeShim, ctx context.Context, method string, resp any) error
}

func (f *fakeShims) Launch(_ context.Context, id string, _ core.Runtime, _ typeurl.Any) (sandbox.Shim, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.all[id] != nil {
		return nil, errdefs.AlreadyExists("task %s: already exists", id)
	}
	s := &fakeShim{of: f, id: id, gone: make(chan struct{})}
	if f.all == nil {
		f.all = map[string]*fakeShim{}
	}
	f.all[id], f.launched = s, append(f.launched, s)
	return s, nil
}

func (f *fakeShims) Find(_ context.Context, id string) (sandbox.Shim, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if s := f.all[id]; s != nil {
		return s, nil
	}
	return nil, errdefs.NotFound("shim of sandbox %s not found", id)
}

func (f *fakeShims) List(context.Context) (ids []string, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for id := range f.all {
		ids = append(ids, id)
	}
	return ids, nil
}

type fakeShim struct {
	of    *fakeShims
	id    string
	calls []string
	gone  chan struct{}
	ended bool
}

func (s *fakeShim) Bundle() string             { return "/bundle/" + s.id }
func (s *fakeShim) Endpoint() (string, uint32) { return "ttrpc+unix:///s", 3 }
func (s *fakeShim) Gone() <-chan struct{}      { return s.gone }

func (s *fakeShim) Call(ctx context.Context, timeout time.Duration, _, method string, _, resp any) error {
	s.of.mu.Lock()
	s.calls = append(s.calls, method)
	s.of.mu.Unlock()
	if timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, timeout)
		defer cancel()
	}
	return s.of.answer(s, ctx, method, resp)
}

func (s *fakeShim) End(context.Context) error {
	s.of.mu.Lock()
	defer s.of.mu.Unlock()
	if !s.ended {
		s.ended = true
		delete(s.of.all, s.id)
		close(s.gone)
	}
	return nil
}

var pod = core.Sandbox{ID: "pod", Runtime: core.Runtime{Name: "x"}}

// silent never answers.
func silent(_ *fakeShim, ctx context.Context, _ string, _ any) error {
	<-ctx.Done()
	return ctx.Err()
}

func TestSilentShim(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fakeShims{answer: func(*fakeShim, context.Context, string, any) error { return nil }}
		c := sandbox.New(f, nil)
		if err := c.Create(t.Context(), pod, core.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		f.answer = silent
		began := time.Now()
		if _, err := c.Status(t.Context(), "pod", false); !errors.Is(err, context.DeadlineExceeded) || time.Since(began) != 2*time.Second {
			t.Errorf("status: %v after %v", err, time.Since(began))
		}
		if err := c.Shutdown(t.Context(), "pod"); err != nil {
			t.Errorf("shutdown of a shim that does not answer: %v", err)
		}
		if !f.launched[0].ended {
			t.Error("the shim goes on")
		}
	})
}

// TestWaitOverLostConnection has the connection lost twice before the exit, and then the
// shim dead.
func TestWaitOverLostConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lost := 0
		f := &fakeShims{}
		f.answer = func(s *fakeShim, ctx context.Context, method string, resp any) error {
			if method != "WaitSandbox" {
				return nil
			}
			if lost++; lost <= 2 {
				return errdefs.Unavailable("connection to shim is closed")
			}
			resp.(*sandboxapi.WaitSandboxResponse).ExitStatus = 7
			return nil
		}
		c := sandbox.New(f, nil)
		if err := c.Create(t.Context(), pod, core.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		if e, err := c.Wait(t.Context(), "pod"); err != nil || e.Code != 7 || lost != 3 {
			t.Errorf("%+v, %v after %d calls", e, err, lost)
		}
		f.answer = func(*fakeShim, context.Context, string, any) error {
			return errdefs.Unavailable("connection to shim is closed")
		}
		time.AfterFunc(time.Minute, func() { _ = f.launched[0].End(context.Background()) })
		if e, err := c.Wait(t.Context(), "pod"); err != nil || e.Code != 137 || e.At.IsZero() {
			t.Errorf("of a dead shim: %+v, %v", e, err)
		}
	})
}

// TestFailedCreation leaves no shim, and says what was wrong.
func TestFailedCreation(t *testing.T) {
	for name, failure := range map[string]error{
		"a failure": errors.New("no room"), "no such service": errdefs.NotImplemented("unknown service"),
	} {
		f := &fakeShims{answer: func(_ *fakeShim, _ context.Context, method string, _ any) error {
			if method == "CreateSandbox" {
				return failure
			}
			return errdefs.NotFound("sandbox not found")
		}}
		err := sandbox.New(f, nil).Create(t.Context(), pod, core.CreateOptions{})
		if !errors.Is(err, failure) || errdefs.IsNotImplemented(err) != errdefs.IsNotImplemented(failure) {
			t.Errorf("%s: %v", name, err)
		}
		if s := f.launched[0]; !s.ended || s.calls[len(s.calls)-1] != "Shutdown" { // it has no sandbox: the task API's
			t.Errorf("%s: ended %v after %v", name, s.ended, s.calls)
		}
	}
}

// TestFailedStart ends the sandbox, unless it has been started before.
func TestFailedStart(t *testing.T) {
	for failure, ended := range map[error]bool{
		errors.New("no room"): true, errdefs.FailedPrecondition("has been started"): false,
	} {
		f := &fakeShims{answer: func(_ *fakeShim, _ context.Context, method string, _ any) error {
			if method == "StartSandbox" {
				return failure
			}
			return nil
		}}
		c := sandbox.New(f, nil)
		if err := c.Create(t.Context(), pod, core.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Start(t.Context(), "pod"); !errors.Is(err, failure) {
			t.Errorf("start: %v", err)
		}
		if f.launched[0].ended != ended {
			t.Errorf("%v: ended %v", failure, f.launched[0].ended)
		}
	}
}

// TestShimWithoutSandbox is what a crash between launch and creation leaves.
func TestShimWithoutSandbox(t *testing.T) {
	has := map[string]bool{"full": true}
	f := &fakeShims{answer: func(s *fakeShim, _ context.Context, method string, _ any) error {
		if method == "PingSandbox" && !has[s.id] {
			return errdefs.NotFound("sandbox %s not found", s.id)
		}
		return nil
	}}
	c := sandbox.New(f, nil)
	for _, id := range []string{"full", "empty", "pod"} {
		if _, err := f.Launch(t.Context(), id, core.Runtime{}, nil); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.Create(t.Context(), pod, core.CreateOptions{}); err != nil { // in the place of its empty shim
		t.Errorf("create: %v", err)
	}
	if err := c.Create(t.Context(), core.Sandbox{ID: "full"}, core.CreateOptions{}); !errdefs.IsAlreadyExists(err) {
		t.Errorf("create of what is there: %v", err)
	}
	has["pod"] = true
	c.Sweep(t.Context())
	if len(f.all) != 2 || f.all["full"] == nil || f.all["pod"] == nil {
		t.Errorf("after the sweep: %v", f.all)
	}
}
