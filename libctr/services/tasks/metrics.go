package tasks

import (
	"context"
	"sync"
	"time"

	tasksapi "github.com/containerd/containerd/api/services/tasks/v1"
	"github.com/containerd/containerd/api/types"

	"gantry/api/reqctx"
	"gantry/libctr/core/wire"
	"gantry/libctr/filter"
)

// metricsWorkers bounds how many shims are asked for figures at once.
const metricsWorkers = 16

// Metrics answers the figures of the namespace's tasks that one of the filters
// matches, by id and namespace. A task that gives none is left out.
func (s *Service) Metrics(ctx context.Context, r *tasksapi.MetricsRequest) (*tasksapi.MetricsResponse, error) {
	f, err := filter.Parse(r.GetFilters()...)
	if err != nil {
		return nil, err
	}
	ids, err := s.matching(ctx, f)
	if err != nil {
		return nil, err
	}
	found := make([]*types.Metric, len(ids))
	slots := make(chan struct{}, metricsWorkers)
	var wg sync.WaitGroup
	for i, id := range ids {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			collected := time.Now()
			if data, err := s.tasks.Metrics(ctx, id); err == nil {
				found[i] = &types.Metric{Timestamp: wire.Timestamp(collected), ID: id, Data: wire.Any(data)}
			}
		})
	}
	wg.Wait()
	resp := &tasksapi.MetricsResponse{}
	for _, m := range found {
		if m != nil {
			resp.Metrics = append(resp.Metrics, m)
		}
	}
	return resp, ctx.Err()
}

// lister names the tasks of a namespace without asking their shims.
type lister interface {
	IDs(ctx context.Context) ([]string, error)
}

func (s *Service) matching(ctx context.Context, f filter.Filter) ([]string, error) {
	all, err := s.ids(ctx)
	if err != nil {
		return nil, err
	}
	ns := reqctx.Namespace(ctx)
	var out []string
	for _, id := range all {
		fields := func(path []string) (string, bool) {
			if len(path) == 1 && path[0] == "id" {
				return id, true
			}
			if len(path) == 1 && path[0] == "namespace" {
				return ns, true
			}
			return "", false
		}
		if f.Match(fields) {
			out = append(out, id)
		}
	}
	return out, nil
}

func (s *Service) ids(ctx context.Context) ([]string, error) {
	if l, ok := s.tasks.(lister); ok {
		return l.IDs(ctx)
	}
	states, err := s.tasks.List(ctx)
	if err != nil {
		return nil, err
	}
	ids := make([]string, len(states))
	for i, st := range states {
		ids[i] = st.ContainerID
	}
	return ids, nil
}
