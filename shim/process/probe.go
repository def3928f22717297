package process

import (
	"context"
	"errors"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"gantry/api/failpoint"
	"gantry/shim/reaper"
	"gantry/shim/stdio"
)

// ProbeOptions describe a probe.
type ProbeOptions struct {
	ID   string // unique in the container, fit for a file name
	Spec *specs.Process
	// Timeout is how long it may run, its start not counted.
	Timeout time.Duration
	// Limit is how much of its output is kept, in bytes.
	Limit int
}

// Probed is how a probe ended.
type Probed struct {
	Exit     reaper.Exit
	TimedOut bool
	Output   []byte
	Cut      bool // there was more output
}

// Probe runs a process from its beginning to its end, and leaves nothing of it: it is
// told to nobody, and one whose time is over, or whose caller is gone, is killed with
// all that it has begun. One runs at a time. Output is what the process itself wrote;
// for what it leaves behind nobody waits.
func (t *Task) Probe(ctx context.Context, o ProbeOptions) (_ Probed, err error) {
	select {
	case t.probing <- struct{}{}:
		defer func() { <-t.probing }()
	case <-ctx.Done():
		return Probed{}, ctx.Err()
	}
	if err := t.enroll(); err != nil {
		return Probed{}, err
	}
	defer t.resign()
	out, err := newCapture(o.Limit)
	if err != nil {
		return Probed{}, err
	}
	defer out.close()
	p := newProcess(o.ID, nil)
	exit, err := t.startProbe(ctx, p, o.Spec, out)
	if err != nil {
		return Probed{}, err
	}
	failpoint.Hit("shim/process.probe.started")
	var r Probed
	r.Exit, r.TimedOut, err = t.awaitProbe(ctx, p, exit, o.Timeout)
	failpoint.Hit("shim/process.probe.reaped")
	r.Output, r.Cut = out.finish()
	return r, err
}

func (t *Task) startProbe(ctx context.Context, p *Process, spec *specs.Process, out *capture) (exit <-chan reaper.Exit, err error) {
	err = t.guarded(func() error {
		started, err := t.made().Exec(ctx, ExecOptions{
			ID: p.id, Spec: spec, Files: stdio.Files{Stdout: out.w, Stderr: out.w}, Warn: t.warn, Subreaper: true,
		})
		if err != nil {
			return err
		}
		p.born(started.Pid)
		exit = t.reaper.Watch(started.Pid)
		return nil
	})
	if err != nil {
		return nil, err
	}
	out.begin()
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.ending { // too late for killRest
		p.signal(unix.SIGKILL) //nolint:errcheck // it may have ended
	}
	return exit, nil
}

// awaitProbe waits for the end, by itself or by our hand.
func (t *Task) awaitProbe(ctx context.Context, p *Process, exit <-chan reaper.Exit, timeout time.Duration) (_ reaper.Exit, timedOut bool, err error) {
	timer := time.NewTimer(timeout)
	defer timer.Stop()
	select {
	case e := <-exit:
		p.died(e)
		return e, false, nil
	case <-timer.C:
		timedOut = true
	case <-ctx.Done():
		err = ctx.Err()
	}
	if kerr := t.killTree(p); kerr != nil && !errors.Is(kerr, errFinished) {
		t.log.Warn("kill probe", "container", t.id, "probe", p.id, "err", kerr)
	}
	e := <-exit
	p.died(e)
	return e, timedOut, err
}
