package cgroup

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	specs "github.com/opencontainers/runtime-spec/specs-go"
)

func ptr[T any](v T) *T { return &v }

// lines prints a plan: "file=value", "?" optional, "+" later, "|" the other file.
func lines(ss []setting) (out []string) {
	for _, s := range ss {
		l := s.file + "=" + s.value
		if s.optional {
			l += "?"
		}
		if s.later {
			l += "+"
		}
		if s.alt != nil {
			l += "|" + s.alt.file + "=" + s.alt.value
		}
		if c, _, _ := strings.Cut(s.file, "."); c != s.controller {
			l += "@" + s.controller
		}
		out = append(out, l)
	}
	return out
}

func block(major, minor int64) specs.LinuxBlockIODevice {
	return specs.LinuxBlockIODevice{Major: major, Minor: minor}
}

func throttle(rate uint64) []specs.LinuxThrottleDevice {
	return []specs.LinuxThrottleDevice{{LinuxBlockIODevice: block(8, 0), Rate: rate}}
}

var (
	cpuAll = &specs.LinuxCPU{Shares: ptr(uint64(512)), Quota: ptr(int64(50000)), Period: ptr(uint64(100000)), Burst: ptr(uint64(10)),
		Idle: ptr(int64(1)), RealtimePeriod: ptr(uint64(1000000)), RealtimeRuntime: ptr(int64(950000)), Cpus: "0-1", Mems: "0"}
	ioAll = &specs.LinuxBlockIO{Weight: ptr(uint16(500)), LeafWeight: ptr(uint16(20)),
		WeightDevice:          []specs.LinuxWeightDevice{{LinuxBlockIODevice: block(8, 16), Weight: ptr(uint16(1000)), LeafWeight: ptr(uint16(10))}},
		ThrottleReadBpsDevice: throttle(1), ThrottleWriteBpsDevice: throttle(2), ThrottleReadIOPSDevice: throttle(3), ThrottleWriteIOPSDevice: throttle(0)}
	huge = []specs.LinuxHugepageLimit{{Pagesize: "2MB", Limit: 4 << 20}}
	rdma = map[string]specs.LinuxRdma{"mlx5_1": {HcaHandles: ptr(uint32(3)), HcaObjects: ptr(uint32(4))}, "mlx5_0": {HcaObjects: ptr(uint32(9))}}
)

func memory(limit, swap int64) *specs.LinuxResources {
	m := &specs.LinuxMemory{}
	if limit != 0 {
		m.Limit = &limit
	}
	if swap != 0 {
		m.Swap = &swap
	}
	return &specs.LinuxResources{Memory: m}
}

func TestPlanV1(t *testing.T) {
	fresh := v1State{memsw: 1<<63 - 4096}
	for _, tc := range []struct {
		why  string
		in   *specs.LinuxResources
		now  v1State
		want []string
	}{
		{"nothing", nil, fresh, nil},
		{"empty", &specs.LinuxResources{Memory: &specs.LinuxMemory{}, CPU: &specs.LinuxCPU{}, BlockIO: &specs.LinuxBlockIO{}, Pids: &specs.LinuxPids{}}, fresh, nil},
		{"cpu", &specs.LinuxResources{CPU: cpuAll}, fresh, []string{"cpu.shares=512", "cpu.idle=1", "cpu.cfs_burst_us=10+", "cpu.cfs_period_us=100000+",
			"cpu.cfs_quota_us=50000", "cpu.rt_period_us=1000000+", "cpu.rt_runtime_us=950000", "cpuset.cpus=0-1", "cpuset.mems=0"}},
		{"memory alone", memory(100, 0), fresh, []string{"memory.limit_in_bytes=100"}},
		{"first limits: memory, then the sum", memory(100, 200), fresh, []string{"memory.limit_in_bytes=100", "memory.memsw.limit_in_bytes=200"}},
		{"raising: the sum first", memory(300, 400), v1State{memsw: 200}, []string{"memory.memsw.limit_in_bytes=400", "memory.limit_in_bytes=300"}},
		{"lowering: the sum last", memory(50, 100), v1State{memsw: 200}, []string{"memory.limit_in_bytes=50", "memory.memsw.limit_in_bytes=100"}},
		{"no limit on the sum", memory(300, -1), v1State{memsw: 200}, []string{"memory.memsw.limit_in_bytes=-1?", "memory.limit_in_bytes=300"}},
		{"unlimited lifts the sum", memory(-1, 0), v1State{memsw: 200}, []string{"memory.memsw.limit_in_bytes=-1?", "memory.limit_in_bytes=-1"}},
		{"unlimited where swap is not counted", memory(-1, 0), v1State{noSwap: true}, []string{"memory.limit_in_bytes=-1"}},
		{"the rest of memory", &specs.LinuxResources{Memory: &specs.LinuxMemory{Reservation: ptr(int64(7)), Swappiness: ptr(uint64(60)), DisableOOMKiller: ptr(true), KernelTCP: ptr(int64(8))}}, fresh,
			[]string{"memory.soft_limit_in_bytes=7", "memory.kmem.tcp.limit_in_bytes=8", "memory.swappiness=60", "memory.oom_control=1"}},
		{"swappiness unset in docker's way", &specs.LinuxResources{Memory: &specs.LinuxMemory{Swappiness: ptr(^uint64(0)), DisableOOMKiller: ptr(false)}}, fresh, []string{"memory.oom_control=0?"}},
		{"blkio", &specs.LinuxResources{BlockIO: ioAll}, fresh, []string{
			"blkio.weight=500|blkio.bfq.weight=500", "blkio.leaf_weight=20", "blkio.weight_device=8:16 1000|blkio.bfq.weight_device=8:16 1000", "blkio.leaf_weight_device=8:16 10",
			"blkio.throttle.read_bps_device=8:0 1", "blkio.throttle.write_bps_device=8:0 2", "blkio.throttle.read_iops_device=8:0 3", "blkio.throttle.write_iops_device=8:0 0"}},
		{"pids", &specs.LinuxResources{Pids: &specs.LinuxPids{Limit: ptr(int64(50))}}, fresh, []string{"pids.max=50"}},
		{"no limit of pids", &specs.LinuxResources{Pids: &specs.LinuxPids{Limit: ptr(int64(-1))}}, fresh, []string{"pids.max=max"}},
		{"huge pages", &specs.LinuxResources{HugepageLimits: huge}, fresh, []string{"hugetlb.2MB.limit_in_bytes=4194304", "hugetlb.2MB.rsvd.limit_in_bytes=4194304?"}},
		{"network", &specs.LinuxResources{Network: &specs.LinuxNetwork{ClassID: ptr(uint32(0x10001)), Priorities: []specs.LinuxInterfacePriority{{Name: "eth0", Priority: 5}}}}, fresh,
			[]string{"net_cls.classid=65537", "net_prio.ifpriomap=eth0 5"}},
		{"rdma", &specs.LinuxResources{Rdma: rdma}, fresh, []string{"rdma.max=mlx5_0 hca_object=9", "rdma.max=mlx5_1 hca_handle=3 hca_object=4"}},
	} {
		ss, _, err := planV1(tc.in, tc.now)
		if got := lines(ss); err != nil || !reflect.DeepEqual(got, tc.want) {
			t.Errorf("%s: %q %v\nwant %q", tc.why, got, err, tc.want)
		}
		checkGrouped(t, ss)
	}
}

// checkGrouped: apply wants the settings of one controller together.
func checkGrouped(t *testing.T, ss []setting) {
	t.Helper()
	var order []string
	for _, s := range ss {
		if n := len(order); n > 0 && order[n-1] == s.controller {
			continue
		}
		if slices.Contains(order, s.controller) {
			t.Errorf("settings of %s are apart", s.controller)
		}
		order = append(order, s.controller)
	}
}

func TestPlanV2(t *testing.T) {
	for _, tc := range []struct {
		why   string
		in    *specs.LinuxResources
		now   v2State
		want  []string
		warns int
	}{
		{"nothing", nil, v2State{}, nil, 0},
		{"empty", &specs.LinuxResources{Memory: &specs.LinuxMemory{}, CPU: &specs.LinuxCPU{}, BlockIO: &specs.LinuxBlockIO{}, Pids: &specs.LinuxPids{}}, v2State{}, nil, 0},
		{"cpu", &specs.LinuxResources{CPU: cpuAll}, v2State{}, []string{"cpu.weight=59", "cpu.idle=1", "cpu.max.burst=10+", "cpu.max=50000 100000", "cpuset.cpus=0-1", "cpuset.mems=0"}, 1},
		{"leaving idle before the weight", &specs.LinuxResources{CPU: &specs.LinuxCPU{Idle: ptr(int64(0)), Shares: ptr(uint64(1024))}}, v2State{}, []string{"cpu.idle=0", "cpu.weight=100"}, 0},
		{"quota alone keeps the period", &specs.LinuxResources{CPU: &specs.LinuxCPU{Quota: ptr(int64(20000))}}, v2State{cpuMax: "max 50000"}, []string{"cpu.max=20000"}, 0},
		{"no quota", &specs.LinuxResources{CPU: &specs.LinuxCPU{Quota: ptr(int64(-1))}}, v2State{}, []string{"cpu.max=max"}, 0},
		{"period alone keeps the quota", &specs.LinuxResources{CPU: &specs.LinuxCPU{Period: ptr(uint64(50000))}}, v2State{cpuMax: "25000 100000"}, []string{"cpu.max=25000 50000"}, 0},
		{"memory", memory(100, 0), v2State{}, []string{"memory.max=100"}, 0},
		{"swap is the difference", memory(100, 250), v2State{}, []string{"memory.swap.max=150", "memory.max=100"}, 0},
		{"no swap", memory(100, 100), v2State{}, []string{"memory.swap.max=0?", "memory.max=100"}, 0},
		{"any swap", memory(100, -1), v2State{}, []string{"memory.swap.max=max?", "memory.max=100"}, 0},
		{"unlimited lifts swap", memory(-1, 0), v2State{}, []string{"memory.swap.max=max?", "memory.max=max"}, 0},
		{"reservation; what v2 lacks", &specs.LinuxResources{Memory: &specs.LinuxMemory{Reservation: ptr(int64(7)), Swappiness: ptr(uint64(60)), DisableOOMKiller: ptr(true), Kernel: ptr(int64(8))}}, v2State{}, []string{"memory.low=7"}, 3},
		{"io", &specs.LinuxResources{BlockIO: ioAll}, v2State{}, []string{"io.bfq.weight=500|io.weight=4950", "io.bfq.weight=8:16 1000|io.weight=8:16 10000",
			"io.max=8:0 rbps=1", "io.max=8:0 wbps=2", "io.max=8:0 riops=3", "io.max=8:0 wiops=max"}, 0},
		{"pids", &specs.LinuxResources{Pids: &specs.LinuxPids{Limit: ptr(int64(0))}}, v2State{}, []string{"pids.max=1"}, 0},
		{"no limit of pids", &specs.LinuxResources{Pids: &specs.LinuxPids{Limit: ptr(int64(-1))}}, v2State{}, []string{"pids.max=max"}, 0},
		{"swap beside memory without limit", memory(-1, 64<<20), v2State{}, []string{"memory.swap.max=67108864", "memory.max=max"}, 0},
		{"huge pages", &specs.LinuxResources{HugepageLimits: huge}, v2State{}, []string{"hugetlb.2MB.max=4194304", "hugetlb.2MB.rsvd.max=4194304?"}, 0},
		{"network", &specs.LinuxResources{Network: &specs.LinuxNetwork{ClassID: ptr(uint32(1))}}, v2State{}, nil, 1},
		{"rdma", &specs.LinuxResources{Rdma: rdma}, v2State{}, []string{"rdma.max=mlx5_0 hca_object=9", "rdma.max=mlx5_1 hca_handle=3 hca_object=4"}, 0},
		{"unified", &specs.LinuxResources{Unified: map[string]string{"memory.high": "5", "cpu.weight.nice": "1"}}, v2State{}, []string{"cpu.weight.nice=1", "memory.high=5"}, 0},
		{"unified goes last and may set again", &specs.LinuxResources{Pids: &specs.LinuxPids{Limit: ptr(int64(5))}, Unified: map[string]string{"pids.max": "6"}}, v2State{}, []string{"pids.max=5", "pids.max=6"}, 0},
	} {
		ss, warns, err := planV2(tc.in, tc.now)
		if got := lines(ss); err != nil || !reflect.DeepEqual(got, tc.want) || len(warns) != tc.warns {
			t.Errorf("%s: %q %q %v\nwant %q", tc.why, got, warns, err, tc.want)
		}
	}
}

func TestRefusedResources(t *testing.T) {
	check := func(in *specs.LinuxResources) *specs.LinuxResources {
		in.Memory.CheckBeforeUpdate = ptr(true)
		return in
	}
	for _, tc := range []struct {
		in     *specs.LinuxResources
		v1, v2 string // "": taken
	}{
		{&specs.LinuxResources{CPU: &specs.LinuxCPU{Shares: ptr(uint64(1))}}, "the minimum allowed cpu-shares is 2", ""},
		{&specs.LinuxResources{CPU: &specs.LinuxCPU{Shares: ptr(uint64(262145))}}, "the maximum allowed cpu-shares is 262144", ""},
		{&specs.LinuxResources{Memory: &specs.LinuxMemory{Swappiness: ptr(uint64(101))}}, "the range is 0 to 100", ""},
		{memory(200, 100), "", "memory+swap limit should be >= memory limit"},
		{memory(0, 100), "", "unable to set swap limit without memory limit"},
		{memory(-1, 100), "", ""},
		{memory(0, -2), "", "memory and swap limit -2"},
		{check(memory(10, 0)), "", "below the current usage of 1000"},
		{&specs.LinuxResources{Unified: map[string]string{"memory.max": "1"}}, "cgroup v2", ""},
		{&specs.LinuxResources{Unified: map[string]string{"memory.max/../../x": "1"}}, "cgroup v2", "not a controller's file"},
		{&specs.LinuxResources{Unified: map[string]string{"memory": "1"}}, "cgroup v2", "not a controller's file"},
		{&specs.LinuxResources{HugepageLimits: []specs.LinuxHugepageLimit{{Pagesize: "../2MB"}}}, "hugepage size", "hugepage size"},
		{&specs.LinuxResources{Rdma: map[string]specs.LinuxRdma{"a b": {}}}, "rdma device", "rdma device"},
	} {
		_, _, err1 := planV1(tc.in, v1State{})
		_, _, err2 := planV2(tc.in, v2State{usage: 1000})
		for _, x := range []struct {
			err  error
			want string
		}{{err1, tc.v1}, {err2, tc.v2}} {
			ok := x.want == "" && x.err == nil ||
				x.want != "" && x.err != nil && strings.Contains(x.err.Error(), x.want) && (errors.Is(x.err, errdefs.ErrInvalidArgument) || errors.Is(x.err, errdefs.ErrFailedPrecondition))
			if !ok {
				t.Errorf("%+v: %v, want %q", tc.in, x.err, x.want)
			}
		}
	}
}

func TestCPUWeight(t *testing.T) {
	for shares, want := range map[uint64]uint64{1: 1, 2: 1, 3: 2, 512: 59, 1024: 100, 2048: 174, 262143: 10000, 262144: 10000, 1 << 40: 10000} {
		if got := cpuWeight(shares); got != want {
			t.Errorf("%d shares: weight %d, want %d", shares, got, want)
		}
	}
	last := uint64(0)
	for s := uint64(2); s <= 262144; s++ {
		w := cpuWeight(s)
		if w < last || w < 1 || w > 10000 {
			t.Fatalf("%d shares: weight %d after %d", s, w, last)
		}
		last = w
	}
}

func TestIOWeight(t *testing.T) {
	for w, want := range map[uint16]uint64{1: 1, 10: 1, 100: 910, 500: 4950, 1000: 10000} {
		if got := ioWeight(w); got != want {
			t.Errorf("%d: %d, want %d", w, got, want)
		}
	}
}

// TestApply plays the kernel: which writes are repeated, passed over, refused.
func TestApply(t *testing.T) {
	dir := t.TempDir()
	dirOf := func(c string) (string, bool) { return dir, c == "here" }
	if err := writeNew(dir, "there"); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		why  string
		s    setting
		want error
	}{
		{"there", setting{controller: "here", file: "there", value: "1"}, nil},
		{"no file", setting{controller: "here", file: "not"}, errdefs.ErrUnavailable},
		{"no file, optional", setting{controller: "here", file: "not", optional: true}, nil},
		{"the other file", setting{controller: "here", file: "not", alt: &setting{controller: "here", file: "there"}}, nil},
		{"no controller", setting{controller: "gone", file: "there"}, errdefs.ErrUnavailable},
		{"no controller, optional", setting{controller: "gone", file: "there", optional: true}, nil},
	} {
		err := apply([]setting{tc.s}, dirOf)
		if tc.want == nil && err != nil || tc.want != nil && !errors.Is(err, tc.want) {
			t.Errorf("%s: %v", tc.why, err)
		}
	}
	err := apply([]setting{{controller: "gone", file: "gone.max"}}, dirOf)
	if !strings.Contains(fmt.Sprint(err), `cgroup controller "gone"`) {
		t.Errorf("the controller is not named: %v", err)
	}
}

func TestMissing(t *testing.T) {
	got := missing(strings.Fields("cpuset cpu io memory"), strings.Fields("cpu memory"))
	if !reflect.DeepEqual(got, []string{"+cpuset", "+io"}) {
		t.Fatal(got)
	}
}
