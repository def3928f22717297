package network

import (
	"context"
	"errors"

	"github.com/docker/docker/api/types/events"

	"gantry/api/failpoint"
	"gantry/daemon/network/bridge"
	"gantry/daemon/network/netns"
)

// Release undoes Allocate; a container without a network is fine. The ports are free when
// it returns, the link goes in the background: the kernel takes its time for that, and
// the address is not given out before. What fails keeps its record, and the next start of
// the container or the daemon tries again.
func (s *Service) Release(ctx context.Context, containerID string) error {
	if err := s.awaitLeaving(ctx, containerID); err != nil {
		return err
	}
	s.mu.Lock()
	e, ok := s.endpoints[containerID]
	s.mu.Unlock()
	if !ok {
		return nil
	}
	if e.Translated && s.cfg.Firewall {
		if err := s.table.DeletePorts(translations(e.Bindings)); err != nil {
			return err
		}
	}
	failpoint.Hit("daemon/network.release.unpublished")
	s.ports.Release(e.Bindings)
	failpoint.Hit("daemon/network.release.ports")
	s.publish(events.ActionDisconnect, s.networks[e.Network], containerID)
	if e.Veth == "" {
		return s.leave(e)
	}
	left := make(chan struct{})
	s.mu.Lock()
	s.leaving[containerID] = left
	s.mu.Unlock()
	s.work.Go(func() { // ends with a few system calls
		defer func() {
			s.mu.Lock()
			defer s.mu.Unlock()
			delete(s.leaving, containerID)
			close(left)
		}()
		if err := s.leave(e); err != nil {
			s.log.Warn("release network", "container", containerID, "err", err)
		}
	})
	return nil
}

// awaitLeaving waits until the link of an earlier run is gone.
func (s *Service) awaitLeaving(ctx context.Context, containerID string) error {
	s.mu.Lock()
	left := s.leaving[containerID]
	s.mu.Unlock()
	if left == nil {
		return nil
	}
	select {
	case <-left:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// leave takes down what the kernel holds of an endpoint, then its record.
func (s *Service) leave(e endpoint) error {
	var errs []error
	if e.Veth != "" {
		errs = append(errs, bridge.Detach(e.Veth))
	}
	failpoint.Hit("daemon/network.release.detached")
	for _, path := range []string{e.Netns, e.Userns} {
		if path != "" {
			errs = append(errs, netns.Remove(path))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	failpoint.Hit("daemon/network.release.netns")
	if e.Address.IsValid() {
		s.releaseAddress(e.Address.Addr())
	}
	if err := s.forget(e.Container); err != nil {
		return err
	}
	failpoint.Hit("daemon/network.release.forgotten")
	return nil
}
