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

// TestStatsPids: what runc's callers read as no limit of processes is 0, whatever the kernel says.
func TestStatsPids(t *testing.T) {
	for limit, want := range map[uint64]uint64{^uint64(0): 0, 40: 40} {
		s := statsOf(&cgroup.Stats{V2: &cgroup.StatsV2{Pids: &cgroup.Pids{Current: 1, Limit: limit}}})
		if s.Pids.Limit != want || s.Pids.Current != 1 {
			t.Errorf("%d: %+v", limit, s.Pids)
		}
	}
}
