package task

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"

	taskapi "github.com/containerd/containerd/api/runtime/task/v3"
	"github.com/containerd/typeurl/v2"
	"google.golang.org/protobuf/types/known/emptypb"

	"gantry/api/errdefs"
	"gantry/api/failpoint"
	"gantry/api/undo"
	"gantry/libctr/core/container"
	"gantry/libctr/core/task"
	"gantry/libctr/core/wire"
	"gantry/libctr/identifier"
)

// Create launches the shim of a container and creates its task: the init exists
// afterwards and waits for Start. On failure nothing is left.
func (m *Manager) Create(ctx context.Context, o task.CreateOptions) (pid uint32, err error) {
	k, err := keyOf(ctx, o.ContainerID)
	if err != nil {
		return 0, err
	}
	if err := identifier.Validate(o.ContainerID); err != nil {
		return 0, err
	}
	c, err := m.cfg.Containers.Get(ctx, o.ContainerID)
	if err != nil {
		return 0, err
	}
	if err := m.reserve(k); err != nil {
		return 0, err
	}
	s, pid, err := m.create(ctx, k, c, o)
	if err != nil {
		m.drop(k)
		for _, failure := range undo.Failures(err) {
			m.log.ErrorContext(ctx, "undo of a failed create", "namespace", k.ns, "container", k.id, "err", failure)
		}
		return 0, err
	}
	m.set(k, s)
	if !s.adopt() {
		m.lost(s)
	}
	return pid, nil
}

func (m *Manager) create(ctx context.Context, k key, c container.Container, o task.CreateOptions) (_ *shim, pid uint32, err error) {
	var u undo.Stack
	defer func() { u.OnError(ctx, m.cfg.Timeouts.undo(), &err) }()

	m.awaitLeft(ctx, k)
	b := m.bundleOf(k.ns, k.id)
	if err := b.create(c.Spec, false); err != nil {
		return nil, 0, err
	}
	u.Add("remove bundle", b.remove)
	failpoint.Hit("libctr/task.create.bundle")
	if o.Rootfs, err = m.activate(ctx, b, o.Rootfs, &u); err != nil {
		return nil, 0, err
	}

	s, err := m.launch(ctx, b, c, o)
	if err != nil {
		return nil, 0, fmt.Errorf("failed to start shim: %w", err)
	}
	u.Add("end shim", func(ctx context.Context) error { return m.abandon(ctx, s) })
	failpoint.Hit("libctr/task.create.launched")

	pid, err = s.create(ctx, c, o)
	if err != nil {
		return nil, 0, fmt.Errorf("failed to create shim task: %w", err)
	}
	failpoint.Hit("libctr/task.create.created")
	s.setPID(pid)
	return s, pid, nil
}

// launch brings up the container's shim, or finds the one that it is to join, and connects
// to it.
func (m *Manager) launch(ctx context.Context, b *bundle, c container.Container, o task.CreateOptions) (_ *shim, err error) {
	binary, err := m.binaryFor(c.Runtime.Name, o.ShimPath)
	if err != nil {
		return nil, err
	}
	var u undo.Stack
	defer func() { u.OnError(ctx, m.cfg.Timeouts.undo(), &err) }()

	s, err := m.prepare(b, binary)
	if err != nil {
		return nil, err
	}
	u.Add("leave shim", func(ctx context.Context) error { m.unjoin(ctx, s); return nil })

	joined, err := m.join(ctx, s, c, o)
	switch {
	case err != nil || joined:
	case !m.own(binary):
		err = m.startShim(ctx, s, optionsOf(c, o), &u)
	case b.group != "":
		err = m.serveGroup(ctx, s, &u)
	default:
		_, err = m.serve(ctx, s, &u)
	}
	if err == nil && s.link.Load() == nil {
		err = s.attach(ctx, m.lost)
	}
	if err != nil {
		return nil, err
	}
	return s, nil
}

// binaryFor is the shim of a runtime, or the one at path, which may also be a runtime's
// name, if that is not "".
func (m *Manager) binaryFor(runtime, path string) (string, error) {
	binary, err := m.resolve(cmp.Or(path, runtime))
	if err != nil {
		return "", fmt.Errorf("failed to resolve runtime path: %w", err)
	}
	return binary, nil
}

// prepare makes ready what must be there before a shim is: where it logs, and the note
// that it may exist.
func (m *Manager) prepare(b *bundle, binary string) (*shim, error) {
	s := m.newShim(b, binary)
	if err := m.openShimLog(s); err != nil {
		return nil, err
	}
	if err := b.writeFile(fileBinary, []byte(binary)); err != nil {
		s.leave()
		return nil, fmt.Errorf("note shim binary: %w", err)
	}
	failpoint.Hit("libctr/task.launch.noted")
	return s, nil
}

// optionsOf are the runtime's options of a task: its own, or else its container's.
func optionsOf(c container.Container, o task.CreateOptions) typeurl.Any {
	if o.Options == nil || len(o.Options.GetValue()) == 0 {
		return c.Runtime.Options
	}
	return o.Options
}

// startShim runs the start protocol, which every shim knows. Shims choose by themselves
// which containers share one.
func (m *Manager) startShim(ctx context.Context, s *shim, options typeurl.Any, u *undo.Stack) (err error) {
	unlock, err := m.groupLane(ctx, s)
	if err != nil {
		return err
	}
	defer unlock()
	for {
		sandbox := s.boot.Sandbox
		s.boot, err = m.start(ctx, s.bundle, s.binary, options)
		if err != nil {
			break
		}
		s.boot.Sandbox = sandbox
		ending := m.homes.enter(s)
		if ending == nil {
			break
		}
		if err := await(ctx, ending); err != nil {
			return err
		}
	}
	if err == nil || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
		u.Add("clean up after shim", func(ctx context.Context) error {
			_, err := m.runDelete(ctx, s.bundle, s.binary)
			return err
		})
	}
	if err != nil {
		return err
	}
	failpoint.Hit("libctr/task.launch.started")
	if err := s.boot.save(s.bundle); err != nil {
		return fmt.Errorf("note bootstrap parameters: %w", err)
	}
	failpoint.Hit("libctr/task.launch.saved")
	return nil
}

// await waits for the end of a shim that is being ended.
func await(ctx context.Context, ended <-chan struct{}) error {
	select {
	case <-ended:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (m *Manager) openShimLog(s *shim) error {
	f, err := openLog(s.bundle)
	if err != nil {
		return fmt.Errorf("open shim log: %w", err)
	}
	if s.fifo = f; f != nil {
		go relayLog(f, s.log) // ends when shim.leave closes f
	}
	return nil
}

func (s *shim) create(ctx context.Context, c container.Container, o task.CreateOptions) (uint32, error) {
	req := &taskapi.CreateTaskRequest{
		ID:         s.id,
		Bundle:     s.bundle.path,
		Rootfs:     wire.Mounts(o.Rootfs),
		Terminal:   o.IO.Terminal,
		Stdin:      o.IO.Stdin,
		Stdout:     o.IO.Stdout,
		Stderr:     o.IO.Stderr,
		Checkpoint: o.Checkpoint,
		Options:    wire.Any(optionsOf(c, o)),
	}
	var resp taskapi.CreateTaskResponse
	err := s.call(ctx, startTimeout, "Create", req, &resp)
	if errdefs.IsNotImplemented(err) && s.downgrade() {
		err = s.createOld(ctx, req, &resp, err)
	}
	if errors.Is(err, errClosed) && s.child != nil {
		err = s.child.end(err)
	}
	return resp.GetPid(), err
}

// createOld repeats a Create in version 2 of the API; was is how it has failed in version 3.
func (s *shim) createOld(ctx context.Context, req *taskapi.CreateTaskRequest, resp *taskapi.CreateTaskResponse, was error) error {
	err := s.call(ctx, startTimeout, "Create", req, resp)
	if errdefs.IsNotImplemented(err) { // what it lacks is not the version
		s.speak(3)
		return was
	}
	if err != nil {
		return err
	}
	return s.boot.save(s.bundle)
}

// abandon ends a shim whose task could not be created, or shall not be kept: the
// task is deleted, the shim shut down, and its binary's delete call removes the
// rest. Only the last step's failure counts.
func (m *Manager) abandon(ctx context.Context, s *shim) error {
	defer s.leave()
	var resp taskapi.DeleteResponse
	if err := s.call(ctx, m.cfg.Timeouts.Cleanup, "Delete", &taskapi.DeleteRequest{ID: s.id}, &resp); err != nil && !errdefs.IsNotFound(err) {
		s.log.DebugContext(ctx, "delete of a task that failed", "err", err)
	}
	m.shutdown(ctx, s)
	if err := m.killShim(ctx, s); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, binaryTimeout)
	defer cancel()
	_, err := m.runDelete(ctx, s.bundle, s.binary)
	if !m.homes.shared(s) && !s.boot.Joined { // of a shim that died before it was known where, the call knows nothing
		removeSocket(ctx, s.boot.Address)
	}
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}

// shutdown asks the shim to end and waits for a moment until it has, unless it
// serves other tasks too, or is another's to end.
func (m *Manager) shutdown(ctx context.Context, s *shim) {
	s.claim()
	if unlock, err := m.groupLane(ctx, s); err == nil { // or else nobody waits for the outcome
		defer unlock()
	}
	if !m.homes.exit(s) {
		return
	}
	defer m.homes.ended(s)
	if s.boot.Joined {
		return
	}
	l := s.link.Load()
	err := s.call(ctx, m.cfg.Timeouts.Shutdown, "Shutdown", &taskapi.ShutdownRequest{ID: s.id}, &emptypb.Empty{})
	if err != nil && !errors.Is(err, errClosed) {
		s.log.WarnContext(ctx, "shut down shim", "err", err)
		return
	}
	if s.boot.OneTask { // it waits for us to leave
		s.leave()
		return
	}
	ctx, cancel := context.WithTimeout(ctx, shutdownWait)
	defer cancel()
	select {
	case <-l.ended():
	case <-ctx.Done():
	}
}
