package task

import (
	"context"
	"fmt"
	"strings"

	"gantry/api/errdefs"
	"gantry/api/failpoint"
	"gantry/api/undo"
	"gantry/libctr/core/container"
	"gantry/libctr/core/task"
)

// serveGroup connects to the shim of the bundle's group, which the first of the group
// launches.
func (m *Manager) serveGroup(ctx context.Context, s *shim, u *undo.Stack) error {
	k := groupKey{s.ns, s.bundle.group, s.binary}
	for {
		d, first := m.homes.knock(k)
		if first {
			pid, err := m.serve(ctx, s, u)
			m.homes.opened(k, d, s, pid, err == nil)
			return err
		}
		if err := await(ctx, d.ready); err != nil {
			return err
		}
		if !m.homes.join(k, d, s) {
			continue // the first has failed, or the last has left
		}
		err := s.attach(ctx, m.lost)
		if dead(err) {
			m.homes.died(s)
			m.homes.shut(k, d)
			continue
		}
		if err != nil {
			return err
		}
		if err := s.boot.save(s.bundle); err != nil {
			return fmt.Errorf("note bootstrap parameters: %w", err)
		}
		failpoint.Hit("libctr/task.group.saved")
		return s.bundle.notePID(d.pid)
	}
}

// groupLane keeps a group under a foreign shim, whose binary finds the one that is to be
// joined, from starting while that is being ended. Others need no lane.
func (m *Manager) groupLane(ctx context.Context, s *shim) (unlock func(), err error) {
	if s.bundle.group == "" || m.own(s.binary) {
		return func() {}, nil
	}
	return m.lanes.Lock(ctx, strings.Join([]string{s.ns, s.bundle.group, s.binary}, "\x00"))
}

// join connects to the shim that the task is to run in when that is neither its own nor
// its group's: the one at the address that the caller names, or that of its sandbox.
func (m *Manager) join(ctx context.Context, s *shim, c container.Container, o task.CreateOptions) (bool, error) {
	boot, err := m.endpoint(s.ns, c, o)
	if err != nil || boot.Address == "" {
		return false, err
	}
	s.boot = boot
	s.boot.Joined = true
	if ending := m.homes.enter(s); ending != nil {
		return false, errdefs.FailedPrecondition("the shim of sandbox %s is ending", c.SandboxID)
	}
	if err := s.attach(ctx, m.lost); err != nil {
		return false, err
	}
	if err := s.boot.save(s.bundle); err != nil {
		return false, fmt.Errorf("note bootstrap parameters: %w", err)
	}
	failpoint.Hit("libctr/task.join.saved")
	if err := s.bundle.writeFile(fileSandbox, []byte(c.SandboxID)); err != nil {
		return false, fmt.Errorf("note sandbox: %w", err)
	}
	return true, nil
}

// endpoint is how the shim is reached that a task joins; without an address it joins
// none. A container of a sandbox whose shim is not known here, or is of version 2, has
// the runtime's binary find it.
func (m *Manager) endpoint(ns string, c container.Container, o task.CreateOptions) (bootstrap, error) {
	if o.Endpoint != "" {
		return parseEndpoint(o.Endpoint, o.EndpointVersion)
	}
	if c.SandboxID == "" {
		return bootstrap{}, nil
	}
	s := m.find(key{ns, c.SandboxID})
	if s == nil || !s.boot.Sandbox || s.boot.Version < 3 {
		return bootstrap{}, nil
	}
	return bootstrap{Version: s.boot.Version, Address: s.boot.Address, Protocol: s.boot.Protocol}, nil
}

// parseEndpoint reads PROTOCOL+ADDRESS, such as ttrpc+unix:///run/x.
func parseEndpoint(endpoint string, version uint32) (bootstrap, error) {
	protocol, address, ok := strings.Cut(endpoint, "+")
	if !ok {
		return bootstrap{}, errdefs.InvalidArgument("task API address %.200q is not of the form PROTOCOL+ADDRESS, such as ttrpc+unix:///run/shim.sock", endpoint)
	}
	b := bootstrap{Version: int(version), Address: address, Protocol: protocol}
	return b, b.validate()
}

// unjoin leaves a shim whose launch could not be finished; one that was joined ends when
// nobody else is left in it.
func (m *Manager) unjoin(ctx context.Context, s *shim) {
	if s.link.Load() != nil {
		m.shutdown(ctx, s)
	} else {
		m.homes.died(s)
	}
	s.leave()
}

// downgrade makes the connection speak version 2 of the task API, which a shim may be left
// with that was started by an earlier version of its binary. False: that is all it speaks
// already.
func (s *shim) downgrade() bool {
	if s.boot.Version != 3 || s.boot.Protocol != protocolTTRPC {
		return false
	}
	s.speak(2)
	return true
}

// speak makes the connection speak a version of the task API.
func (s *shim) speak(version int) {
	s.boot.Version = version
	l := s.link.Load()
	s.link.Store(&link{conn: l.speaking(s.boot), over: l.over})
}
