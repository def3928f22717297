package task

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"gantry/api/errdefs"
	"gantry/api/failpoint"
	"gantry/api/undo"
	"gantry/libctr/core/activation"
	"gantry/libctr/core/mount"
)

// Mounts makes what shims cannot mount; see activation.Manager.
type Mounts interface {
	Activate(ctx context.Context, name string, mounts []mount.Mount, o activation.Options) (activation.Activation, error)
	Deactivate(ctx context.Context, name string) error
	Info(ctx context.Context, name string) (activation.Activation, error)
}

// keptBy is the label that keeps an activation while the container is there.
const keptBy = "containerd.io/gc.bref.container"

// activate makes those of a task's mounts that a shim cannot, under the task's name, and
// returns what is left. One that somebody else has made is used, and stays.
func (m *Manager) activate(ctx context.Context, b *bundle, mounts []mount.Mount, u *undo.Stack) ([]mount.Mount, error) {
	if !activation.Needed(mounts) || m.cfg.Mounts == nil {
		return mounts, nil
	}
	if err := b.writeFile(fileMounts, nil); err != nil { // also of what is cut off
		return nil, fmt.Errorf("note mounts: %w", err)
	}
	failpoint.Hit("libctr/task.activate.noted")
	a, err := m.cfg.Mounts.Activate(ctx, b.id, mounts, activation.Options{Labels: map[string]string{keptBy: b.id}})
	switch {
	case err == nil:
		b.activated = true
		u.Add("deactivate mounts", func(ctx context.Context) error { return m.deactivate(ctx, b) })
		failpoint.Hit("libctr/task.activate.mounted")
		return a.System, nil
	case errdefs.IsAlreadyExists(err):
		if a, err = m.cfg.Mounts.Info(ctx, b.id); err != nil {
			return nil, fmt.Errorf("mounts that are active already: %w", err)
		}
		return a.System, b.unnoteMounts()
	case errdefs.IsNotImplemented(err): // the shim may know more than we do
		return mounts, b.unnoteMounts()
	}
	return nil, fmt.Errorf("activate mounts: %w", err)
}

// deactivate takes back what activate has made.
func (m *Manager) deactivate(ctx context.Context, b *bundle) error {
	if !b.activated || m.cfg.Mounts == nil {
		return nil
	}
	b.activated = false
	err := m.cfg.Mounts.Deactivate(ctx, b.id)
	if errdefs.IsNotFound(err) {
		return nil
	}
	return err
}

// hasMounts says whether the task of a bundle that is found at start has mounts of ours.
func (b *bundle) hasMounts() bool {
	_, err := os.Lstat(filepath.Join(b.path, fileMounts))
	return err == nil
}

func (b *bundle) unnoteMounts() error { return os.Remove(filepath.Join(b.path, fileMounts)) }
