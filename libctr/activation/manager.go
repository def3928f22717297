// Package activation makes the mounts of core/activation: in a directory of the core's
// state, in its own mount namespace.
//
//	<dir>/<id>/<NNN>  a mount, or a link to a loop device; ids are those of the records
//
// A record is there before its directory, and goes before it. What a crash leaves, a
// directory without a record or a record that is not finished, the next collection takes
// away.
//
// Lock order: the lane of a name, that of a file system that is being made, the lane of
// removals; all are held across mounts. The mutex covers memory only.
package activation

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"gantry/api/errdefs"
	"gantry/api/failpoint"
	"gantry/api/keylock"
	"gantry/api/reqctx"
	"gantry/api/undo"
	"gantry/libctr/core/activation"
	coremount "gantry/libctr/core/mount"
	"gantry/libctr/mount"
)

// Records keeps what is activated; see metadata.Mounts.
type Records interface {
	Begin(ctx context.Context, name string, labels map[string]string) (id uint64, err error)
	Finish(ctx context.Context, id uint64, a activation.Activation) (activation.Activation, error)
	Get(ctx context.Context, name string) (activation.Activation, error)
	List(ctx context.Context, filters ...string) ([]activation.Activation, error)
	Update(ctx context.Context, a activation.Activation, fieldpaths ...string) (activation.Activation, error)
	Remove(ctx context.Context, name string) (id uint64, err error)
	Sweep(ctx context.Context, busy func(ns, name string) bool) (stay map[uint64]bool, err error)
}

// Bounds of what one call may ask for.
const (
	maxMounts = 255
	maxText   = 64 << 10 // of a source, target or option, in bytes, once it is complete
)

const undoTimeout = 30 * time.Second

// Config is what a Manager needs.
type Config struct {
	Dir     string   // its own, made by New
	Roots   []string // directories below which mkdir and mkfs may make something
	Records Records
	Log     *slog.Logger
}

// Manager makes and removes mounts. Safe for concurrent use.
type Manager struct {
	cfg   Config
	lanes keylock.Locks // of names
	clean keylock.Locks // one removal at a time
	// drafts are file systems that are being made, by directory and name.
	drafts keylock.Locks

	mu   sync.Mutex
	busy map[key]int // names that somebody is at work on; guarded by mu
}

type key struct{ ns, name string }

var _ activation.Manager = (*Manager)(nil)

// New makes the directory. What an earlier process has left is taken away by Sweep.
func New(cfg Config) (*Manager, error) {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("make directory of mounts: %w", err)
	}
	return &Manager{cfg: cfg, busy: map[key]int{}}, nil
}

// enter takes the name's lane, and keeps the collector from its records.
func (m *Manager) enter(ctx context.Context, name string) (leave func(), err error) {
	k := key{reqctx.Namespace(ctx), name}
	m.mu.Lock()
	m.busy[k]++
	m.mu.Unlock()
	idle := func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		if m.busy[k]--; m.busy[k] == 0 {
			delete(m.busy, k)
		}
	}
	unlock, err := m.lanes.Lock(ctx, k.ns+"/"+k.name)
	if err != nil {
		idle()
		return nil, err
	}
	return func() { unlock(); idle() }, nil
}

func (m *Manager) isBusy(ns, name string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.busy[key{ns, name}] > 0
}

// Activate makes the mounts that the caller can't. On failure nothing is left.
func (m *Manager) Activate(ctx context.Context, name string, mounts []coremount.Mount, o activation.Options) (a activation.Activation, err error) {
	if len(mounts) > maxMounts {
		return a, errdefs.InvalidArgument("mount %q: %d mounts are more than %d", name, len(mounts), maxMounts)
	}
	p, err := makePlan(mounts, o)
	if err != nil {
		return a, fmt.Errorf("mount %q: %w", name, err)
	}
	if p.ours < 0 {
		return a, errdefs.NotImplemented("mount %q: nothing in it needs to be activated", name)
	}
	leave, err := m.enter(ctx, name)
	if err != nil {
		return a, err
	}
	defer leave()

	var u undo.Stack
	defer func() { u.OnError(ctx, undoTimeout, &err) }()
	id, err := m.cfg.Records.Begin(ctx, name, o.Labels)
	if err != nil {
		return a, err
	}
	u.Add("forget mounts", func(ctx context.Context) error {
		_, err := m.cfg.Records.Remove(ctx, name)
		return err
	})
	failpoint.Hit("libctr/activation.activate.begun")
	dir := m.dir(id)
	if err := os.Mkdir(dir, 0o700); err != nil {
		return a, fmt.Errorf("mount %q: %w", name, err)
	}
	u.Add("remove mounts", func(ctx context.Context) error { return m.remove(ctx, id) })
	a, err = m.perform(ctx, dir, p, o.Temporary)
	if err != nil {
		return a, fmt.Errorf("mount %q: %w", name, err)
	}
	failpoint.Hit("libctr/activation.activate.mounted")
	a.Name = name
	return m.cfg.Records.Finish(ctx, id, a)
}

func (m *Manager) dir(id uint64) string {
	return filepath.Join(m.cfg.Dir, strconv.FormatUint(id, 10))
}

// perform makes the plan's own mounts in dir.
func (m *Manager) perform(ctx context.Context, dir string, p plan, temporary bool) (a activation.Activation, err error) {
	for i, s := range p.steps[:p.ours] {
		mt, err := m.transform(ctx, s.mount, s.transforms, a.Active)
		if err != nil {
			return a, err
		}
		at := filepath.Join(dir, fmt.Sprintf("%03d", i))
		if mt.Type == activation.TypeLoop {
			err = attachLoop(mt, at)
		} else {
			err = mountAt(mt, at)
		}
		if err != nil {
			return a, err
		}
		failpoint.Hit("libctr/activation.perform.one")
		a.Active = append(a.Active, activation.Mount{Mount: mt, MountedAt: time.Now().UTC(), MountPoint: at})
	}
	for i, s := range p.steps[p.ours:] {
		mt := s.mount
		if i == 0 { // later ones have none that are ours
			if mt, err = m.transform(ctx, mt, s.transforms[:s.apply], a.Active); err != nil {
				return a, err
			}
		}
		a.System = append(a.System, mt)
	}
	if temporary && p.ours > 0 {
		a.System = append(a.System, coremount.Mount{
			Type: "bind", Source: a.Active[p.ours-1].MountPoint, Options: []string{"rbind"}})
	}
	return a, nil
}

func mountAt(m coremount.Mount, at string) error {
	if err := os.Mkdir(at, 0o700); err != nil {
		return err
	}
	return mount.All([]coremount.Mount{m}, at)
}

// transform applies transforms from the left.
func (m *Manager) transform(ctx context.Context, mt coremount.Mount, names []string, active []activation.Mount) (_ coremount.Mount, err error) {
	for _, name := range names {
		mt.Type = mt.Type[len(name)+1:]
		switch name {
		case "format":
			mt, err = format(mt, active)
		case "mkdir":
			mt, err = m.mkdir(mt)
		case "mkfs":
			mt, err = m.mkfs(ctx, mt)
		}
		if err != nil {
			return mt, fmt.Errorf("%s: %w", name, err)
		}
	}
	return mt, nil
}

// Deactivate unmounts. What can't be unmounted now goes with a later collection.
func (m *Manager) Deactivate(ctx context.Context, name string) error {
	leave, err := m.enter(ctx, name)
	if err != nil {
		return err
	}
	defer leave()
	id, err := m.cfg.Records.Remove(ctx, name)
	if err != nil {
		return err
	}
	failpoint.Hit("libctr/activation.deactivate.forgotten")
	return m.remove(ctx, id)
}

// Info, List and Update are the records'.
func (m *Manager) Info(ctx context.Context, name string) (activation.Activation, error) {
	return m.cfg.Records.Get(ctx, name)
}

func (m *Manager) List(ctx context.Context, filters ...string) ([]activation.Activation, error) {
	return m.cfg.Records.List(ctx, filters...)
}

func (m *Manager) Update(ctx context.Context, a activation.Activation, fieldpaths ...string) (activation.Activation, error) {
	return m.cfg.Records.Update(ctx, a, fieldpaths...)
}

// Sweep unmounts what no record holds any more. Whatever stays is told in the log, and
// tried again by the next.
func (m *Manager) Sweep(ctx context.Context) error {
	entries, err := os.ReadDir(m.cfg.Dir) // before the records: those of what is here have begun
	if err != nil {
		return fmt.Errorf("find mounts: %w", err)
	}
	stay, err := m.cfg.Records.Sweep(ctx, m.isBusy)
	if err != nil {
		return fmt.Errorf("sweep mounts: %w", err)
	}
	failpoint.Hit("libctr/activation.sweep.forgotten")
	for _, e := range entries {
		id, err := strconv.ParseUint(e.Name(), 10, 64)
		if err != nil || stay[id] {
			continue
		}
		if err := m.remove(ctx, id); err != nil {
			m.cfg.Log.WarnContext(ctx, "unmount what nothing holds", "id", id, "err", err)
		}
	}
	return nil
}

// remove takes away what lies in an activation's directory, the last mount first. Only
// what it knows is removed, never a tree: a mount could be in it.
func (m *Manager) remove(ctx context.Context, id uint64) error {
	unlock, err := m.clean.Lock(ctx, "")
	if err != nil {
		return err
	}
	defer unlock()
	dir := m.dir(id)
	entries, err := os.ReadDir(dir) // sorted
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	var errs []error
	for i := len(entries) - 1; i >= 0; i-- {
		if err := removeOne(filepath.Join(dir, entries[i].Name()), entries[i].Type()); err != nil {
			errs = append(errs, err)
		}
	}
	if len(errs) == 0 {
		errs = append(errs, unix.Rmdir(dir))
	}
	return errors.Join(errs...)
}

func removeOne(path string, kind os.FileMode) error {
	if kind&os.ModeSymlink != 0 {
		return detachLoop(path)
	}
	if err := mount.Unmount(path); err != nil {
		return err
	}
	if err := unix.Rmdir(path); err != nil {
		return fmt.Errorf("remove %s: %w", path, err)
	}
	return nil
}
