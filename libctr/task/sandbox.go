package task

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/containerd/typeurl/v2"

	"gantry/api/errdefs"
	"gantry/api/undo"
	"gantry/libctr/core/container"
	"gantry/libctr/identifier"
)

// Sandbox is a shim that was launched for a sandbox, in a bundle of its name. Containers
// whose record names it run in it. What the sandbox itself does is not known here: its
// service is called through Call. Safe for concurrent use.
type Sandbox struct {
	m *Manager
	s *shim
}

// SandboxOptions describe the shim of a new sandbox.
type SandboxOptions struct {
	ID       string
	Runtime  container.Runtime
	ShimPath string      // absolute path of the shim binary, "" is found by the runtime's name
	Spec     typeurl.Any // becomes the bundle's config.json; nil for none
}

// LaunchSandbox makes a sandbox's bundle and launches its shim. On failure nothing is left.
func (m *Manager) LaunchSandbox(ctx context.Context, o SandboxOptions) (_ *Sandbox, err error) {
	k, err := keyOf(ctx, o.ID)
	if err != nil {
		return nil, err
	}
	if err := identifier.Validate(o.ID); err != nil {
		return nil, err
	}
	if err := m.reserve(k); err != nil {
		return nil, err
	}
	var u undo.Stack
	u.Add("forget sandbox", func(context.Context) error { m.drop(k); return nil })
	defer func() { u.OnError(ctx, m.cfg.Timeouts.undo(), &err) }()

	b := m.bundleOf(k.ns, k.id)
	if err := b.create(o.Spec, true); err != nil {
		return nil, err
	}
	u.Add("remove bundle", b.remove)
	s, err := m.launchSandbox(ctx, b, o)
	if err != nil {
		return nil, fmt.Errorf("failed to start shim: %w", err)
	}
	m.homes.enter(s)
	m.set(k, s)
	if !s.adopt() {
		m.lost(s)
	}
	return &Sandbox{m, s}, nil
}

func (m *Manager) launchSandbox(ctx context.Context, b *bundle, o SandboxOptions) (_ *shim, err error) {
	binary, err := m.binaryFor(o.Runtime.Name, o.ShimPath)
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
	s.boot.Sandbox = true
	if m.own(binary) {
		b.group = "" // its containers join by the sandbox's name
		_, err = m.serve(ctx, s, &u)
	} else {
		err = m.startShim(ctx, s, o.Runtime.Options, &u)
	}
	if err == nil {
		err = s.attach(ctx, m.lost)
	}
	return s, err
}

// Sandbox returns the shim of a sandbox, which an earlier process may have launched.
func (m *Manager) Sandbox(ctx context.Context, id string) (*Sandbox, error) {
	k, err := keyOf(ctx, id)
	if err != nil {
		return nil, err
	}
	if s := m.find(k); s != nil && s.boot.Sandbox {
		return &Sandbox{m, s}, nil
	}
	return nil, errdefs.NotFound("shim of sandbox %s not found", id)
}

// Sandboxes names the sandboxes of the namespace of ctx that have a shim, in no order.
func (m *Manager) Sandboxes(ctx context.Context) ([]string, error) {
	k, err := keyOf(ctx, "")
	if err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	var ids []string
	for other, s := range m.shims {
		if other.ns == k.ns && s != nil && s.boot.Sandbox {
			ids = append(ids, other.id)
		}
	}
	return ids, nil
}

// ID is the sandbox's.
func (b *Sandbox) ID() string { return b.s.id }

// Bundle is the path of its directory.
func (b *Sandbox) Bundle() string { return b.s.bundle.path }

// Endpoint is where its task API is, such as ttrpc+unix:///run/x, and in what version; see
// task.CreateOptions.
func (b *Sandbox) Endpoint() (address string, version uint32) {
	return b.s.boot.Protocol + "+" + b.s.boot.Address, uint32(b.s.boot.Version)
}

// Call makes one unary call of a service of the shim, such as
// containerd.runtime.sandbox.v1.Sandbox, by the protocol that the shim speaks. timeout 0
// leaves it to ctx. On a lost connection it fails as Unavailable, of a shim that is gone as
// NotFound, of one without that service as NotImplemented.
func (b *Sandbox) Call(ctx context.Context, timeout time.Duration, service, method string, req, resp any) error {
	err := b.s.link.Load().callService(ctx, timeout, service, method, req, resp)
	if errors.Is(err, errClosed) && b.s.isGone() {
		return errdefs.NotFound("shim of sandbox %s not found", b.s.id)
	}
	return err
}

// Gone is closed when the shim is known to be no more.
func (b *Sandbox) Gone() <-chan struct{} { return b.s.gone }

// End ends the shim, which has been told to already, as far as it has not ended, and
// removes the bundle. Containers that are still in it die with it. Only the first of
// several at once does it.
func (b *Sandbox) End(ctx context.Context) error {
	m, s := b.m, b.s
	if !s.claim() { // it died, and is being buried, or another ends it
		return s.waitBuried(ctx)
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), m.cfg.Timeouts.undo())
	defer cancel()
	m.homes.died(s)
	s.waitLink(ctx, shutdownWait)
	err := s.endProcess(ctx)
	if _, derr := m.runDelete(ctx, s.bundle, s.binary); derr != nil && !errors.Is(derr, os.ErrNotExist) {
		s.log.WarnContext(ctx, "clean up after sandbox's shim", "err", derr)
	}
	s.leave()
	removeSocket(ctx, s.boot.Address)
	err = errors.Join(err, s.bundle.remove(ctx))
	m.drop(s.key)
	close(s.gone)
	close(s.buried)
	return err
}

// waitLink waits for the end of the connection, which comes with that of the shim.
func (s *shim) waitLink(ctx context.Context, d time.Duration) {
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	select {
	case <-s.link.Load().ended():
	case <-ctx.Done():
	}
}
