package container

import (
	"context"
	"time"

	"github.com/containerd/typeurl/v2"
	containertypes "github.com/docker/docker/api/types/container"

	"gantry/api/errdefs"
	"gantry/daemon/stats"
)

// Stats calls emit for each sample: one a second while streaming, else one, of which
// without oneShot the difference to the one before can be told.
func (s *Service) Stats(ctx context.Context, ref string, streaming, oneShot bool, emit func(*containertypes.StatsResponse) error) error {
	e, err := s.find(ref)
	if err != nil {
		return err
	}
	if streaming && oneShot {
		return errdefs.InvalidArgument("cannot have stream=true and one-shot=true")
	}
	empty := &containertypes.StatsResponse{Name: "/" + e.snapshot().Name, ID: e.id}
	if !streaming && !e.snapshot().Status.HasTask() {
		return emit(empty)
	}
	if oneShot {
		sample, err := s.sample(ctx, e.id)
		if isNotRunning(err) || errdefs.IsNotFound(err) {
			return emit(empty)
		}
		if err != nil {
			return err
		}
		return emit(sample)
	}
	ctx, stop := s.within(ctx)
	defer stop()
	return s.stream(ctx, e, streaming, emit)
}

// stream emits samples that know the one before. A streamed container that does not run
// is waited for, with empty samples, as dockerd does.
func (s *Service) stream(ctx context.Context, e *entry, streaming bool, emit func(*containertypes.StatsResponse) error) error {
	samples, stop := s.stats.Watch(e.id)
	defer stop()
	var prev *containertypes.StatsResponse
	for {
		select {
		case <-ctx.Done():
			return nil
		case sample, ok := <-samples:
			if !ok { // the container has gone
				return nil
			}
			r := *sample
			r.Name, r.ID = "/"+e.snapshot().Name, e.id
			first := prev == nil
			if !first {
				r.PreCPUStats, r.PreRead = prev.CPUStats, prev.Read
			}
			prev = sample
			if first && !streaming {
				continue // the next one can be compared with it
			}
			if err := emit(&r); err != nil || !streaming {
				return err
			}
		}
	}
}

// sample takes one sample. Of a container that does not run it is empty; NotFound when
// there is none.
func (s *Service) sample(ctx context.Context, id string) (*containertypes.StatsResponse, error) {
	e := s.entry(id)
	if e == nil {
		return nil, errNotFound(id)
	}
	c := e.snapshot()
	if !c.Status.HasTask() {
		return &containertypes.StatsResponse{Name: "/" + c.Name, ID: id}, nil
	}
	raw, err := s.Tasks.Metrics(ctx, id)
	if errdefs.IsNotFound(err) { // its exit is on the way
		return &containertypes.StatsResponse{Name: "/" + c.Name, ID: id}, nil
	}
	if err != nil {
		return nil, wrap("read counters of container "+id, err)
	}
	metrics, err := typeurl.UnmarshalAny(raw)
	if err != nil {
		return nil, err
	}
	r, err := stats.Convert(metrics, s.cfg.Host.MemoryTotal)
	if err != nil {
		return nil, err
	}
	r.Name, r.ID, r.Read = "/"+c.Name, id, time.Now()
	if r.CPUStats.SystemUsage, r.CPUStats.OnlineCPUs, err = s.host.CPU(); err != nil {
		return nil, err
	}
	if !c.Config.NetworkDisabled && s.hasInterfaces(c) {
		r.Networks, _ = stats.Network(c.Pid) // a process that has gone has no interfaces
	}
	return r, nil
}

// watched is sample for those who watch, to whom a sample that can't be taken is an empty
// one: the next may succeed.
func (s *Service) watched(ctx context.Context, id string) (*containertypes.StatsResponse, error) {
	r, err := s.sample(ctx, id)
	if err == nil || errdefs.IsNotFound(err) || ctx.Err() != nil {
		return r, err
	}
	s.log.WarnContext(ctx, "sample container", "container", id, "err", err)
	return &containertypes.StatsResponse{ID: id}, nil
}

// hasInterfaces says whether the network that c is in, its own or another container's,
// has interfaces of ours.
func (s *Service) hasInterfaces(c *Snapshot) bool {
	for range 16 { // a joined container may have joined another
		mode := c.Host.NetworkMode
		if !mode.IsContainer() {
			return !mode.IsHost() && !mode.IsNone()
		}
		e, err := s.find(mode.ConnectedContainer())
		if err != nil {
			return false
		}
		c = e.snapshot()
	}
	return false
}
