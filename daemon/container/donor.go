package container

import (
	"time"

	containertypes "github.com/docker/docker/api/types/container"
)

// donorRefs name the containers whose namespaces a container joins when it starts.
func donorRefs(h *containertypes.HostConfig) (refs []string) {
	if h.NetworkMode.IsContainer() {
		refs = append(refs, h.NetworkMode.ConnectedContainer())
	}
	if h.IpcMode.IsContainer() {
		refs = append(refs, h.IpcMode.Container())
	}
	if h.PidMode.IsContainer() {
		refs = append(refs, h.PidMode.Container())
	}
	return refs
}

// Longer than a policy waits at most, and how often a donor is looked at.
const (
	donorPatience = 2 * time.Minute
	donorPoll     = 50 * time.Millisecond
)

// awaitDonors waits while a donor is to be restarted too, as after a boot all are: who
// starts first would find it down. It ends at off and with the daemon at the latest.
func (s *Service) awaitDonors(e *entry, off <-chan struct{}) {
	end := time.Now().Add(donorPatience)
	for _, ref := range donorRefs(e.snapshot().Host) {
		d, err := s.find(ref)
		if err != nil {
			continue // the start says so
		}
		for d.snapshot().Status == Restarting && time.Now().Before(end) {
			select {
			case <-time.After(donorPoll):
			case <-off:
				return
			case <-s.life.Done():
				return
			}
		}
	}
}
