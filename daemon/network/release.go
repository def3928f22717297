package network

import (
	"context"
	"errors"

	"github.com/docker/docker/api/types/events"

	"gantry/api/failpoint"
	"gantry/daemon/network/bridge"
	"gantry/daemon/network/netns"
)

// Release undoes Allocate; a container without a network is fine. Every step is tried;
// the record stays when one fails, so that the next start of the daemon tries again.
func (s *Service) Release(_ context.Context, containerID string) error {
	s.mu.Lock()
	e, ok := s.endpoints[containerID]
	s.mu.Unlock()
	if !ok {
		return nil
	}
	var errs []error
	if e.Translated && s.cfg.Firewall {
		errs = append(errs, s.table.DeletePorts(translations(e.Bindings)))
	}
	failpoint.Hit("daemon/network.release.unpublished")
	s.ports.Release(e.Bindings)
	failpoint.Hit("daemon/network.release.ports")
	if e.Veth != "" {
		errs = append(errs, bridge.Detach(e.Veth))
	}
	failpoint.Hit("daemon/network.release.detached")
	if e.Netns != "" {
		errs = append(errs, netns.Remove(e.Netns))
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	failpoint.Hit("daemon/network.release.netns")
	if e.Address.IsValid() {
		s.releaseAddress(e.Address.Addr())
	}
	if err := s.forget(containerID); err != nil {
		return err
	}
	failpoint.Hit("daemon/network.release.forgotten")
	s.publish(events.ActionDisconnect, s.networks[e.Network], containerID)
	return nil
}
