package container

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"gantry/runtime/hop"
	"gantry/runtime/plan"
	"gantry/runtime/program"
	"gantry/runtime/validate"
)

// Exec runs a further process in the container's namespaces and cgroup. It
// returns once the process has been executed; a command that can't be is a
// *CommandError. A container that does not run is errdefs.ErrFailedPrecondition.
func (c *Container) Exec(ctx context.Context, o ExecOptions) (_ *Process, err error) {
	ctx, end := hop.Begin(ctx, "runtime exec")
	defer end()
	if err := validate.Process(o.Process); err != nil {
		return nil, err
	}
	o.Process = inherited(c.rec.Spec.Process, o.Process)
	if o.Warn == nil {
		o.Warn = func(string) {}
	}
	switch s := c.status(); s {
	case specs.StateStopped, specs.StateCreating:
		return nil, errStopped
	case StatePaused:
		if !o.IgnorePaused {
			return nil, fmt.Errorf("cannot exec in a paused container: %w", errdefs.ErrFailedPrecondition)
		}
	}
	var fs files
	defer fs.close()
	po, err := c.execOptions(&fs, o)
	if err != nil {
		return nil, err
	}
	p, err := plan.Exec(c.rec.Spec, o.Process, po)
	if err != nil {
		return nil, err
	}
	p.Timed = hop.Wanted(ctx)
	proc, err := c.startBeside(p, &fs, len(o.Cgroup) == 0)
	if err != nil {
		return nil, c.unlessStopped(err)
	}
	tty, err := c.hear(ctx, proc, o.Console)
	if err != nil {
		proc.Abort()
		if tty != nil {
			tty.Close()
		}
		return nil, c.unlessStopped(commandError(err, o.Process.Args[0]))
	}
	for _, n := range proc.Notes() {
		o.Warn(fmt.Sprintf("%s: %v", n.Label, n.Errno))
	}
	if t := proc.Timeline(); t != nil {
		tellStart(ctx, t, proc.Pid, t.Begin(), time.Now())
		t.Close()
	}
	proc.Release()
	return &Process{Pid: proc.Pid, PidFD: proc.PidFD, Console: tty}, nil
}

var errStopped = fmt.Errorf("cannot exec in a stopped container: %w", errdefs.ErrFailedPrecondition)

// unlessStopped is err, unless the init's end explains it. While an init ends it
// kills who is in its pid namespace, and only then shows to have ended.
func (c *Container) unlessStopped(err error) error {
	if _, ok := errors.AsType[*CommandError](err); ok {
		return err
	}
	for _, sign := range []error{program.ErrDied, unix.ESRCH, unix.ENOENT, unix.ENOMEM} {
		if !errors.Is(err, sign) {
			continue
		}
		wait := dying
		if exiting(c.Pid()) {
			wait = killWait
		}
		if waitEnd(context.Background(), c.PidFD(), wait) {
			return errStopped
		}
	}
	return err
}

// dying is how long an end may take to show that it has begun.
const dying = 100 * time.Millisecond

// exiting says whether a process has begun to end: an init that kills the others of its
// pid namespace has, and may take long on a busy machine.
func exiting(pid int) bool {
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	f := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
	const flagsField, pfExiting = 6, 4 // counted from the state; PF_EXITING of the kernel
	if len(f) <= flagsField {
		return false
	}
	flags, err := strconv.ParseUint(f[flagsField], 10, 64)
	return err == nil && flags&pfExiting != 0
}

// hear listens until execve and takes the terminal.
func (c *Container) hear(ctx context.Context, proc *program.Process, ready func(*os.File) error) (tty *os.File, err error) {
	for {
		ev, err := proc.Next(ctx)
		switch {
		case err != nil:
			return tty, err
		case ev.Kind == program.Execed:
			return tty, nil
		case ev.Kind == program.Told && ev.Code == plan.TellTTY:
			tty = ev.File
		case ev.Kind == program.Told && ev.Code == plan.TellListener:
			if err := c.handListener(ctx, ev.File, proc.Pid); err != nil {
				return tty, err
			}
		case ev.Kind == program.Asked && ev.Code == plan.TellChild:
			if err := errors.Join(proc.Adopt(), proc.Answer()); err != nil {
				return tty, err
			}
		case ev.Kind == program.Asked && ev.Code == plan.TellTTY:
			if err := errors.Join(ready(tty), proc.Answer()); err != nil {
				return tty, err
			}
		default:
			return tty, fmt.Errorf("process ended before execve")
		}
	}
}

func (c *Container) execOptions(fs *files, o ExecOptions) (po plan.Options, err error) {
	if err := fs.stdio(o.Process.Terminal, o.Stdin, o.Stdout, o.Stderr, o.ExtraFiles); err != nil {
		return po, err
	}
	po = plan.Options{ID: c.id, Extra: len(o.ExtraFiles), AskTTY: o.Console != nil, Subreaper: o.Subreaper, NoPivot: c.rec.NoPivot, Keyring: c.rec.Keyring, Creator: creator()}
	if err := c.place(fs); err != nil {
		return po, err
	}
	m, err := c.cgroup()
	if err != nil {
		return po, err
	}
	if po.Tasks, po.Cgroup, err = fs.execCgroup(m, o.Cgroup); err != nil {
		return po, err
	}
	if po.Groups, err = fs.groups(c.rec.Resctrl); err != nil {
		return po, err
	}
	adj := o.OOMScoreAdj
	if own := c.rec.Spec.Process.OOMScoreAdj; own != nil {
		adj = own
	}
	po.Process, err = processOptions(c.rec.Spec, o.Process, c.filter, adj, o.Warn)
	return po, err
}

// place opens the init and its root directory.
func (c *Container) place(fs *files) error {
	pidfd, err := dup(c.PidFD())
	if err != nil {
		return errStopped
	}
	fs.add(plan.InPidFD, pidfd)
	return c.unlessStopped(fs.openPath(plan.InRoot, fmt.Sprintf("/proc/%d/root", c.Pid()), unix.O_PATH|unix.O_DIRECTORY))
}
