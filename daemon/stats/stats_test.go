package stats

import (
	"context"
	"errors"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	statsv1 "github.com/containerd/cgroups/v3/cgroup1/stats"
	statsv2 "github.com/containerd/cgroups/v3/cgroup2/stats"
	containertypes "github.com/docker/docker/api/types/container"
)

func TestConvert(t *testing.T) {
	v1, err := Convert(&statsv1.Metrics{
		CPU:    &statsv1.CPUStat{Usage: &statsv1.CPUUsage{Total: 10, User: 4, Kernel: 6, PerCPU: []uint64{3, 7}}},
		Memory: &statsv1.MemoryStat{Cache: 1, Usage: &statsv1.MemoryEntry{Usage: 5, Limit: 1 << 40, Max: 9, Failcnt: 2}},
		Pids:   &statsv1.PidsStat{Current: 3, Limit: 8},
		Blkio:  &statsv1.BlkIOStat{IoServicedRecursive: []*statsv1.BlkIOEntry{{Op: "Read", Major: 8, Value: 2}}},
	}, 1<<30)
	if err != nil {
		t.Fatal(err)
	}
	if v1.CPUStats.CPUUsage.TotalUsage != 10 || len(v1.CPUStats.CPUUsage.PercpuUsage) != 2 || v1.MemoryStats.Limit != 1<<30 ||
		v1.MemoryStats.Failcnt != 2 || v1.PidsStats.Current != 3 || v1.BlkioStats.IoServicedRecursive[0].Value != 2 {
		t.Errorf("v1: %+v", v1)
	}
	v2, err := Convert(&statsv2.Metrics{
		CPU:    &statsv2.CPUStat{UsageUsec: 7, UserUsec: 3, SystemUsec: 4},
		Memory: &statsv2.MemoryStat{Usage: 5, UsageLimit: 6, Anon: 1},
		Io:     &statsv2.IOStat{Usage: []*statsv2.IOEntry{{Major: 8, Rbytes: 1, Wbytes: 2}}},
	}, 0)
	if err != nil {
		t.Fatal(err)
	}
	if v2.CPUStats.CPUUsage.TotalUsage != 7000 || v2.MemoryStats.Stats["anon"] != 1 || len(v2.BlkioStats.IoServiceBytesRecursive) != 2 {
		t.Errorf("v2: %+v", v2)
	}
	if _, err := Convert("x", 0); err == nil {
		t.Error("took a string")
	}
}

func TestParse(t *testing.T) {
	nanos, online, err := parseStat(strings.NewReader("cpu  1 2 3 4 5 6 7 8 9 10\ncpu0 1\ncpu1 1\nintr 5\n"))
	if err != nil || nanos != 28*1e7 || online != 2 {
		t.Errorf("%d %d %v", nanos, online, err)
	}
	dev := "Inter-|   Receive\n face |bytes\n    lo: 1 1 0 0 0 0 0 0 1 1 0 0 0 0 0 0\n  eth0: 10 2 3 4 0 0 0 0 20 5 6 7 0 0 0 0\n"
	dev += " tunl0: 1 1 0 0 0 0 0 0 1 1 0 0 0 0 0 0\n"
	n, err := parseNetDev(strings.NewReader(dev))
	want := containertypes.NetworkStats{RxBytes: 10, RxPackets: 2, RxErrors: 3, RxDropped: 4, TxBytes: 20, TxPackets: 5, TxErrors: 6, TxDropped: 7}
	if err != nil || len(n) != 1 || n["eth0"] != want {
		t.Errorf("%+v %v", n, err)
	}
	if _, err := Network(os.Getpid()); err != nil {
		t.Error(err)
	}
	var m Machine
	if nanos, online, err := m.CPU(); err != nil || nanos == 0 || online == 0 {
		t.Errorf("%d %d %v", nanos, online, err)
	}
	m.nanos, m.at = 1, time.Now().Add(-lookFor)
	if nanos, _, err := m.CPU(); err != nil || nanos == 1 {
		t.Errorf("an old look is taken for a new one: %d %v", nanos, err)
	}
}

func TestCollector(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var taken atomic.Int32
		var broken atomic.Bool
		c := NewCollector(t.Context(), func(context.Context, string) (*containertypes.StatsResponse, error) {
			taken.Add(1)
			if broken.Load() {
				return nil, errors.New("gone")
			}
			return &containertypes.StatsResponse{}, nil
		})
		a, stopA := c.Watch("x")
		<-a
		b, stopB := c.Watch("x")
		<-a
		<-b
		if n := taken.Load(); n != 2 {
			t.Errorf("%d samples for two watchers in a second", n)
		}
		stopA()
		broken.Store(true)
		if _, ok := <-b; ok {
			t.Error("channel still open after a failed sample")
		}
		stopB()
		synctest.Wait()
		if len(c.feeds) != 0 {
			t.Error("feed left")
		}
	})
}
