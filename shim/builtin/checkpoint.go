package builtin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"gantry/shim/process"
	"gantry/shim/runc"
)

// Checkpoint implements process.Container. What speaks with CRIU is no part of a
// shim, which would carry it about for all its life: grun has it, and knows our
// containers by the same records.
func (c *container) Checkpoint(ctx context.Context, o process.CheckpointOptions) error {
	grun, err := commandLine()
	if err != nil {
		return fmt.Errorf("checkpoint: %w", err)
	}
	other, err := (&runc.Runtime{Binary: grun, Root: c.root}).Load(c.ID(), c.Bundle())
	if err != nil {
		return err
	}
	return other.(*runc.Container).CheckpointWith(ctx, o, "--keep") // the container stays ours to delete
}

// rootMountsFile tells grun what the root is made of. It is mounted where grun and CRIU
// see it alone.
const rootMountsFile = "root-mounts.json"

// Restore implements process.Runtime, by grun as well. What it leaves is a container
// like any other of the library.
func (r *Runtime) Restore(ctx context.Context, o process.CreateOptions, images string) (_ process.Container, _ process.Started, err error) {
	grun, err := commandLine()
	if err != nil {
		return nil, process.Started{}, fmt.Errorf("restore: %w", err)
	}
	mounts := filepath.Join(o.Bundle, rootMountsFile)
	raw, err := json.Marshal(o.Rootfs)
	if err != nil {
		return nil, process.Started{}, err
	}
	if err := os.WriteFile(mounts, raw, 0o600); err != nil {
		return nil, process.Started{}, err
	}
	defer os.Remove(mounts)
	o.Rootfs = nil
	other := &runc.Runtime{Binary: grun, Root: r.Root, SystemdCgroup: r.SystemdCgroup, NoPivot: r.NoPivot, CriuWork: r.CriuWork}
	made, started, err := other.RestoreWith(ctx, o, images, "--root-mounts", mounts)
	if err != nil {
		return nil, process.Started{}, err
	}
	c, err := r.Load(o.ID, o.Bundle)
	if err != nil {
		return nil, process.Started{}, errors.Join(err, made.Delete(context.WithoutCancel(ctx), true))
	}
	return c, started, nil
}

// commandLine is grun: in PATH, or beside the shim.
func commandLine() (string, error) {
	path, err := exec.LookPath("grun")
	if err == nil {
		return path, nil
	}
	if beside, berr := exec.LookPath(filepath.Join(filepath.Dir(os.Args[0]), "grun")); berr == nil {
		return beside, nil
	}
	return "", err
}
