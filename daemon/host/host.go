// Package host tells what this machine's kernel and control groups offer, as far as
// containers are concerned. Features is a plain value: pure code takes it, tests make it up.
package host

import (
	"runtime"
)

// Features is what can be asked of the kernel. The zero value offers nothing.
type Features struct {
	CgroupV2 bool // unified hierarchy

	MemoryLimit, SwapLimit, MemoryReservation bool
	MemorySwappiness, OomKillDisable          bool
	KernelMemory                              bool
	KernelMemoryTCP                           bool // cgroup v1 only
	PidsLimit                                 bool
	CPUShares, CPUCfs, CPURealtime            bool
	Cpuset                                    bool
	BlkioWeight, BlkioWeightDevice            bool
	BlkioReadBps, BlkioWriteBps               bool
	BlkioReadIOps, BlkioWriteIOps             bool

	CgroupNamespaces bool
	Seccomp          bool
	AppArmor         bool
	IPv4Forwarding   bool
	RecursiveRO      bool // mount_setattr with AT_RECURSIVE, 5.12

	PingGroupRange        bool // net.ipv4.ping_group_range
	UnprivilegedPortStart bool // net.ipv4.ip_unprivileged_port_start

	CPUs, Mems  string   // lists of what cpusets may hold, "0-3"
	NumCPU      int      // processors this process may run on
	MemoryTotal uint64   // bytes
	Caps        []string // CAP_ names this process holds and could pass on, in the kernel's order
	KnownCaps   []string // CAP_ names the kernel knows
	ExtraMasked []string // further paths to mask: per-processor thermal_throttle directories
}

// Detect looks at this machine. It never fails: what can't be read is not offered.
func Detect() Features {
	f := Features{NumCPU: runtime.NumCPU(), MemoryTotal: memoryTotal()}
	f.detectKernel()
	if unified() {
		f.CgroupV2 = true
		f.detectV2()
	} else {
		f.detectV1()
	}
	f.Caps, f.KnownCaps = capabilities()
	return f
}
