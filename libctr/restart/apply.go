package restart

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	containerdevents "github.com/containerd/containerd/api/events"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"gantry/api/errdefs"
	"gantry/api/failpoint"
	"gantry/api/undo"
	"gantry/libctr/core/container"
	"gantry/libctr/core/mount"
	"gantry/libctr/core/task"
)

const (
	deathTimeout = 30 * time.Second // from the kill of a task to its end
	undoTimeout  = 30 * time.Second
)

// look does what one container needs. The record is read after the task's state: who
// stops a container says so in its labels first.
func (m *Monitor) look(ctx context.Context, id string) error {
	state, err := m.cfg.Tasks.Get(ctx, id, "")
	there := err == nil
	if err != nil && !errdefs.IsNotFound(err) {
		return err
	}
	c, err := m.cfg.Containers.Get(ctx, id)
	if errdefs.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return err
	}
	what, err := decide(c.Labels, there, state)
	if err != nil {
		return err
	}
	switch {
	case what == start && !(there && state.Status == task.StatusStopped) && m.grace(ctx, id):
		return nil
	case what == start:
		return m.start(ctx, c)
	case what == stop:
		return m.end(ctx, id)
	}
	return nil
}

// start counts first: a restart that fails is one.
func (m *Monitor) start(ctx context.Context, c container.Container) (err error) {
	n, err := count(c.Labels)
	if err != nil {
		n = 0 // as on-failure alone goes by it, and has refused it
	}
	if c, err = m.label(ctx, c, LabelCount, strconv.Itoa(n+1)); err != nil {
		return err
	}
	failpoint.Hit("libctr/restart.start.counted")
	o, err := m.options(ctx, c)
	if err != nil {
		return err
	}
	if err := m.end(ctx, c.ID); err != nil {
		return err
	}
	failpoint.Hit("libctr/restart.start.ended")
	var u undo.Stack
	defer func() { u.OnError(ctx, undoTimeout, &err) }()
	if _, err := m.cfg.Tasks.Create(ctx, o); err != nil {
		return err
	}
	u.Add("delete task", func(ctx context.Context) error { return m.end(ctx, c.ID) })
	failpoint.Hit("libctr/restart.start.created")
	if _, err := m.cfg.Tasks.Start(ctx, c.ID, ""); err != nil {
		return err
	}
	m.log.InfoContext(ctx, "container restarted", "container", c.ID, "count", n+1)
	return nil
}

// options are those of a task whose output goes to the label's place, or nowhere.
func (m *Monitor) options(ctx context.Context, c container.Container) (task.CreateOptions, error) {
	o := task.CreateOptions{ContainerID: c.ID}
	var spec specs.Spec
	if c.Spec != nil {
		if err := json.Unmarshal(c.Spec.GetValue(), &spec); err != nil {
			return o, errdefs.InvalidArgument("container %s: spec: %w", c.ID, err)
		}
	}
	if uri := c.Labels[LabelLogURI]; uri != "" {
		o.IO.Stdout = uri
		if o.IO.Terminal = spec.Process != nil && spec.Process.Terminal; !o.IO.Terminal {
			o.IO.Stderr = uri
		}
	}
	if c.SnapshotKey == "" {
		return o, nil
	}
	mounts, err := m.cfg.Mounts.Mounts(ctx, c.Snapshotter, c.SnapshotKey)
	if err != nil {
		return o, err
	}
	o.Rootfs = labelled(mounts, spec)
	return o, nil
}

// labelled gives mounts the SELinux label that the spec has for them.
func labelled(mounts []mount.Mount, spec specs.Spec) []mount.Mount {
	if spec.Linux == nil || spec.Linux.MountLabel == "" {
		return mounts
	}
	for i := range mounts {
		mounts[i].Options = append(mounts[i].Options, fmt.Sprintf("context=%q", spec.Linux.MountLabel))
	}
	return mounts
}

// end kills the container's task, if there is one, and deletes it.
func (m *Monitor) end(ctx context.Context, id string) error {
	ctx, cancel := context.WithTimeout(ctx, deathTimeout)
	defer cancel()
	err := m.cfg.Tasks.Kill(ctx, id, "", uint32(unix.SIGKILL), true)
	if err == nil {
		_, err = m.cfg.Tasks.Wait(ctx, id, "")
	}
	if _, gone := m.cfg.Tasks.Delete(ctx, id, ""); gone == nil || errdefs.IsNotFound(gone) {
		return nil
	} else if err == nil || errdefs.IsNotFound(err) { // it had ended: the deletion has failed by itself
		err = gone
	}
	return fmt.Errorf("end task: %w", err)
}

// label sets one, and tells everybody.
func (m *Monitor) label(ctx context.Context, c container.Container, key, value string) (container.Container, error) {
	now, err := m.cfg.Containers.Update(ctx, container.Container{ID: c.ID, Labels: map[string]string{key: value}}, "labels."+key)
	if err != nil {
		return c, err
	}
	err = m.cfg.Events.Publish(ctx, "/containers/update", &containerdevents.ContainerUpdate{
		ID: now.ID, Image: now.Image, Labels: now.Labels, SnapshotKey: now.SnapshotKey})
	return now, err
}
