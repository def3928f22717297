package task

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	taskapi "github.com/containerd/containerd/api/runtime/task/v3"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/types/known/emptypb"

	"gantry/api/errdefs"
	"gantry/api/failpoint"
	"gantry/api/reqctx"
	"gantry/libctr/identifier"
)

// reloadWorkers bounds how many shims are asked at once at start.
const reloadWorkers = 32

// reload finds the tasks of an earlier process again. One bundle's trouble is
// logged and does not stop the rest.
func (m *Manager) reload(ctx context.Context) error {
	bundles, err := m.findBundles()
	if err != nil {
		return err
	}
	slots := make(chan struct{}, reloadWorkers)
	var wg sync.WaitGroup
	for _, b := range bundles {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			if err := m.reloadBundle(reqctx.WithNamespace(ctx, b.ns), b); err != nil {
				m.log.ErrorContext(ctx, "reload task", "namespace", b.ns, "container", b.id, "err", err)
			}
		})
	}
	wg.Wait()
	failpoint.Hit("libctr/task.reload.reached")
	m.removeStaleWork()
	m.removeStaleSockets(ctx)
	return ctx.Err()
}

// findBundles lists the bundles on disk and removes those that were on their way
// out or in.
func (m *Manager) findBundles() ([]*bundle, error) {
	namespaces, err := os.ReadDir(m.cfg.State)
	if err != nil {
		return nil, fmt.Errorf("find tasks: %w", err)
	}
	var out []*bundle
	for _, ns := range namespaces {
		if !ns.IsDir() || identifier.Validate(ns.Name()) != nil {
			continue
		}
		entries, err := os.ReadDir(filepath.Join(m.cfg.State, ns.Name()))
		if err != nil {
			return nil, fmt.Errorf("find tasks: %w", err)
		}
		for _, e := range entries {
			b := m.bundleOf(ns.Name(), e.Name())
			switch {
			case strings.HasPrefix(e.Name(), "."):
				m.warnIf(os.RemoveAll(b.path), "remove leftover", b)
			case e.IsDir():
				b.activated = b.hasMounts()
				out = append(out, b)
			}
		}
	}
	return out, nil
}

func (m *Manager) warnIf(err error, what string, b *bundle) {
	if err != nil {
		m.log.Warn(what, "namespace", b.ns, "container", b.id, "err", err)
	}
}

// reloadBundle adopts the bundle's shim, or removes what is left of it.
func (m *Manager) reloadBundle(ctx context.Context, b *bundle) error {
	_, recordErr := m.cfg.Containers.Get(ctx, b.id)
	s, err := m.reach(ctx, b)
	if err != nil && !errors.Is(err, errNoTask) && ctx.Err() == nil {
		if again, aerr := m.regain(ctx, b); again != nil {
			s, err = again, aerr
		}
	}
	switch {
	case err == nil && s.boot.Sandbox: // whose record another keeps
		m.adopt(s)
		return nil
	case err == nil && !errdefs.IsNotFound(recordErr):
		m.adopt(s)
		return recordErr
	case err == nil, errors.Is(err, errNoTask):
		s.log.WarnContext(ctx, "shim serves no task of a container, ending it", "reason", errors.Join(err, recordErr))
		m.endOf(s.key, func() {
			m.discard(reqctx.WithNamespace(m.life, b.ns), s)
			m.drop(s.key)
		})
		return nil
	}
	m.log.WarnContext(ctx, "shim cannot be reached, cleaning up", "namespace", b.ns, "container", b.id, "err", err)
	return m.cleanUpDead(ctx, b)
}

func (m *Manager) adopt(s *shim) {
	if !s.boot.OneTask {
		s.bundle.readGroup()
	}
	m.homes.found(s)
	m.set(s.key, s)
	if !s.adopt() {
		m.lost(s)
	}
	if s.mute.Load() {
		m.background(func() { m.listen(s) })
	}
}

// listen waits for the first answer of a shim that was adopted without one.
func (m *Manager) listen(s *shim) {
	var resp taskapi.ConnectResponse
	err := s.ask(m.life, 0, "Connect", &taskapi.ConnectRequest{ID: s.id}, &resp)
	switch {
	case m.life.Err() != nil, errors.Is(err, errGone):
		return
	case err == nil:
		s.setPID(resp.GetTaskPid())
		s.log.Info("shim answers again")
	default: // whoever asks for the task is told the same
		s.log.Error("shim answers with an error", "err", err)
	}
	s.mute.Store(false)
}

// errNoTask is of a shim that serves but has no such task: a create was cut off.
var errNoTask = errors.New("shim has no such task")

// reach connects to a bundle's shim and asks for its task. A shim that listens
// but does not answer in time is taken to be alive.
func (m *Manager) reach(ctx context.Context, b *bundle) (*shim, error) {
	boot, err := loadBootstrap(b)
	if err != nil {
		return nil, fmt.Errorf("bootstrap parameters: %w", err)
	}
	for {
		s := m.newShim(b, m.binaryOf(b))
		s.boot = boot
		err := m.reachOnce(ctx, s)
		if err == nil || errors.Is(err, errNoTask) {
			return s, err
		}
		s.leave()
		if !errors.Is(err, errClosed) || ctx.Err() != nil {
			return nil, err
		} // it ended just now, and the next dial will say so, or it has a reason of its own to hang up
		if !m.pause(redialEvery) {
			return nil, errClosed
		}
	}
}

func (m *Manager) reachOnce(ctx context.Context, s *shim) error {
	dial, cancel := context.WithTimeout(ctx, m.cfg.Timeouts.Load)
	defer cancel()
	if err := s.attach(dial, m.lost); err != nil {
		return err
	}
	if err := m.openShimLog(s); err != nil {
		return err
	}
	if s.boot.Sandbox {
		return nil
	}
	var resp taskapi.ConnectResponse
	err := s.call(ctx, helloTimeout, "Connect", &taskapi.ConnectRequest{ID: s.id}, &resp)
	if errdefs.IsNotImplemented(err) && s.downgrade() {
		err = s.call(ctx, helloTimeout, "Connect", &taskapi.ConnectRequest{ID: s.id}, &resp)
	}
	switch {
	case err == nil && resp.GetTaskPid() == 0: // shims answer so, ours too
		return errNoTask
	case err == nil:
		s.setPID(resp.GetTaskPid())
	case errors.Is(err, context.DeadlineExceeded):
		s.mute.Store(true)
		s.setPID(s.bundle.initPID())
		s.log.WarnContext(ctx, "shim does not answer, adopted as it is")
	case errdefs.IsNotFound(err):
		return errNoTask
	default:
		return err
	}
	return nil
}

// discard ends a shim that answers but is not to be kept, and its task if it has one.
func (m *Manager) discard(ctx context.Context, s *shim) {
	err := s.call(ctx, callTimeout, "Kill", &taskapi.KillRequest{ID: s.id, Signal: uint32(syscall.SIGKILL), All: true}, &emptypb.Empty{})
	if err == nil {
		_ = s.call(ctx, answerTimeout, "Wait", &taskapi.WaitRequest{ID: s.id}, &taskapi.WaitResponse{})
	}
	if err := errors.Join(m.abandon(ctx, s), s.bundle.remove(ctx)); err != nil {
		s.log.ErrorContext(ctx, "end a shim that is not kept", "err", err)
	}
}

// cleanUpDead removes the task of a shim that died while no core was looking,
// and says so in events. A bundle without a note of its shim never had one.
func (m *Manager) cleanUpDead(ctx context.Context, b *bundle) error {
	binary := m.binaryOf(b)
	if binary == "" {
		m.warnIf(m.deactivate(ctx, b), "deactivate mounts of a task that was not created", b)
		return b.remove(ctx)
	}
	s := m.newShim(b, binary)
	s.boot, _ = loadBootstrap(b) // only to find the socket's file
	m.endOf(s.key, func() { m.bury(s) })
	return nil
}

// endOf takes away what is left of a task, and waits for a while until it has.
func (m *Manager) endOf(k key, end func()) {
	m.set(k, nil) // until then, nobody may create the task anew
	ended := make(chan struct{})
	m.background(func() { defer close(ended); end() })
	timer := time.NewTimer(burialTimeout)
	defer timer.Stop()
	select {
	case <-ended:
	case <-timer.C: // of a process that does not die
	}
}

// removeStaleWork removes work directories without a bundle: the state directory
// is empty after a boot, the root is not.
func (m *Manager) removeStaleWork() {
	namespaces, err := os.ReadDir(m.cfg.Root)
	if err != nil {
		m.log.Warn("find work directories", "err", err)
		return
	}
	for _, ns := range namespaces {
		entries, err := os.ReadDir(filepath.Join(m.cfg.Root, ns.Name()))
		if err != nil {
			continue
		}
		for _, e := range entries {
			b := m.bundleOf(ns.Name(), e.Name())
			if _, err := os.Lstat(b.path); errors.Is(err, os.ErrNotExist) {
				m.warnIf(os.RemoveAll(b.work), "remove work directory", b)
			}
		}
	}
}

// removeStaleSockets removes what no shim listens at and no bundle leads to: the sockets
// of launches that died before they had noted them.
func (m *Manager) removeStaleSockets(ctx context.Context) {
	dir := m.socketDir()
	entries, err := os.ReadDir(dir)
	if err != nil {
		return // there is none yet
	}
	inUse := m.addresses()
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		if e.Type() != fs.ModeSocket || inUse["unix://"+path] {
			continue
		}
		c, err := dialShim(ctx, "unix://"+path)
		if err == nil {
			c.Close() // of a shim that is being ended
		} else if errors.Is(err, unix.ECONNREFUSED) {
			os.Remove(path) //nolint:errcheck // the next start tries again
		}
	}
}

// addresses are those of all shims that are known.
func (m *Manager) addresses() map[string]bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	all := map[string]bool{}
	for _, s := range m.shims {
		if s != nil {
			all[s.boot.Address] = true
		}
	}
	return all
}
