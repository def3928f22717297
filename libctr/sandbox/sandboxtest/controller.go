package sandboxtest

import (
	"context"
	"errors"
	"runtime"
	"testing"
	"time"

	"gantry/api/errdefs"
	"gantry/api/reqctx"
	"gantry/libctr/core/sandbox"
)

// Controller runs the suite of controllers on one whose sandboxes have the runtime; each
// test has a namespace of its own, and leaves no sandbox.
func Controller(t *testing.T, c sandbox.Controller, runtime, namespace string) {
	for name, test := range map[string]func(runs){
		"life":              life,
		"nothing there":     nothingThere,
		"taken":             taken,
		"shut down at once": shutDownAtOnce,
		"bad runtime":       badRuntime,
		"wait is cut off":   waitCutOff,
		"update":            updateRunning,
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(reqctx.WithNamespace(t.Context(), namespace), time.Minute)
			defer cancel()
			test(runs{t, ctx, c, runtime})
		})
	}
}

type runs struct {
	*testing.T
	ctx     context.Context
	c       sandbox.Controller
	runtime string
}

func (r runs) must(what string, err error) {
	r.Helper()
	if err != nil {
		r.Fatalf("%s: %v", what, err)
	}
}

func (r runs) is(what string, err, class error) {
	r.Helper()
	if !errors.Is(err, class) {
		r.Errorf("%s: %v, want class %v", what, err, class)
	}
}

func (r runs) sandbox(id string) sandbox.Sandbox {
	return sandbox.Sandbox{ID: id, Sandboxer: "shim", Runtime: sandbox.Runtime{Name: r.runtime}}
}

// create makes a sandbox, which is shut down should the test fail on the way.
func (r runs) create(id string) {
	r.Helper()
	r.must("create", r.c.Create(r.ctx, r.sandbox(id), sandbox.CreateOptions{NetNSPath: "/proc/1/ns/net"}))
	r.Cleanup(func() {
		if r.Failed() {
			_ = r.c.Shutdown(context.WithoutCancel(r.ctx), id)
		}
	})
}

func (r runs) status(id string) sandbox.Status {
	r.Helper()
	st, err := r.c.Status(r.ctx, id, true)
	r.must("status", err)
	return st
}

func life(r runs) {
	r.create("pod")
	if st := r.status("pod"); st.State != sandbox.NotReady || st.ID != "pod" || !st.CreatedAt.IsZero() {
		r.Errorf("created: %+v", st)
	}
	before := time.Now().Add(-time.Second)
	i, err := r.c.Start(r.ctx, "pod")
	r.must("start", err)
	if i.ID != "pod" || i.PID == 0 || i.CreatedAt.Before(before) || i.Address == "" || i.Version != 3 {
		r.Errorf("started: %+v", i)
	}
	_, err = r.c.Start(r.ctx, "pod")
	r.is("second start", err, errdefs.ErrFailedPrecondition)
	st := r.status("pod")
	if st.State != sandbox.Ready || st.PID != i.PID || st.Address != i.Address || st.Version != 3 ||
		!st.CreatedAt.Equal(i.CreatedAt) || !st.ExitedAt.IsZero() || st.Info["netns"] != "/proc/1/ns/net" || st.Info["containers"] != "[]" {
		r.Errorf("running: %+v", st)
	}
	if st, err = r.c.Status(r.ctx, "pod", false); err != nil || len(st.Info) != 0 {
		r.Errorf("in brief: %+v, %v", st, err)
	}
	p, err := r.c.Platform(r.ctx, "pod")
	if err != nil || p.OS != runtime.GOOS || p.Architecture != runtime.GOARCH {
		r.Errorf("platform %+v, %v", p, err)
	}
	if m, err := r.c.Metrics(r.ctx, "pod"); err != nil || m.GetID() != "pod" {
		r.Errorf("metrics %v, %v", m, err)
	}

	exited := make(chan sandbox.Exit, 1)
	go func() {
		if e, err := r.c.Wait(r.ctx, "pod"); err == nil {
			exited <- e
		}
		close(exited)
	}()
	select {
	case e, ok := <-exited:
		r.Fatalf("wait answered %+v (%v) before the stop", e, ok)
	case <-time.After(50 * time.Millisecond):
	}
	r.must("stop", r.c.Stop(r.ctx, "pod", 5*time.Second))
	if e, ok := <-exited; !ok || e.Code != 0 || e.At.Before(before) {
		r.Errorf("exit %+v, %v", e, ok)
	}
	r.must("second stop", r.c.Stop(r.ctx, "pod", 0))
	if st := r.status("pod"); st.State != sandbox.NotReady || st.ExitedAt.IsZero() {
		r.Errorf("stopped: %+v", st)
	}
	_, err = r.c.Start(r.ctx, "pod")
	r.is("start after the stop", err, errdefs.ErrFailedPrecondition)
	r.must("shutdown", r.c.Shutdown(r.ctx, "pod"))
	r.is("second shutdown", r.c.Shutdown(r.ctx, "pod"), errdefs.ErrNotFound)
	if st := r.status("pod"); st.State != "" || st.ExitedAt.IsZero() {
		r.Errorf("gone: %+v", st)
	}
}

func nothingThere(r runs) {
	if st := r.status("none"); st.ID != "none" || st.State != "" || time.Since(st.ExitedAt) > time.Minute {
		r.Errorf("status of nothing: %+v", st)
	}
	r.must("stop of nothing", r.c.Stop(r.ctx, "none", 0))
	_, err := r.c.Start(r.ctx, "none")
	r.is("start", err, errdefs.ErrNotFound)
	_, err = r.c.Wait(r.ctx, "none")
	r.is("wait", err, errdefs.ErrNotFound)
	_, err = r.c.Platform(r.ctx, "none")
	r.is("platform", err, errdefs.ErrNotFound)
	_, err = r.c.Metrics(r.ctx, "none")
	r.is("metrics", err, errdefs.ErrNotFound)
	r.is("shutdown", r.c.Shutdown(r.ctx, "none"), errdefs.ErrNotFound)
	r.is("update", r.c.Update(r.ctx, "none", r.sandbox("none"), "labels"), errdefs.ErrNotFound)
}

func taken(r runs) {
	r.create("pod")
	r.is("second of a name", r.c.Create(r.ctx, r.sandbox("pod"), sandbox.CreateOptions{}), errdefs.ErrAlreadyExists)
	if st := r.status("pod"); st.ID != "pod" {
		r.Errorf("the first: %+v", st)
	}
	r.must("shutdown", r.c.Shutdown(r.ctx, "pod"))
	r.create("pod") // the name is free
	r.must("shutdown", r.c.Shutdown(r.ctx, "pod"))
}

// shutDownAtOnce ends what runs, without a stop before.
func shutDownAtOnce(r runs) {
	r.create("pod")
	_, err := r.c.Start(r.ctx, "pod")
	r.must("start", err)
	r.must("shutdown", r.c.Shutdown(r.ctx, "pod"))
	_, err = r.c.Wait(r.ctx, "pod")
	r.is("wait", err, errdefs.ErrNotFound)
}

func badRuntime(r runs) {
	s := r.sandbox("pod")
	for _, s.Runtime.Name = range []string{"io.containerd.not-installed.v9", ""} {
		// No class, as containerd's: what is not found would be the sandbox.
		if err := r.c.Create(r.ctx, s, sandbox.CreateOptions{}); err == nil || errdefs.IsNotFound(err) {
			r.Errorf("runtime %q: %v", s.Runtime.Name, err)
		}
	}
	r.is("a bad id", r.c.Create(r.ctx, r.sandbox("../pod"), sandbox.CreateOptions{}), errdefs.ErrInvalidArgument)
	if st := r.status("pod"); st.State != "" {
		r.Errorf("left: %+v", st)
	}
}

func waitCutOff(r runs) {
	r.create("pod")
	ctx, cancel := context.WithTimeout(r.ctx, 50*time.Millisecond)
	defer cancel()
	if _, err := r.c.Wait(ctx, "pod"); !errors.Is(err, context.DeadlineExceeded) {
		r.Errorf("wait: %v", err)
	}
	r.must("shutdown", r.c.Shutdown(r.ctx, "pod"))
}

func updateRunning(r runs) {
	r.create("pod")
	s := r.sandbox("pod")
	s.Labels = map[string]string{"a": "b"}
	r.must("labels", r.c.Update(r.ctx, "pod", s, "labels", "extensions.x"))
	r.is("spec", r.c.Update(r.ctx, "pod", s, "spec"), errdefs.ErrNotImplemented)
	r.is("all", r.c.Update(r.ctx, "pod", s), errdefs.ErrNotImplemented)
	r.must("shutdown", r.c.Shutdown(r.ctx, "pod"))
}
