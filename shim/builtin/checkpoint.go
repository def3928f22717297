package builtin

import (
	"context"
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
	if o.WorkPath == "" {
		o.WorkPath = filepath.Join(c.Bundle(), "criu-work")
	}
	other, err := (&runc.Runtime{Binary: grun, Root: c.root}).Load(c.ID(), c.Bundle())
	if err != nil {
		return err
	}
	// The container stays ours to delete.
	return other.(*runc.Container).Do(ctx, append(o.Args(), "--keep")...)
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
