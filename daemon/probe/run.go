package probe

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	containertypes "github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/events"

	"gantry/api/errdefs"
	"gantry/api/shimwire"
	"gantry/daemon/container"
)

// Beside its own time a check gets so long for the start of its process, and for the end
// of one that is killed.
const (
	startTime = 30 * time.Second
	killTime  = 10 * time.Second
)

// exitFailed is the code of a check that did not run to its end.
const exitFailed = -1

// run makes one check. It tells of it as of an exec.
func (w *watch) run() containertypes.HealthcheckResult {
	r := containertypes.HealthcheckResult{Start: time.Now()}
	ctx, cancel := context.WithTimeout(w.ctx, startTime+w.check.Timeout+killTime)
	defer cancel()
	p, err := w.probe(ctx, newID())
	r.End = time.Now()
	switch {
	case errors.Is(err, context.DeadlineExceeded) && w.ctx.Err() == nil:
		r.ExitCode, r.Output = exitFailed, "timed out starting health check for container "+w.id
	case err != nil:
		_, err = container.ExecError(err)
		r.ExitCode, r.Output = exitFailed, err.Error()
	case p.TimedOut:
		r.ExitCode, r.Output = exitFailed, fmt.Sprintf("Health check exceeded timeout (%v)", w.check.Timeout)
		if out := output(p); out != "" {
			r.Output += ": " + out
		}
	default:
		r.ExitCode, r.Output = p.Status, output(p)
	}
	return r
}

func newID() string {
	var b [32]byte
	rand.Read(b[:]) //nolint:errcheck // never fails
	return hex.EncodeToString(b[:])
}

// output marks what is cut off.
func output(p shimwire.Probed) string {
	if p.Cut {
		return string(p.Output) + "..."
	}
	return string(p.Output)
}

// probe runs the process once, under the id of an exec that exists in events only.
func (w *watch) probe(ctx context.Context, id string) (shimwire.Probed, error) {
	args := w.check.Args
	command := ": " + args[0] + " " + strings.Join(args[1:], " ")
	attrs := map[string]string{"execID": id}
	w.s.containers.PublishFleeting(w.id, events.ActionExecCreate+events.Action(command), attrs)
	w.s.containers.PublishFleeting(w.id, events.ActionExecStart+events.Action(command), attrs)
	p := w.held()
	if p == nil {
		var err error
		if p, err = w.open(ctx); err != nil {
			return shimwire.Probed{}, err
		}
		if !w.keep(p) {
			return shimwire.Probed{}, w.ctx.Err()
		}
	}
	r, err := p.Run(ctx, shimwire.Probe{ID: id, Timeout: w.check.Timeout})
	if err != nil {
		if errors.Is(err, errdefs.ErrUnavailable) || ctx.Err() != nil {
			w.lose()
		}
		if ctx.Err() == nil {
			return r, err
		}
		r.Status = exitKilled
	}
	attrs["exitCode"] = strconv.Itoa(r.Status)
	w.s.containers.PublishFleeting(w.id, events.ActionExecDie, attrs)
	return r, err
}

// exitKilled is the code of a process that KILL ended.
const exitKilled = 137

// open has the container's shim ready for checks. The process is that of an exec now:
// who the user is and what the environment holds is looked up once.
func (w *watch) open(ctx context.Context) (Prober, error) {
	t, err := w.s.containers.Target(w.id)
	if err != nil {
		return nil, err
	}
	process, err := w.s.execs.Process(ctx, t, containertypes.ExecOptions{
		Cmd: w.check.Args, AttachStdout: true, AttachStderr: true,
	})
	if err != nil {
		return nil, err
	}
	raw, err := json.Marshal(process)
	if err != nil {
		return nil, err
	}
	slow := &byTasks{tasks: w.s.tasks, container: w.id, process: process}
	p, err := w.s.dial(ctx, t.Socket, raw)
	switch errdefs.Class(err) {
	case errdefs.ErrUnavailable, errdefs.ErrNotImplemented, errdefs.ErrInvalidArgument: // a foreign shim, one of before, or too much for a message
		return slow, nil
	}
	return p, err
}
