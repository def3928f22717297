package container

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"

	"gantry/runtime/bundle"
	"gantry/runtime/cgroup"
	"gantry/runtime/hooks"
	"gantry/runtime/hop"
	"gantry/runtime/idmap"
	"gantry/runtime/netdev"
	"gantry/runtime/plan"
	"gantry/runtime/program"
	"gantry/runtime/validate"
)

// creation is a Create under way; undo runs backwards when it fails.
type creation struct {
	CreateOptions
	c       *Container
	cg      *cgroup.Manager
	filter  func() (filter, error) // see compiler
	files   files
	devices *netdev.Moved // nil is none
	undo    []func()
}

// Create makes the container's init, which then waits to be started. Its
// command has already been looked up inside the container's root: one that
// can't be run is a *CommandError. When Create fails nothing is left behind.
// Classes: InvalidArgument, AlreadyExists, FailedPrecondition when others are in its cgroup.
func Create(ctx context.Context, o CreateOptions) (*Container, error) {
	return o.make(ctx, "runtime create", func(ctx context.Context, k *creation) error {
		if err := k.open(ctx); err != nil {
			return err
		}
		return k.run(ctx)
	})
}

// make checks and prepares the container, lets begin bring its processes into being, and
// takes all back when something fails. hopName is how it is traced.
func (o CreateOptions) make(ctx context.Context, hopName string, begin func(context.Context, *creation) error) (_ *Container, err error) {
	if err := validate.ID(o.ID); err != nil {
		return nil, err
	}
	if err := o.complete(); err != nil {
		return nil, err
	}
	ctx, end := hop.Begin(ctx, hopName)
	defer end()
	k := &creation{CreateOptions: o}
	defer k.files.close()
	defer func() { k.devices.Close() }()
	defer func() {
		if err != nil {
			k.takeBack()
		}
	}()
	if err := k.prepare(ctx); err != nil {
		return nil, err
	}
	if err := begin(ctx, k); err != nil {
		return nil, err
	}
	return k.c, nil
}

// takeBack undoes all that has been done, the last first.
func (k *creation) takeBack() {
	for _, undo := range slices.Backward(k.undo) {
		undo()
	}
}

// complete reads the spec where the caller has not, and checks it.
func (o *CreateOptions) complete() (err error) {
	if o.Warn == nil {
		o.Warn = func(string) {}
	}
	if o.Spec == nil {
		if o.Spec, o.Config, err = bundle.Read(o.Bundle); err != nil {
			return err
		}
	}
	return validate.Spec(o.Spec)
}

// prepare makes the state directory and the cgroup.
func (k *creation) prepare(ctx context.Context) error {
	dir, err := filepath.Abs(k.Bundle)
	if err != nil {
		return err
	}
	k.Bundle = dir
	k.Spec = normal(k.Spec, dir)
	k.filter = compiler(k.Spec.Linux.Seccomp)
	k.c = &Container{root: k.Root, id: k.ID, warn: k.Warn, filter: k.filter, rec: record{
		ID: k.ID, Created: time.Now().UTC(), Bundle: dir, Rootfs: k.Spec.Root.Path,
		Owner: os.Getuid(), NoPivot: k.NoPivot, Keyring: !k.NoNewKeyring, Spec: k.Spec, Config: k.Config,
	}}
	if err := checkRootless(k.Spec); err != nil {
		return err
	}
	m, err := k.newCgroup()
	if err != nil {
		return err
	}
	k.setCgroup(m)
	if err := k.emptyCgroup(); err != nil {
		return err
	}
	if err := k.makeDir(); err != nil {
		return err
	}
	return k.makeCgroup(ctx)
}

// normal makes paths absolute and gives idmapped mounts the container's own
// maps where they have none. The caller's spec stays as it is.
func normal(s *specs.Spec, bundle string) *specs.Spec {
	n := *s
	root := *s.Root
	root.Path = inBundle(bundle, root.Path)
	n.Root = &root
	if n.Linux == nil {
		n.Linux = new(specs.Linux)
	}
	n.Mounts = append([]specs.Mount(nil), s.Mounts...)
	for i := range n.Mounts {
		m := &n.Mounts[i]
		if plan.IsBind(*m) {
			m.Source = inBundle(bundle, m.Source)
		}
		if plan.IsMapped(*m) && len(m.UIDMappings) == 0 {
			m.UIDMappings, m.GIDMappings = n.Linux.UIDMappings, n.Linux.GIDMappings
		}
	}
	return &n
}

func inBundle(bundle, path string) string {
	if filepath.IsAbs(path) {
		return filepath.Clean(path)
	}
	return filepath.Join(bundle, path)
}

// newCgroup names the cgroup. Without privileges one beside our own is the
// likeliest to be allowed.
func (o *CreateOptions) newCgroup() (*cgroup.Manager, error) {
	path := o.Spec.Linux.CgroupsPath
	switch {
	case path != "" || o.SystemdCgroup:
	case o.Rootless:
		path = o.ID
	default:
		path = "/" + o.ID
	}
	return cgroup.New(path, cgroup.Options{
		Systemd: o.SystemdCgroup, Rootless: o.Rootless, ID: o.ID, Annotations: o.Spec.Annotations,
	})
}

func (k *creation) makeCgroup(ctx context.Context) error {
	_, end := hop.Begin(ctx, "make cgroup and set limits")
	defer end()
	if err := k.cg.Create(); err != nil {
		return err
	}
	k.setCgroup(k.cg) // less what was passed over
	k.warnUnbound()
	k.undo = append(k.undo, func() {
		ctx, cancel := context.WithTimeout(context.Background(), killWait)
		defer cancel()
		emptyAndDelete(ctx, k.cg)
	})
	warnings, err := k.cg.Set(k.Spec.Linux.Resources)
	for _, w := range warnings {
		k.Warn(w)
	}
	if err != nil {
		return err
	}
	return k.giveCgroup()
}

// run starts the program and does the parent's part of it.
func (k *creation) run(ctx context.Context) error {
	p, err := k.compile(ctx)
	if err != nil {
		return err
	}
	_, end := hop.Begin(ctx, "clone init")
	proc, err := k.start(ctx, p)
	end()
	if err != nil {
		return err
	}
	k.undo = append(k.undo, func() { proc.Abort(); k.closeConsole() })
	waiting, end := hop.Begin(ctx, "wait for init")
	err = k.converse(waiting, proc)
	end()
	if err != nil {
		return explain(err, k.Spec, creator())
	}
	for _, n := range proc.Notes() {
		k.Warn(fmt.Sprintf("%s: %v", n.Label, n.Errno))
	}
	if err := k.cg.Joined(); err != nil {
		return fmt.Errorf("let go of the cgroup: %w", err)
	}
	resetAffinity(proc.Pid, k.Warn)
	k.setInit(proc)
	_, end = hop.Begin(ctx, "save state")
	err = k.c.rec.save(k.c.dir())
	k.c.rec.Config = nil // not needed any more
	end()
	if err != nil {
		return err
	}
	if k.c.timeline = proc.Timeline(); k.c.timeline != nil {
		tellSetup(ctx, k.c.timeline, proc.Pid)
	}
	proc.Release()
	return nil
}

// compile makes the init's program.
func (k *creation) compile(ctx context.Context) (*program.Program, error) {
	_, end := hop.Begin(ctx, "compile program")
	defer end()
	o, err := k.options()
	if err != nil {
		return nil, err
	}
	p, err := plan.Create(k.Spec, o)
	if err != nil {
		return nil, err
	}
	p.Timed = hop.Wanted(ctx)
	return p, nil
}

func (k *creation) setInit(proc *program.Process) {
	ticks, _ := startTime(proc.Pid)
	k.c.mu.Lock()
	defer k.c.mu.Unlock()
	k.c.rec.Pid, k.c.rec.StartTime, k.c.pidfd = proc.Pid, ticks, proc.PidFD
}

func (k *creation) closeConsole() {
	if k.c.console != nil {
		k.c.console.Close()
	}
}

// converse answers what the init asks until it waits for its start.
func (k *creation) converse(ctx context.Context, proc *program.Process) error {
	for {
		ev, err := proc.Next(ctx)
		switch {
		case errors.Is(err, program.ErrDied):
			return k.whyDied(err)
		case err != nil:
			return commandError(err, k.Spec.Process.Args[0])
		case ev.Kind == program.Waits:
			return nil
		case ev.Kind == program.Told && ev.Code == plan.TellTTY:
			k.c.console = ev.File
			continue
		case ev.Kind == program.Told && ev.Code == plan.TellListener:
			if err := k.handListener(ctx, ev.File, proc.Pid); err != nil {
				return err
			}
			continue
		case ev.Kind != program.Asked:
			return fmt.Errorf("init ended before its start")
		}
		if err := k.answer(ctx, proc, ev.Code); err != nil {
			return err
		}
		if err := proc.Answer(); err != nil {
			return err
		}
	}
}

// whyDied has runc's words for an init that did not fit its memory.
func (k *creation) whyDied(err error) error {
	if n, e := k.cg.OOMKilled(); e == nil && n > 0 {
		return fmt.Errorf("container init was OOM-killed (memory limit too low?): %w", err)
	}
	return err
}

func (k *creation) answer(ctx context.Context, proc *program.Process, code byte) error {
	switch code {
	case plan.AskMaps:
		return idmap.Write(proc.Pid, idmap.Maps{UIDs: k.Spec.Linux.UIDMappings, GIDs: k.Spec.Linux.GIDMappings})
	case plan.TellChild:
		return proc.Adopt()
	case plan.AskNetDevices:
		return k.moveDevices(proc.Pid)
	case plan.AskOffsets:
		return writeOffsets(proc.Pid, plan.TimeOffsets(k.Spec))
	case plan.AskHooks:
		k.setInit(proc)
		return k.hooks(ctx)
	}
	return fmt.Errorf("init asks %q", code)
}

// hooks runs what comes before pivot_root.
func (k *creation) hooks(ctx context.Context) error {
	h, state := k.Spec.Hooks, k.c.hookState(specs.StateCreating)
	here := func(name string) hooks.Options { return hooks.Options{Name: name, Dir: k.Bundle} }
	if err := hooks.Run(ctx, h.Prestart, state, here("prestart")); err != nil { //nolint:staticcheck // still in use
		return err
	}
	if err := hooks.Run(ctx, h.CreateRuntime, state, here("createRuntime")); err != nil {
		return err
	}
	return hooks.Run(ctx, h.CreateContainer, state, hooks.Options{
		Name: "createContainer", Dir: k.Bundle,
		Namespaces: &hooks.Namespaces{Init: k.c.pidfd, Flags: namespaceFlags(k.Spec), Unprivileged: creator().Unprivileged},
	})
}
