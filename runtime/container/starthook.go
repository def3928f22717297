package container

import (
	"context"
	"fmt"
	"os"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"gantry/runtime/hooks"
	"gantry/runtime/plan"
)

// ClonesAtStart says whether Start clones a process of the container from the caller's.
func (c *Container) ClonesAtStart() bool {
	return c.rec.Spec.Hooks != nil && len(c.rec.Spec.Hooks.StartContainer) > 0
}

// startContainerHooks run where the init is and with its powers: its user, capabilities,
// limits, filter, labels and cgroup, as runc's do. Their files come from the container. One
// that fails ends the container.
func (c *Container) startContainerHooks(ctx context.Context) error {
	if !c.ClonesAtStart() {
		return nil
	}
	err := hooks.Run(ctx, c.rec.Spec.Hooks.StartContainer, c.hookState(specs.StateCreated), hooks.Options{Name: "startContainer", Spawn: c.spawnHook})
	if err != nil {
		c.Kill(context.WithoutCancel(ctx), unix.SIGKILL, false)
	}
	return err
}

// spawnHook runs a hook as Exec would a process. One without an environment gets the
// init's, as with runc.
func (c *Container) spawnHook(ctx context.Context, h specs.Hook, stdin, stdout *os.File) (pid int, pidfd *os.File, err error) {
	own := c.rec.Spec.Process
	p := *own
	p.Args, p.Terminal, p.ConsoleSize = h.Args, false, nil
	if h.Env != nil {
		p.Env = h.Env
	}
	var fs files
	defer fs.close()
	po, err := c.execOptions(&fs, ExecOptions{Process: &p, Stdin: stdin, Stdout: stdout, Stderr: stdout, Warn: func(string) {}})
	if err != nil {
		return 0, nil, err
	}
	po.Exe = h.Path
	program, err := plan.Exec(c.rec.Spec, &p, po)
	if err != nil {
		return 0, nil, err
	}
	proc, err := c.startBeside(program, &fs, true)
	if err != nil {
		return 0, nil, err
	}
	if _, err := c.hear(ctx, proc, nil); err != nil {
		proc.Abort()
		return 0, nil, err
	}
	proc.Release()
	return proc.Pid, proc.PidFD, nil
}

// poststop runs the hooks of a container that is no more; those that fail are told and
// keep nothing from going on (runtime-spec, "Lifecycle").
func (c *Container) poststop(ctx context.Context) {
	h := c.rec.Spec.Hooks
	if h == nil {
		return
	}
	state := c.hookState(specs.StateStopped)
	state.Pid = 0
	if err := hooks.RunAll(ctx, h.Poststop, state, hooks.Options{Name: "poststop", Dir: c.rec.Bundle}); err != nil && c.warn != nil {
		c.warn(fmt.Sprint(err))
	}
}

// OnWarning lets warn be told what goes wrong without being an error. It is for a
// container that has been loaded, before anything else.
func (c *Container) OnWarning(warn func(string)) { c.warn = warn }
