// Package builtin runs containers with the runtime library: no other program is
// executed, and the processes are children of this one.
package builtin

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"

	"github.com/opencontainers/runtime-spec/specs-go"

	runtime "gantry/runtime/container"
	"gantry/shim/process"
)

// Runtime makes containers with the library.
type Runtime struct {
	// Root is the state directory.
	Root                                 string
	SystemdCgroup, NoPivot, NoNewKeyring bool
	// OOMScoreAdj is for processes whose spec has none; nil is this process's own.
	OOMScoreAdj *int
	// CriuWork is where CRIU works on a restore; "" is in the bundle.
	CriuWork string
}

var _ process.Runtime = (*Runtime)(nil)

// Create implements process.Runtime.
func (r *Runtime) Create(ctx context.Context, o process.CreateOptions) (process.Container, process.Started, error) {
	mounts := make([]runtime.Mount, 0, len(o.Rootfs))
	for _, m := range o.Rootfs {
		mounts = append(mounts, runtime.Mount(m))
	}
	c, err := runtime.Create(ctx, runtime.CreateOptions{
		ID: o.ID, Bundle: o.Bundle, Root: r.Root, Spec: o.Spec, Config: o.Config, Rootfs: mounts,
		Stdin: o.Files.Stdin, Stdout: o.Files.Stdout, Stderr: o.Files.Stderr,
		Warn: o.Warn, OOMScoreAdj: r.OOMScoreAdj,
		SystemdCgroup: r.SystemdCgroup, NoPivot: r.NoPivot, NoNewKeyring: r.NoNewKeyring,
	})
	if err != nil {
		return nil, process.Started{}, err
	}
	pid := filepath.Join(o.Bundle, "init.pid") // for delete
	if err := os.WriteFile(pid, []byte(strconv.Itoa(c.Pid())), 0o644); err != nil {
		return nil, process.Started{}, errors.Join(err, c.Delete(ctx, true))
	}
	return &container{c, r.Root, r.OOMScoreAdj}, process.Started{Pid: c.Pid(), Console: c.Console()}, nil
}

// Load implements process.Runtime.
func (r *Runtime) Load(id, _ string) (process.Container, error) {
	c, err := runtime.Load(r.Root, id)
	if err != nil {
		return nil, err
	}
	return &container{c, r.Root, r.OOMScoreAdj}, nil
}

// container adapts the library's where the two differ.
type container struct {
	*runtime.Container
	root        string // of the states
	oomScoreAdj *int
}

// Exec implements process.Container.
func (c *container) Exec(ctx context.Context, o process.ExecOptions) (process.Started, error) {
	p, err := c.Container.Exec(ctx, runtime.ExecOptions{
		Process: o.Spec, Stdin: o.Files.Stdin, Stdout: o.Files.Stdout, Stderr: o.Files.Stderr,
		Warn: o.Warn, OOMScoreAdj: c.oomScoreAdj, Subreaper: o.Subreaper,
	})
	if err != nil {
		return process.Started{}, err
	}
	if p.PidFD != nil {
		p.PidFD.Close() // package process has its own
	}
	return process.Started{Pid: p.Pid, Console: p.Console}, nil
}

// Update implements process.Container.
func (c *container) Update(ctx context.Context, r *specs.LinuxResources) error {
	return c.Container.Update(ctx, r)
}
