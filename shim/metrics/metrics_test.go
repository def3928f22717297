package metrics_test

import (
	"testing"

	v1 "github.com/containerd/cgroups/v3/cgroup1/stats"
	v2 "github.com/containerd/cgroups/v3/cgroup2/stats"

	"gantry/api/errdefs"
	"gantry/runtime/cgroup"
	"gantry/shim/metrics"
)

func TestAny(t *testing.T) {
	for want, s := range map[string]*cgroup.Stats{
		"io.containerd.cgroups.v1.Metrics": {V1: &v1.Metrics{}},
		"io.containerd.cgroups.v2.Metrics": {V2: &v2.Metrics{}},
	} {
		if got, err := metrics.Any(s); err != nil || got.TypeUrl != want {
			t.Errorf("got %v, %v, want %s", got, err, want)
		}
	}
	for _, s := range []*cgroup.Stats{nil, {}} {
		if _, err := metrics.Any(s); !errdefs.IsNotImplemented(err) {
			t.Errorf("no counters: %v", err)
		}
	}
}
