package host

import (
	"os"
	"path/filepath"
	"strings"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
)

const cgroupRoot = "/sys/fs/cgroup"

// CgroupV2 says whether cgroup v2 is all there is.
func CgroupV2() bool { return unified() }

// Systemd says whether the machine was booted with systemd, as sd_booted(3).
func Systemd() bool {
	st, err := os.Lstat("/run/systemd/system")
	return err == nil && st.IsDir()
}

func unified() bool {
	var st unix.Statfs_t
	return unix.Statfs(cgroupRoot, &st) == nil && st.Type == unix.CGROUP2_SUPER_MAGIC
}

func (f *Features) detectV2() {
	have := map[string]bool{}
	for _, c := range strings.Fields(word(filepath.Join(cgroupRoot, "cgroup.controllers"))) {
		have[c] = true
	}
	f.MemoryLimit, f.MemoryReservation = have["memory"], have["memory"]
	f.SwapLimit = have["memory"] && swapAccounted()
	f.CPUShares, f.CPUCfs = have["cpu"], have["cpu"]
	f.PidsLimit = have["pids"]
	f.BlkioWeight, f.BlkioWeightDevice = have["io"], have["io"]
	f.BlkioReadBps, f.BlkioWriteBps = have["io"], have["io"]
	f.BlkioReadIOps, f.BlkioWriteIOps = have["io"], have["io"]
	f.Cpuset = have["cpuset"]
	if f.Cpuset {
		f.CPUs = word(filepath.Join(cgroupRoot, "cpuset.cpus.effective"))
		f.Mems = word(filepath.Join(cgroupRoot, "cpuset.mems.effective"))
	}
}

// swapAccounted looks at our own group, since the root has no memory.swap.max.
func swapAccounted() bool {
	for _, line := range strings.Split(slurp("/proc/self/cgroup"), "\n") {
		if p, ok := strings.CutPrefix(line, "0::"); ok && p != "/" {
			return exists(filepath.Join(cgroupRoot, p, "memory.swap.max"))
		}
	}
	found, _ := filepath.Glob(filepath.Join(cgroupRoot, "*", "memory.swap.max"))
	return len(found) > 0
}

func (f *Features) detectV1() {
	at := v1Mounts()
	file := func(controller, name string) bool {
		dir, ok := at[controller]
		return ok && exists(filepath.Join(dir, name))
	}
	_, f.MemoryLimit = at["memory"]
	f.SwapLimit = file("memory", "memory.memsw.limit_in_bytes")
	f.MemoryReservation = file("memory", "memory.soft_limit_in_bytes")
	f.MemorySwappiness = file("memory", "memory.swappiness")
	f.OomKillDisable = file("memory", "memory.oom_control")
	f.KernelMemory = file("memory", "memory.kmem.limit_in_bytes")
	f.KernelMemoryTCP = file("memory", "memory.kmem.tcp.limit_in_bytes")
	_, f.PidsLimit = at["pids"]
	f.CPUShares = file("cpu", "cpu.shares")
	f.CPUCfs = file("cpu", "cpu.cfs_quota_us")
	f.CPURealtime = file("cpu", "cpu.rt_period_us")
	f.BlkioWeight = file("blkio", "blkio.weight") || file("blkio", "blkio.bfq.weight")
	f.BlkioWeightDevice = file("blkio", "blkio.weight_device") || file("blkio", "blkio.bfq.weight_device")
	f.BlkioReadBps = file("blkio", "blkio.throttle.read_bps_device")
	f.BlkioWriteBps = file("blkio", "blkio.throttle.write_bps_device")
	f.BlkioReadIOps = file("blkio", "blkio.throttle.read_iops_device")
	f.BlkioWriteIOps = file("blkio", "blkio.throttle.write_iops_device")
	if dir, ok := at["cpuset"]; ok {
		f.Cpuset = true
		f.CPUs = word(filepath.Join(dir, "cpuset.cpus"))
		f.Mems = word(filepath.Join(dir, "cpuset.mems"))
	}
}

// v1Mounts maps controllers to where they are mounted.
func v1Mounts() map[string]string {
	at := map[string]string{}
	mounts, err := mountinfo.GetMounts(mountinfo.FSTypeFilter("cgroup"))
	if err != nil {
		return at
	}
	for _, m := range mounts {
		for _, opt := range strings.Split(m.VFSOptions, ",") {
			if _, seen := at[opt]; !seen {
				at[opt] = m.Mountpoint
			}
		}
	}
	return at
}

func slurp(path string) string { b, _ := os.ReadFile(path); return string(b) }
