package sandbox

import (
	"context"
	"time"

	sandboxapi "github.com/containerd/containerd/api/runtime/sandbox/v1"
	"github.com/containerd/containerd/api/types"
	"google.golang.org/protobuf/types/known/timestamppb"

	"gantry/runtime/cgroup"
	"gantry/shim/metrics"
)

// SandboxMetrics implements the API: of the containers together, what can be added up.
func (s *Service) SandboxMetrics(_ context.Context, r *sandboxapi.SandboxMetricsRequest) (*sandboxapi.SandboxMetricsResponse, error) {
	sb, err := s.get(r.SandboxID)
	if err != nil {
		return nil, err
	}
	m := &types.Metric{Timestamp: timestamppb.New(time.Now()), ID: sb.id}
	if sum := s.sum(); sum != nil {
		if m.Data, err = metrics.Any(sum); err != nil {
			return nil, err
		}
	}
	return &sandboxapi.SandboxMetricsResponse{Metrics: m}, nil
}

// sum is nil when no container has counters.
func (s *Service) sum() (sum *cgroup.Stats) {
	for _, id := range s.containers.IDs() {
		one, err := s.containers.Counters(id)
		if err != nil {
			continue // it has ended
		}
		if sum == nil {
			sum = zero(one)
		}
		add(sum, one)
	}
	return sum
}

// zero is nothing, of the same kind.
func zero(of *cgroup.Stats) *cgroup.Stats {
	if of.V1 != nil {
		return &cgroup.Stats{V1: &cgroup.StatsV1{Memory: &cgroup.MemoryV1{Usage: &cgroup.MemoryEntry{}}, Pids: &cgroup.Pids{}}}
	}
	return &cgroup.Stats{V2: &cgroup.StatsV2{Memory: &cgroup.MemoryV2{}, Pids: &cgroup.Pids{}}}
}

// add adds time on CPUs, memory and processes; limits and peaks have no sum.
func add(sum, one *cgroup.Stats) {
	switch {
	case sum.V1 != nil && one.V1 != nil:
		addV1(sum.V1, one.V1)
	case sum.V2 != nil && one.V2 != nil:
		addV2(sum.V2, one.V2)
	}
}

func addV1(sum, one *cgroup.StatsV1) {
	sum.CPU.Usage.Total += one.CPU.Usage.Total
	sum.CPU.Usage.Kernel += one.CPU.Usage.Kernel
	sum.CPU.Usage.User += one.CPU.Usage.User
	if one.Memory != nil {
		sum.Memory.Cache += one.Memory.Cache
		sum.Memory.RSS += one.Memory.RSS
		sum.Memory.TotalInactiveFile += one.Memory.TotalInactiveFile
		if one.Memory.Usage != nil {
			sum.Memory.Usage.Usage += one.Memory.Usage.Usage
		}
	}
	if one.Pids != nil {
		sum.Pids.Current += one.Pids.Current
	}
}

func addV2(sum, one *cgroup.StatsV2) {
	sum.CPU.UsageUsec += one.CPU.UsageUsec
	sum.CPU.UserUsec += one.CPU.UserUsec
	sum.CPU.SystemUsec += one.CPU.SystemUsec
	if one.Memory != nil {
		sum.Memory.Anon += one.Memory.Anon
		sum.Memory.File += one.Memory.File
		sum.Memory.InactiveFile += one.Memory.InactiveFile
		sum.Memory.Usage += one.Memory.Usage
	}
	if one.Pids != nil {
		sum.Pids.Current += one.Pids.Current
	}
}
