package container

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"gantry/api/errdefs"
	"gantry/api/failpoint"
	"gantry/api/undo"
	"gantry/daemon/rootfs"
	"gantry/daemon/spec"
	"gantry/libctr/core/mount"
	"gantry/libctr/core/task"
)

// view is a container's file tree for the daemon: its root with its volumes, binds and
// engine files at their places, without tmpfs and what the runtime mounts, as in dockerd.
// It is there for nobody else, and goes with Close.
type view struct {
	*rootfs.Root
	steps undo.Stack // what Close takes back
	write *writing   // nil when read-only
	end   func()     // runs when all is closed; may be nil
}

func (v *view) Close() error {
	var err error
	if v.Root != nil {
		err = v.Root.Close()
	}
	err = errors.Join(err, back(context.Background(), &v.steps))
	if v.end != nil {
		v.end()
	}
	return err
}

// goOn ends the work in a view that must go.
func (v *view) goOn() error {
	if v.write != nil && v.write.stop.Load() {
		return errdefs.Conflict("the container is started or removed while files are copied into it")
	}
	return nil
}

// errRetry says that the container was started or ended while a view was opened.
var errRetry = errors.New("the container changes its state")

// tries bounds how often a view of a container that is started and ended is begun anew.
const tries = 10

// openView opens a read-only view. It waits for no lane unless a mount point has to be made.
func (s *Service) openView(ctx context.Context, e *entry) (*view, error) {
	for range tries {
		v, err := s.tryView(ctx, e)
		if !errors.Is(err, errRetry) {
			return v, err
		}
	}
	return nil, errdefs.Conflict("container %s is started and ended all the time", e.id)
}

func (s *Service) tryView(ctx context.Context, e *entry) (*view, error) {
	c := e.snapshot()
	if c.Status.HasTask() {
		root, err := s.openLive(ctx, e, c)
		if err != nil {
			return nil, err
		}
		return s.dress(ctx, c, root, nil)
	}
	v, err := s.dressStopped(ctx, c, rootfs.Open, nil)
	if errors.Is(err, unix.EROFS) {
		if err := s.makeMountPoints(ctx, e); err != nil {
			return nil, err
		}
		v, err = s.dressStopped(ctx, c, rootfs.Open, nil)
	}
	return v, err
}

// makeMountPoints makes in the root of a container that is down what its mounts need.
func (s *Service) makeMountPoints(ctx context.Context, e *entry) error {
	if err := e.lane.enter(ctx); err != nil {
		return err
	}
	defer e.lane.leave()
	c := e.snapshot()
	var busy bool
	e.locked(func() { busy = e.writing != nil })
	if busy || c.Status.HasTask() {
		return nil // then they are there
	}
	v, err := s.dressStopped(ctx, c, rootfs.OpenWritable, nil)
	if err != nil {
		return err
	}
	return v.Close()
}

// openRootOnly opens the root alone, read-only.
func (s *Service) openRootOnly(ctx context.Context, e *entry) (*rootfs.Root, error) {
	for range tries {
		c := e.snapshot()
		if !c.Status.HasTask() {
			mounts, err := s.Images.Mounts(ctx, e.id)
			if err != nil {
				return nil, err
			}
			return rootfs.Open(mounts)
		}
		root, err := s.openLive(ctx, e, c)
		if errors.Is(err, errRetry) {
			continue
		}
		if err != nil {
			return nil, err
		}
		return root.Bind(ctx, nil, true)
	}
	return nil, errdefs.Conflict("container %s is started and ended all the time", e.id)
}

// dress puts a container's mounts over its root. With w they may be written to; a root
// that is read-only in the container stays so.
func (s *Service) dress(ctx context.Context, c *Snapshot, root *rootfs.Root, w *writing) (_ *view, err error) {
	v := &view{write: w}
	mounts, err := s.mountAll(ctx, c, &v.steps, &v.steps)
	if err != nil {
		root.Close()
		return nil, errors.Join(err, v.Close())
	}
	failpoint.Hit("daemon/container.view.mounted")
	s.tellMounted(c, &v.steps)
	var binds []rootfs.Bind
	for _, m := range spec.SortMounts(append(mounts, engineFiles(c, c.Network)...)) {
		if m.Tmpfs {
			continue
		}
		binds = append(binds, rootfs.Bind{
			Source: m.Source, Destination: m.Destination,
			Writable: m.Writable && w != nil, NonRecursive: m.NonRecursive,
		})
	}
	v.Root, err = root.Bind(ctx, binds, w == nil || c.Host.ReadonlyRootfs)
	if err != nil {
		return nil, errors.Join(err, v.Close())
	}
	failpoint.Hit("daemon/container.view.dressed")
	return v, nil
}

type openFunc = func([]mount.Mount) (*rootfs.Root, error)

func (s *Service) dressStopped(ctx context.Context, c *Snapshot, open openFunc, w *writing) (*view, error) {
	mounts, err := s.rootMounts(ctx, c)
	if err != nil {
		return nil, err
	}
	root, err := open(mounts)
	if err != nil {
		return nil, err
	}
	return s.dress(ctx, c, root, w)
}

// liveTime bounds the shim's answer, and how long an exit may take to be committed.
const liveTime = 2 * time.Second

// openLive opens the root of a running container. The process is held by a pidfd before
// its shim, which alone can let its number go, is asked whether it is the init still.
func (s *Service) openLive(ctx context.Context, e *entry, c *Snapshot) (*rootfs.Root, error) {
	fd, err := unix.PidfdOpen(c.Pid, 0)
	if errors.Is(err, unix.ESRCH) {
		return nil, s.settled(ctx, e)
	}
	if err != nil {
		return nil, fmt.Errorf("pidfd_open: %w", err)
	}
	init := os.NewFile(uintptr(fd), "init")
	defer init.Close()
	asking, cancel := context.WithTimeout(ctx, liveTime)
	defer cancel()
	st, err := s.Tasks.Get(asking, e.id, "")
	if errdefs.IsNotFound(err) {
		return nil, s.settled(ctx, e)
	}
	if err != nil {
		return nil, fmt.Errorf("ask for the container's process: %w", err)
	}
	if st.Status == task.StatusUnknown {
		return nil, errSilent(e.id)
	}
	if int(st.PID) != c.Pid || st.Status != task.StatusRunning && st.Status != task.StatusPaused {
		return nil, s.settled(ctx, e)
	}
	root, err := rootfs.OpenLive(init, c.IDs)
	if errors.Is(err, unix.ESRCH) {
		return nil, s.settled(ctx, e)
	}
	return root, err
}

// settled waits for the commit of an exit that has been seen: errRetry.
func (s *Service) settled(ctx context.Context, e *entry) error {
	var r *run
	e.locked(func() { r = e.run })
	if r == nil {
		return errRetry
	}
	select {
	case <-r.done:
	case <-time.After(liveTime):
	case <-ctx.Done():
		return ctx.Err()
	}
	return errRetry
}

// writing is a copy into a container's files under way. The file system must not be
// mounted a second time meanwhile.
type writing struct {
	done chan struct{} // closed when its view has gone
	stop atomic.Bool   // nothing more may be written
}

// openWritable opens a view to write to; of one container there is one at a time. That
// of a container that is down is opened in the lane, but does not stay in it: who holds
// the lane and wants the files for itself calls endWriting.
func (s *Service) openWritable(ctx context.Context, e *entry) (_ *view, err error) {
	if err := e.writes.enter(ctx); err != nil {
		return nil, err
	}
	w := &writing{done: make(chan struct{})}
	end := func() {
		e.locked(func() { e.writing = nil })
		close(w.done)
		e.writes.leave()
	}
	for range tries {
		var v *view
		v, err = s.tryWritable(ctx, e, w)
		if err == nil {
			v.end = end
			return v, nil
		}
		if !errors.Is(err, errRetry) {
			break
		}
	}
	end()
	return nil, err
}

func (s *Service) tryWritable(ctx context.Context, e *entry, w *writing) (*view, error) {
	mark := func(w *writing) { e.locked(func() { e.writing = w }) }
	if c := e.snapshot(); c.Status.HasTask() {
		mark(w)
		root, err := s.openLive(ctx, e, c)
		if err != nil {
			mark(nil) // the lane, which is entered next, may be waiting for it
			return nil, err
		}
		return s.dress(ctx, c, root, w)
	}
	if err := e.lane.enter(ctx); err != nil {
		return nil, err
	}
	defer e.lane.leave()
	c := e.snapshot()
	if c.Status.HasTask() {
		return nil, errRetry
	}
	mark(w)
	return s.dressStopped(ctx, c, rootfs.OpenWritable, w)
}

const (
	copyGrace = 5 * time.Second // for a copy to end by itself
	copyEnd   = time.Second     // for one that has been told to
)

// endWriting waits for a copy into the container's files, and breaks it off when it
// takes too long: one that is stuck in reading from its client writes nothing more. The
// caller is in the lane.
func (s *Service) endWriting(ctx context.Context, e *entry) {
	var w *writing
	e.locked(func() { w = e.writing })
	if w == nil {
		return
	}
	within := func(d time.Duration) bool {
		select {
		case <-w.done:
			return true
		case <-time.After(d):
		case <-ctx.Done():
		}
		return false
	}
	if within(copyGrace) {
		return
	}
	w.stop.Store(true)
	if !within(copyEnd) {
		s.log.WarnContext(ctx, "a copy into the container does not end; it writes nothing more", "container", e.id)
	}
}
