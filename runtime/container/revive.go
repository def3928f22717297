package container

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"gantry/runtime/cgroup"
	"gantry/runtime/hooks"
	"gantry/runtime/plan"
	"gantry/runtime/program"
)

// Revival is a container under way whose processes come back from a checkpoint.
// Its methods are for one goroutine, while Revive runs.
type Revival struct{ k *creation }

// Revive makes a container like Create, but leaves it to bring to bring its
// processes back: a success without a call of Born is an error. When Revive fails
// nothing is left behind. Classes: as Create.
func Revive(ctx context.Context, o CreateOptions, bring func(context.Context, *Revival) error) (*Container, error) {
	return o.make(ctx, "runtime restore", func(ctx context.Context, k *creation) error {
		r := &Revival{k}
		if err := bring(ctx, r); err != nil {
			return err
		}
		if k.c.Pid() == 0 {
			return errors.New("no process was restored")
		}
		if err := os.Remove(r.Place()); err != nil && !os.IsNotExist(err) {
			return err
		}
		return nil
	})
}

// Spec is the container's configuration, with absolute paths; not to be changed.
func (r *Revival) Spec() *specs.Spec { return r.k.Spec }

// rootName is the directory below the state where a reviver finds the root.
const rootName = "criu-root"

// Place is the directory where a reviver finds the container's root.
func (r *Revival) Place() string { return filepath.Join(r.k.c.dir(), rootName) }

// MakeMountPoints makes whatever the container's mounts lie on.
func (r *Revival) MakeMountPoints(ctx context.Context) error {
	o := plan.Options{RootPath: r.k.Spec.Root.Path, Rootfs: r.k.Rootfs, Host: hostOptions(r.k.Spec.Root.Path)}
	p, err := plan.MountPoints(r.k.Spec, o)
	if err != nil {
		return err
	}
	proc, err := program.Start(p, nil)
	if err != nil {
		return err
	}
	defer proc.Abort()
	_, err = proc.Next(ctx)
	return err
}

// Reviver is what brings processes back: a program at Path.
type Reviver struct {
	Path  string
	Args  []string
	Files []*os.File // its descriptors from 3 up
	Dirs  []string   // absolute
}

// Run runs a reviver as a child of ours in the container's cgroup, with the
// container's stdio. In its mount namespace the root is at Place; dirs are the
// reviver's directories as they are there. The caller reaps it and owns the files.
func (r *Revival) Run(ctx context.Context, v Reviver) (_ *program.Process, dirs []*os.File, err error) {
	k := r.k
	defer func() {
		for _, d := range dirs {
			if err != nil {
				d.Close()
			}
		}
	}()
	if err := os.Mkdir(r.Place(), 0o700); err != nil {
		return nil, nil, fmt.Errorf("make place for the root: %w", err)
	}
	var fs files
	defer fs.close()
	if err := fs.stdio(k.Spec.Process.Terminal, k.Stdin, k.Stdout, k.Stderr, v.Files); err != nil {
		return nil, nil, err
	}
	k.c.rec.Descriptors = fs.descriptors()
	o := plan.Options{RootPath: k.Spec.Root.Path, Rootfs: k.Rootfs, Host: hostOptions(k.Spec.Root.Path), Extra: len(v.Files)}
	if o.Tasks, o.Cgroup, err = fs.cgroup(k.cg); err != nil {
		return nil, nil, err
	}
	p, err := plan.Revive(o, plan.Reviver{Path: v.Path, Args: v.Args, Env: os.Environ(), Place: r.Place(), Dirs: v.Dirs})
	if err != nil {
		return nil, nil, err
	}
	proc, err := program.Start(p, fs.byName)
	if err != nil {
		return nil, nil, err
	}
	for {
		ev, err := proc.Next(ctx)
		if err != nil {
			proc.Abort()
			return nil, dirs, err
		}
		if ev.Kind == program.Execed {
			proc.Release()
			return proc, dirs, nil
		}
		dirs = append(dirs, ev.File)
	}
}

// Hooks runs what runc runs at a restore: prestart and createRuntime, once the
// namespaces of pid, the init to be, are there.
func (r *Revival) Hooks(ctx context.Context, pid int) error {
	h := r.k.Spec.Hooks
	if h == nil {
		return nil
	}
	state := r.k.c.hookState(specs.StateCreating)
	state.Pid = pid
	//lint:ignore SA1019 still in use
	if err := hooks.Run(ctx, h.Prestart, state, hooks.Options{Name: "prestart", Dir: r.k.Bundle}); err != nil {
		return err
	}
	return hooks.Run(ctx, h.CreateRuntime, state, hooks.Options{Name: "createRuntime", Dir: r.k.Bundle})
}

// Born records the init, a child of ours that is still held back. In a time
// namespace of its own it is what the record says, although the caller's spec may
// not have asked for one.
func (r *Revival) Born(pid int, timeNamespace bool) error {
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return fmt.Errorf("pidfd of %d: %w", pid, err)
	}
	c := r.k.c
	ticks, _ := startTime(pid)
	c.mu.Lock()
	pidfd := os.NewFile(uintptr(fd), "pidfd")
	r.k.undo = append(r.k.undo, func() { pidfd.Close() })
	c.rec.Pid, c.rec.StartTime, c.pidfd = pid, ticks, pidfd
	if timeNamespace {
		c.rec.addTimeNamespace()
	}
	c.mu.Unlock()
	return c.rec.save(c.dir())
}

func (r *record) addTimeNamespace() {
	is := func(n specs.LinuxNamespace) bool { return n.Type == specs.TimeNamespace }
	if slices.ContainsFunc(r.Spec.Linux.Namespaces, is) {
		return
	}
	spec, linux := *r.Spec, *r.Spec.Linux
	linux.Namespaces = append(slices.Clone(linux.Namespaces), specs.LinuxNamespace{Type: specs.TimeNamespace})
	spec.Linux = &linux
	r.Spec, r.Config = &spec, nil
}

// SetConsole gives the container its terminal's master.
func (r *Revival) SetConsole(master *os.File) {
	if r.k.c.console != nil {
		master.Close()
		return
	}
	r.k.c.console = master
	r.k.undo = append(r.k.undo, func() { master.Close() })
}

// ShownCgroups are the cgroups that a mount of type cgroup binds into a container
// without a cgroup namespace: on v2 one without a name, on v1 one per hierarchy,
// named like its directory below the mount.
func (c *Container) ShownCgroups() ([]cgroup.Hierarchy, error) {
	m, err := c.cgroup()
	if err != nil || plan.HasNamespace(c.rec.Spec, specs.CgroupNamespace) {
		return nil, err
	}
	return shownCgroups(m), nil
}

// ShownCgroups: see Container.
func (r *Revival) ShownCgroups() []cgroup.Hierarchy {
	if plan.HasNamespace(r.k.Spec, specs.CgroupNamespace) {
		return nil
	}
	return shownCgroups(r.k.cg)
}

func shownCgroups(m *cgroup.Manager) []cgroup.Hierarchy {
	if m.Kind() == cgroup.V2 {
		return []cgroup.Hierarchy{{Path: unifiedDir(m)}}
	}
	return m.Hierarchies()
}

// FreezerPath is the cgroup's directory that freezes the container, "" for none.
func (c *Container) FreezerPath() (string, error) {
	m, err := c.cgroup()
	if err != nil {
		return "", err
	}
	if m.Kind() == cgroup.V2 {
		return unifiedDir(m), nil
	}
	return m.Paths()["freezer"], nil
}
