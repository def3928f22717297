package main

import (
	"testing"

	"gantry/runtime/cgroup"
)

// TestStatsSwap: v2 counts swap alone, what callers of runc read is both together.
func TestStatsSwap(t *testing.T) {
	const none = ^uint64(0)
	for _, tc := range []struct{ memory, swap, want uint64 }{{64, 32, 96}, {64, none, none}, {none, 32, none}, {none, none, none}} {
		s := statsOf(&cgroup.Stats{V2: &cgroup.StatsV2{Memory: &cgroup.MemoryV2{Usage: 5, UsageLimit: tc.memory, SwapUsage: 2, SwapLimit: tc.swap}}})
		if got := s.Memory.Swap; got.Limit != tc.want || got.Usage != 7 {
			t.Errorf("%+v: %+v", tc, got)
		}
	}
}
