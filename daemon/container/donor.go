package container

import (
	"slices"
	"time"
)

// donorRefs name the containers that have to run when a container starts: those whose
// namespaces it joins, and those that it is linked to.
func donorRefs(c *Record) (refs []string) {
	h := c.Host
	for _, l := range c.Links {
		refs = append(refs, l.ID)
	}
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

// inStartOrder sorts containers into waves, each of which needs earlier ones alone. What
// stands in a circle comes last.
func (s *Service) inStartOrder() (waves [][]*entry) {
	left := s.all()
	for len(left) > 0 {
		waiting := func(e *entry) bool {
			return slices.ContainsFunc(donorRefs(e.snapshot().Record), func(ref string) bool {
				d, err := s.find(ref)
				return err == nil && d != e && slices.Contains(left, d)
			})
		}
		var wave, rest []*entry
		for _, e := range left {
			if len(donorRefs(e.snapshot().Record)) > 0 && waiting(e) {
				rest = append(rest, e)
			} else {
				wave = append(wave, e)
			}
		}
		if len(wave) == 0 {
			return append(waves, rest)
		}
		waves, left = append(waves, wave), rest
	}
	return waves
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
	for _, ref := range donorRefs(e.snapshot().Record) {
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
