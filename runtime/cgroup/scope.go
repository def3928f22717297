package cgroup

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/containerd/errdefs"

	"gantry/runtime/cgroup/systemd"
)

// scope drives a cgroup that systemd keeps. systemd is told of the limits that it
// knows, so that it does not undo them; then all are written as without it, by the
// driver that it wraps.
type scope struct {
	driver
	unit  systemd.Unit
	kind  systemd.Kind
	id    string
	extra []systemd.Property

	// From create to joined, which are the creator's.
	bus     *systemd.Bus
	first   *placeholder
	pidsMax string // the value of that file less the placeholder
}

// newScope names a scope and says where its cgroup will be.
func newScope(h *host, cgroupsPath string, opts Options) (s *scope, path string, err error) {
	if !systemd.Running() {
		return nil, "", fmt.Errorf("systemd not running on this host, cannot use systemd cgroups manager: %w", errdefs.ErrUnavailable)
	}
	if opts.Rootless && h.kind != V2 {
		return nil, "", fmt.Errorf("cannot use rootless systemd cgroups manager on cgroup v1: %w", errdefs.ErrUnavailable)
	}
	s = &scope{id: opts.ID, kind: systemdKind(h)}
	if s.unit, err = systemd.ParsePath(cgroupsPath, opts.ID, opts.Rootless); err != nil {
		return nil, "", err
	}
	if s.extra, err = systemd.Annotations(opts.Annotations); err != nil {
		return nil, "", err
	}
	if path, err = s.unit.Path(); err != nil || !opts.Rootless {
		return s, path, err
	}
	if err := s.dial(context.Background()); err != nil {
		return nil, "", err
	}
	root, err := s.bus.ControlGroup()
	return s, filepath.Join("/", root, path), err
}

func systemdKind(h *host) systemd.Kind {
	if h.kind == V2 {
		return systemd.V2
	}
	return systemd.V1
}

// loadScope takes up a scope made earlier.
func loadScope(h *host, unit systemd.Unit) *scope { return &scope{unit: unit, kind: systemdKind(h)} }

// over lets s drive d.
func (s *scope) over(d driver) driver {
	s.driver = d
	switch d := d.(type) {
	case *unified:
		d.before = s.before
	case *legacy:
		d.before = s.before
	}
	return s
}

func (s *scope) dial(ctx context.Context) (err error) {
	if s.bus == nil {
		s.bus, err = systemd.Dial(ctx, s.unit.User)
	}
	return err
}

// connect gives the creator's connection, or one of the caller's own; done ends it.
func (s *scope) connect(ctx context.Context) (b *systemd.Bus, done func(), err error) {
	if s.bus != nil {
		return s.bus, func() {}, nil
	}
	if b, err = systemd.Dial(ctx, s.unit.User); err != nil {
		return nil, nil, err
	}
	return b, func() { b.Close() }, nil
}

func (s *scope) hangUp() {
	if s.bus != nil {
		s.bus.Close()
		s.bus = nil
	}
}

func (s *scope) create() (err error) {
	ctx := context.Background()
	if err := s.dial(ctx); err != nil {
		return err
	}
	if err := s.start(ctx); err != nil {
		s.joined()
		return err
	}
	if err = s.driver.create(); err != nil {
		_ = s.bus.Stop(ctx, s.unit.Name)
		s.joined()
	}
	return err
}

func (s *scope) start(ctx context.Context) (err error) {
	pid := 0
	if !s.unit.IsSlice() {
		if s.first, err = startPlaceholder(); err != nil {
			return err
		}
		pid = s.first.pid()
	}
	err = s.bus.Start(ctx, s.unit.Name, s.unit.Properties(s.kind, s.id, pid, s.extra))
	if s.unit.IsSlice() && errdefs.IsAlreadyExists(err) {
		return nil // taken over, as directories are
	}
	return err
}

// joined lets the placeholder go, and hangs up: a shim rests for long.
func (s *scope) joined() error {
	s.hangUp()
	if s.first == nil {
		return nil
	}
	s.first.end()
	s.first = nil
	if s.pidsMax == "" {
		return nil
	}
	if dir, ok := s.dirOf("pids"); ok {
		return writeFile(dir, "pids.max", s.pidsMax)
	}
	return nil
}

// approach moves this process to a scope of its own in the user's part of the tree,
// until it ends.
func (s *scope) approach(ctx context.Context) error {
	bus, done, err := s.connect(ctx)
	if err != nil {
		return err
	}
	defer done()
	pid := os.Getpid()
	name := fmt.Sprintf("grun-of-%d.scope", pid)
	err = bus.Start(ctx, name, []systemd.Property{
		systemd.Prop("Description", "creator of containers"), systemd.Prop("Slice", s.unit.Slice),
		systemd.Prop("PIDs", []uint32{uint32(pid)}), systemd.Prop("CollectMode", "inactive-or-failed"),
	})
	if errdefs.IsAlreadyExists(err) { // we are in it
		return nil
	}
	return err
}

func (s *scope) dirOf(controller string) (string, bool) {
	return s.driver.(interface{ dirOf(string) (string, bool) }).dirOf(controller)
}

// before tells systemd what is about to be written, and makes it what systemd rounds
// it to. rules are nil unless they are to be changed.
func (s *scope) before(ss []setting, rules []deviceRule) ([]setting, error) {
	ctx := context.Background()
	bus, done, err := s.connect(ctx)
	if err != nil {
		return nil, err
	}
	defer done()
	props, ss, err := properties(s.kind, ss, s.period(), bus.Version)
	if err != nil {
		return nil, err
	}
	if rules != nil {
		props = append(deviceProperties(rules), props...)
	}
	if len(props) > 0 {
		if err := s.tell(ctx, bus, props, rules != nil); err != nil {
			return nil, err
		}
	}
	if s.first != nil {
		ss = s.withPlaceholder(ss)
	}
	return ss, nil
}

// tell sets properties. On v1 systemd denies all devices before it allows some again:
// a container that runs is frozen for that moment.
func (s *scope) tell(ctx context.Context, bus *systemd.Bus, props []systemd.Property, devices bool) error {
	if s.kind == systemd.V1 && devices && s.first == nil {
		if frozen, err := s.frozen(); err == nil && !frozen && s.freeze(ctx) == nil {
			defer s.thaw(ctx)
		}
	}
	return bus.Set(ctx, s.unit.Name, props)
}

// withPlaceholder leaves room for one more process than there may be in the end.
func (s *scope) withPlaceholder(ss []setting) []setting {
	out := append([]setting(nil), ss...)
	for i, one := range out {
		if n, err := strconv.ParseUint(one.value, 10, 62); err == nil && one.file == "pids.max" {
			s.pidsMax, out[i].value = one.value, itoa(n+1)
		}
	}
	return out
}

// period is the CPU period in force, 0 if it can't be told.
func (s *scope) period() uint64 {
	dir, ok := s.dirOf("cpu")
	if !ok {
		return 0
	}
	if s.kind == systemd.V1 {
		n, _ := readUint(dir, "cpu.cfs_period_us")
		return n
	}
	max, _ := readFile(dir, "cpu.max")
	_, period, _ := strings.Cut(max, " ")
	n, _ := strconv.ParseUint(period, 10, 64)
	return n
}

// remove ends the unit. A systemd that can't be asked finds the cgroup gone.
func (s *scope) remove(ctx context.Context) error {
	_ = s.joined()
	bus, done, told := s.connect(ctx)
	if told == nil {
		told = bus.Stop(ctx, s.unit.Name)
		done()
	}
	if err := s.driver.remove(ctx); err != nil {
		return errors.Join(told, err)
	}
	return nil
}
