package task

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

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
	defer func() { u.OnError(ctx, undoTimeout, &err) }()

	m.awaitLeft(ctx, k)
	b := m.bundleOf(k.ns, k.id)
	if err := b.create(c.Spec); err != nil {
		return nil, 0, err
	}
	u.Add("remove bundle", b.remove)
	failpoint.Hit("libctr/task.create.bundle")

	s, err := m.launch(ctx, b, c, o.ShimPath)
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

// launch brings up the container's shim and connects to it.
func (m *Manager) launch(ctx context.Context, b *bundle, c container.Container, path string) (_ *shim, err error) {
	if path == "" {
		path = c.Runtime.Name
	} else if !filepath.IsAbs(path) {
		return nil, errdefs.InvalidArgument("shim path %s is not absolute", path)
	}
	binary, err := resolve(path, m.cfg.ShimDir)
	if err != nil {
		return nil, err
	}
	var u undo.Stack
	defer func() { u.OnError(ctx, undoTimeout, &err) }()

	s := m.newShim(b, binary)
	if err := m.openShimLog(s); err != nil {
		return nil, err
	}
	u.Add("close shim log", func(context.Context) error { s.leave(); return nil })

	if err := b.writeFile(fileBinary, []byte(binary)); err != nil {
		return nil, fmt.Errorf("note shim binary: %w", err)
	}
	failpoint.Hit("libctr/task.launch.noted")
	if m.own(b, binary) {
		err = m.serve(ctx, s, &u)
	} else {
		err = m.startShim(ctx, s, c.Runtime.Options, &u)
	}
	if err != nil {
		return nil, err
	}
	if err := s.attach(ctx, m.lost); err != nil {
		return nil, err
	}
	return s, nil
}

// startShim runs the start protocol, which every shim knows.
func (m *Manager) startShim(ctx context.Context, s *shim, options typeurl.Any, u *undo.Stack) (err error) {
	s.boot, err = m.start(ctx, s.bundle, s.binary, options)
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
	options := o.Options
	if options == nil || len(options.GetValue()) == 0 {
		options = c.Runtime.Options
	}
	var resp taskapi.CreateTaskResponse
	err := s.call(ctx, startTimeout, "Create", &taskapi.CreateTaskRequest{
		ID:         s.id,
		Bundle:     s.bundle.path,
		Rootfs:     wire.Mounts(o.Rootfs),
		Terminal:   o.IO.Terminal,
		Stdin:      o.IO.Stdin,
		Stdout:     o.IO.Stdout,
		Stderr:     o.IO.Stderr,
		Checkpoint: o.Checkpoint,
		Options:    wire.Any(options),
	}, &resp)
	if errors.Is(err, errClosed) && s.child != nil {
		err = s.child.end(err)
	}
	return resp.GetPid(), err
}

// abandon ends a shim whose task could not be created, or shall not be kept: the
// task is deleted, the shim shut down, and its binary's delete call removes the
// rest. Only the last step's failure counts.
func (m *Manager) abandon(ctx context.Context, s *shim) error {
	defer s.leave()
	var resp taskapi.DeleteResponse
	if err := s.call(ctx, cleanupTimeout, "Delete", &taskapi.DeleteRequest{ID: s.id}, &resp); err != nil && !errdefs.IsNotFound(err) {
		s.log.DebugContext(ctx, "delete of a task that failed", "err", err)
	}
	m.shutdown(ctx, s)
	if err := m.killShim(ctx, s); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, binaryTimeout)
	defer cancel()
	_, err := m.runDelete(ctx, s.bundle, s.binary)
	if !m.shared(s) { // of a shim that died before it was known where, the call knows nothing
		removeSocket(ctx, s.boot.Address)
	}
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}

// shutdown asks the shim to end and waits for a moment until it has, unless it
// serves other tasks too.
func (m *Manager) shutdown(ctx context.Context, s *shim) {
	s.claim()
	l := s.link.Load()
	err := s.call(ctx, shutdownTimeout, "Shutdown", &taskapi.ShutdownRequest{ID: s.id}, &emptypb.Empty{})
	if err != nil && !errors.Is(err, errClosed) {
		s.log.WarnContext(ctx, "shut down shim", "err", err)
		return
	}
	if m.shared(s) {
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

// shared says whether the shim serves another task.
func (m *Manager) shared(s *shim) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, other := range m.shims {
		if other != nil && other != s && other.boot.Address == s.boot.Address {
			return true
		}
	}
	return false
}
