package process

import (
	"context"

	"gantry/api/errdefs"
)

// CheckpointOptions say how to checkpoint a container.
type CheckpointOptions struct {
	ImagePath, WorkPath, ParentPath string

	Exit                bool // the container ends with it
	OpenTCP             bool // keep established TCP connections
	ExternalUnixSockets bool // keep unix sockets that lead out
	Terminal            bool // its terminal comes from outside
	FileLocks           bool // keep file locks
	EmptyNamespaces     []string
	CgroupsMode         string // soft, full, strict, ignore; "" is the program's own choice
}

// Args are the options on an OCI runtime's command line, as runc has it.
func (o CheckpointOptions) Args() []string {
	args := []string{"checkpoint", "--image-path", o.ImagePath}
	for _, f := range []struct {
		name, value string
	}{{"--work-path", o.WorkPath}, {"--parent-path", o.ParentPath}, {"--manage-cgroups-mode", o.CgroupsMode}} {
		if f.value != "" {
			args = append(args, f.name, f.value)
		}
	}
	for _, f := range []struct {
		name string
		on   bool
	}{
		{"--leave-running", !o.Exit}, {"--tcp-established", o.OpenTCP}, {"--ext-unix-sk", o.ExternalUnixSockets},
		{"--shell-job", o.Terminal}, {"--file-locks", o.FileLocks},
	} {
		if f.on {
			args = append(args, f.name)
		}
	}
	for _, ns := range o.EmptyNamespaces {
		args = append(args, "--empty-ns", ns)
	}
	return args
}

// Checkpoint writes the container's processes to files. The end of one that is not
// to go on is told like any other. Probes, which are no descendants of the init, wait.
func (t *Task) Checkpoint(ctx context.Context, o CheckpointOptions) error {
	select {
	case t.probing <- struct{}{}:
		defer func() { <-t.probing }()
	case <-ctx.Done():
		return ctx.Err()
	}
	if err := t.init.enter(ctx); err != nil {
		return err
	}
	defer t.init.leave()
	if s := t.init.Status().State; s != Running && s != Paused {
		return errdefs.FailedPrecondition("cannot checkpoint a %s process", s)
	}
	return t.guarded(func() error { return t.made().Checkpoint(ctx, o) })
}
