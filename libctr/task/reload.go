package task

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"

	taskapi "github.com/containerd/containerd/api/runtime/task/v3"
	"google.golang.org/protobuf/types/known/emptypb"

	"gantry/api/errdefs"
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
	m.removeStaleWork()
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
	s := m.newShim(b, b.binary())
	_, recordErr := m.cfg.Containers.Get(ctx, b.id)
	err := m.reach(ctx, s)
	switch {
	case err == nil && recordErr == nil:
		return m.adopt(s)
	case err == nil && errdefs.IsNotFound(recordErr):
		s.log.WarnContext(ctx, "task has no container, ending it")
		return m.discard(ctx, s)
	case err == nil:
		return errors.Join(recordErr, m.adopt(s))
	case errdefs.IsNotFound(err): // the shim serves, but has no such task: a create was cut off
		return m.discard(ctx, s)
	}
	s.log.WarnContext(ctx, "shim cannot be reached, cleaning up", "err", err)
	return m.cleanUpDead(ctx, s)
}

func (m *Manager) adopt(s *shim) error {
	m.set(s.key, s)
	if !s.adopt() {
		m.lost(s)
	}
	return nil
}

// reach connects to a running shim and asks for its task. Only a shim that
// listens but does not answer in time is taken to be alive without an answer.
func (m *Manager) reach(ctx context.Context, s *shim) (err error) {
	if s.boot, err = loadBootstrap(s.bundle); err != nil {
		return fmt.Errorf("bootstrap parameters: %w", noClass(err))
	}
	dial, cancel := context.WithTimeout(ctx, stateTimeout)
	defer cancel()
	if err := s.attach(dial, m.lost); err != nil {
		return noClass(err)
	}
	if err := m.openShimLog(s); err != nil {
		s.leave()
		return noClass(err)
	}
	var resp taskapi.ConnectResponse
	err = s.call(ctx, stateTimeout, "Connect", &taskapi.ConnectRequest{ID: s.id}, &resp)
	switch {
	case err == nil:
		s.setPID(resp.GetTaskPid())
		return nil
	case errors.Is(err, context.DeadlineExceeded):
		s.stuck.Store(true)
		s.log.WarnContext(ctx, "shim does not answer, adopted as it is")
		return nil
	case errdefs.IsNotFound(err):
		return err
	}
	s.leave()
	return noClass(err)
}

// noClass keeps err's text only, so that a missing file is not taken for a shim's
// answer that it has no such task.
func noClass(err error) error { return errors.New(err.Error()) }

// discard ends a shim that answers but is not to be kept, and its task if it has one.
func (m *Manager) discard(ctx context.Context, s *shim) error {
	err := s.call(ctx, callTimeout, "Kill", &taskapi.KillRequest{ID: s.id, Signal: uint32(syscall.SIGKILL), All: true}, &emptypb.Empty{})
	if err == nil {
		_ = s.call(ctx, stateTimeout, "Wait", &taskapi.WaitRequest{ID: s.id}, &taskapi.WaitResponse{})
	}
	if err := m.abandon(ctx, s); err != nil {
		return errors.Join(err, s.bundle.remove(ctx))
	}
	return s.bundle.remove(ctx)
}

// cleanUpDead removes the task of a shim that died while no core was looking,
// and says so in events. Without a note of the binary the default shim's cleans up.
func (m *Manager) cleanUpDead(ctx context.Context, s *shim) error {
	if s.binary == "" {
		return s.bundle.remove(ctx)
	}
	m.set(s.key, s)
	m.bury(s)
	return nil
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
