package main

import (
	"context"
	"fmt"

	cgroup1 "github.com/containerd/cgroups/v3/cgroup1/stats"
	cgroup2 "github.com/containerd/cgroups/v3/cgroup2/stats"
	"github.com/containerd/containerd/api/types"
	containerd "github.com/containerd/containerd/v2/client"
	"github.com/containerd/typeurl/v2"
	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// update sets limits of a running task, and looks for them in its metrics.
func update(ctx context.Context, task containerd.Task) error {
	memory, pids := int64(64<<20), int64(40)
	limits := &specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: &memory}, Pids: &specs.LinuxPids{Limit: &pids}}
	if err := task.Update(ctx, containerd.WithResources(limits)); err != nil {
		return fmt.Errorf("update: %w", err)
	}
	metrics, err := task.Metrics(ctx)
	if err != nil {
		return fmt.Errorf("metrics: %w", err)
	}
	counted, err := counts(metrics)
	if err != nil {
		return err
	}
	say("updated", counted)
	return nil
}

// counts tells a metric's limits of memory and processes, and whether any are in use.
func counts(metric *types.Metric) (string, error) {
	v, err := typeurl.UnmarshalAny(metric.Data)
	if err != nil {
		return "", fmt.Errorf("metrics: %w", err)
	}
	switch m := v.(type) {
	case *cgroup1.Metrics:
		return fmt.Sprint(m.GetMemory().GetUsage().GetLimit(), m.GetMemory().GetUsage().GetUsage() > 0, m.GetPids().GetLimit(), m.GetPids().GetCurrent()), nil
	case *cgroup2.Metrics:
		return fmt.Sprint(m.GetMemory().GetUsageLimit(), m.GetMemory().GetUsage() > 0, m.GetPids().GetLimit(), m.GetPids().GetCurrent()), nil
	}
	return "", fmt.Errorf("metrics of type %T", v)
}
