package spec

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/docker/docker/api/types/blkiodev"
	containertypes "github.com/docker/docker/api/types/container"

	"gantry/daemon/host"
)

// Smallest memory limit that leaves room for a start, in bytes.
const minMemory = 6 << 20

// CheckResources checks limits and discards, with a warning, those that this machine
// can't enforce. update relaxes the rule that swap needs a memory limit beside it.
//
//nolint:staticcheck // the texts are Docker's, capitals included
func CheckResources(r *containertypes.Resources, f host.Features, update bool) (warnings []string, err error) {
	for _, check := range []func() ([]string, error){
		func() ([]string, error) { return checkMemory(r, f, update) },
		func() ([]string, error) { return checkMemoryExtras(r, f) },
		func() ([]string, error) { return checkCPU(r, f) },
		func() ([]string, error) { return checkCpuset(r, f) },
		func() ([]string, error) { return checkBlkio(r, f) },
	} {
		w, err := check()
		if warnings = append(warnings, w...); err != nil {
			return warnings, err
		}
	}
	return warnings, nil
}

func checkMemory(r *containertypes.Resources, f host.Features, update bool) (warnings []string, err error) {
	if r.MemorySwappiness != nil && *r.MemorySwappiness == -1 {
		r.MemorySwappiness = nil
	}
	if r.Memory != 0 && r.Memory < minMemory {
		return nil, errors.New("Minimum memory limit allowed is 6MB") //nolint:staticcheck // Docker's words, as below
	}
	if r.Memory > 0 && !f.MemoryLimit {
		warnings = append(warnings, "Your kernel does not support memory limit capabilities or the cgroup is not mounted. Limitation discarded.")
		r.Memory, r.MemorySwap = 0, -1
	}
	if r.Memory > 0 && r.MemorySwap != -1 && !f.SwapLimit {
		warnings = append(warnings, "Your kernel does not support swap limit capabilities or the cgroup is not mounted. Memory limited without swap.")
		r.MemorySwap = -1
	}
	switch {
	case r.Memory > 0 && r.MemorySwap > 0 && r.MemorySwap < r.Memory:
		return warnings, errors.New("Minimum memoryswap limit should be larger than memory limit, see usage") //nolint:staticcheck
	case r.Memory == 0 && r.MemorySwap > 0 && !update:
		return warnings, errors.New("You should always set the Memory limit when using Memoryswap limit, see usage") //nolint:staticcheck
	}
	return warnings, nil
}

func checkMemoryExtras(r *containertypes.Resources, f host.Features) (warnings []string, err error) {
	if r.MemorySwappiness != nil && !f.MemorySwappiness {
		warnings = append(warnings, "Your kernel does not support memory swappiness capabilities or the cgroup is not mounted. Memory swappiness discarded.")
		r.MemorySwappiness = nil
	}
	if s := r.MemorySwappiness; s != nil && (*s < 0 || *s > 100) {
		return warnings, fmt.Errorf("Invalid value: %v, valid memory swappiness range is 0-100", *s) //nolint:staticcheck
	}
	if r.MemoryReservation > 0 && !f.MemoryReservation {
		warnings = append(warnings, "Your kernel does not support memory soft limit capabilities or the cgroup is not mounted. Limitation discarded.")
		r.MemoryReservation = 0
	}
	switch {
	case r.MemoryReservation > 0 && r.MemoryReservation < minMemory:
		return warnings, errors.New("Minimum memory reservation allowed is 6MB") //nolint:staticcheck
	case r.Memory > 0 && r.MemoryReservation > 0 && r.Memory < r.MemoryReservation:
		return warnings, errors.New("Minimum memory limit can not be less than memory reservation limit, see usage") //nolint:staticcheck
	}
	if r.KernelMemory > 0 {
		warnings = append(warnings, "Your kernel does not support kernel memory limit capabilities or the cgroup is not mounted. Limitation discarded.")
	}
	r.KernelMemory, r.KernelMemoryTCP = 0, 0 // no kernel enforces them any more
	return append(warnings, checkOOMAndPids(r, f)...), nil
}

func checkOOMAndPids(r *containertypes.Resources, f host.Features) (warnings []string) {
	if r.OomKillDisable != nil && !f.OomKillDisable {
		if *r.OomKillDisable {
			warnings = append(warnings, "Your kernel does not support OomKillDisable. OomKillDisable discarded.")
		}
		r.OomKillDisable = nil
	}
	if r.OomKillDisable != nil && *r.OomKillDisable && r.Memory == 0 {
		warnings = append(warnings, "OOM killer is disabled for the container, but no memory limit is set, this can result in the system running out of resources.")
	}
	if r.PidsLimit != nil && !f.PidsLimit {
		if *r.PidsLimit > 0 {
			warnings = append(warnings, "Your kernel does not support PIDs limit capabilities or the cgroup is not mounted. PIDs limit discarded.")
		}
		r.PidsLimit = nil
	}
	return warnings
}

func checkCPU(r *containertypes.Resources, f host.Features) (warnings []string, err error) {
	switch {
	case r.NanoCPUs > 0 && r.CPUPeriod > 0:
		return nil, errors.New("Conflicting options: Nano CPUs and CPU Period cannot both be set") //nolint:staticcheck
	case r.NanoCPUs > 0 && r.CPUQuota > 0:
		return nil, errors.New("Conflicting options: Nano CPUs and CPU Quota cannot both be set") //nolint:staticcheck
	case r.NanoCPUs > 0 && !f.CPUCfs:
		return nil, errors.New("NanoCPUs can not be set, as your kernel does not support CPU CFS scheduler or the cgroup is not mounted")
	case r.NanoCPUs < 0 || r.NanoCPUs > int64(f.NumCPU)*1e9:
		return nil, fmt.Errorf("range of CPUs is from 0.01 to %[1]d.00, as there are only %[1]d CPUs available", f.NumCPU)
	}
	if r.CPUShares > 0 && !f.CPUShares {
		warnings = append(warnings, "Your kernel does not support CPU shares or the cgroup is not mounted. Shares discarded.")
		r.CPUShares = 0
	}
	if (r.CPUPeriod != 0 || r.CPUQuota != 0) && !f.CPUCfs {
		warnings = append(warnings, "Your kernel does not support CPU CFS scheduler. CPU period/quota discarded.")
		r.CPUPeriod, r.CPUQuota = 0, 0
	}
	switch {
	case r.CPUPeriod != 0 && (r.CPUPeriod < 1000 || r.CPUPeriod > 1000000):
		return warnings, errors.New("CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)")
	case r.CPUQuota > 0 && r.CPUQuota < 1000:
		return warnings, errors.New("CPU cfs quota can not be less than 1ms (i.e. 1000)")
	}
	if r.CPUPercent > 0 {
		warnings = append(warnings, "linux does not support CPU percent. Percent discarded.")
		r.CPUPercent = 0
	}
	return warnings, nil
}

func checkCpuset(r *containertypes.Resources, f host.Features) (warnings []string, err error) {
	if (r.CpusetCpus != "" || r.CpusetMems != "") && !f.Cpuset {
		warnings = append(warnings, "Your kernel does not support cpuset or the cgroup is not mounted. Cpuset discarded.")
		r.CpusetCpus, r.CpusetMems = "", ""
	}
	if ok, err := within(r.CpusetCpus, f.CPUs); err != nil {
		return warnings, fmt.Errorf("Invalid value %s for cpuset cpus: %w", r.CpusetCpus, err) //nolint:staticcheck
	} else if !ok {
		return warnings, fmt.Errorf("Requested CPUs are not available - requested %s, available: %s", r.CpusetCpus, f.CPUs) //nolint:staticcheck
	}
	if ok, err := within(r.CpusetMems, f.Mems); err != nil {
		return warnings, fmt.Errorf("Invalid value %s for cpuset mems: %w", r.CpusetMems, err) //nolint:staticcheck
	} else if !ok {
		return warnings, fmt.Errorf("Requested memory nodes are not available - requested %s, available: %s", r.CpusetMems, f.Mems) //nolint:staticcheck
	}
	return warnings, nil
}

// highest number that a list may name, so that a hostile range costs nothing.
const maxList = 8192

// list reads "0-3,7" into a set.
func list(s string) (map[int]bool, error) {
	set := map[int]bool{}
	if s == "" {
		return set, nil
	}
	for part := range strings.SplitSeq(s, ",") {
		first, last, ranged := strings.Cut(part, "-")
		lo, err := strconv.Atoi(strings.TrimSpace(first))
		if err != nil || lo < 0 || lo > maxList {
			return nil, fmt.Errorf("invalid format: %s", s)
		}
		hi := lo
		if ranged {
			if hi, err = strconv.Atoi(strings.TrimSpace(last)); err != nil || hi < lo || hi > maxList {
				return nil, fmt.Errorf("invalid format: %s", s)
			}
		}
		for i := lo; i <= hi; i++ {
			set[i] = true
		}
	}
	return set, nil
}

func within(requested, available string) (bool, error) {
	want, err := list(requested)
	if err != nil {
		return false, err
	}
	have, err := list(available)
	if err != nil {
		return false, err
	}
	for n := range want {
		if !have[n] {
			return false, nil
		}
	}
	return true, nil
}

var errNullDevice = errors.New("invalid block device setting: null")

func checkNull(r *containertypes.Resources) error {
	if slices.Contains(r.BlkioWeightDevice, nil) {
		return errNullDevice
	}
	for _, list := range [][]*blkiodev.ThrottleDevice{
		r.BlkioDeviceReadBps, r.BlkioDeviceWriteBps, r.BlkioDeviceReadIOps, r.BlkioDeviceWriteIOps,
	} {
		if slices.Contains(list, nil) {
			return errNullDevice
		}
	}
	return nil
}

func checkBlkio(r *containertypes.Resources, f host.Features) (warnings []string, err error) {
	if err := checkNull(r); err != nil {
		return nil, err
	}
	if r.BlkioWeight > 0 && !f.BlkioWeight {
		warnings = append(warnings, "Your kernel does not support Block I/O weight or the cgroup is not mounted. Weight discarded.")
		r.BlkioWeight = 0
	}
	if r.BlkioWeight > 0 && (r.BlkioWeight < 10 || r.BlkioWeight > 1000) {
		return warnings, errors.New("Range of blkio weight is from 10 to 1000") //nolint:staticcheck
	}
	if r.IOMaximumBandwidth != 0 || r.IOMaximumIOps != 0 {
		return warnings, errors.New("Invalid QoS settings: linux does not support Maximum IO Bandwidth or Maximum IO IOps") //nolint:staticcheck
	}
	if len(r.BlkioWeightDevice) > 0 && !f.BlkioWeightDevice {
		warnings = append(warnings, "Your kernel does not support Block I/O weight_device or the cgroup is not mounted. Weight-device discarded.")
		r.BlkioWeightDevice = nil
	}
	if len(r.BlkioDeviceReadBps) > 0 && !f.BlkioReadBps {
		warnings = append(warnings, "Your kernel does not support BPS Block I/O read limit or the cgroup is not mounted. Block I/O BPS read limit discarded.")
		r.BlkioDeviceReadBps = nil
	}
	if len(r.BlkioDeviceWriteBps) > 0 && !f.BlkioWriteBps {
		warnings = append(warnings, "Your kernel does not support BPS Block I/O write limit or the cgroup is not mounted. Block I/O BPS write limit discarded.")
		r.BlkioDeviceWriteBps = nil
	}
	if len(r.BlkioDeviceReadIOps) > 0 && !f.BlkioReadIOps {
		warnings = append(warnings, "Your kernel does not support IOPS Block read limit or the cgroup is not mounted. Block I/O IOPS read limit discarded.")
		r.BlkioDeviceReadIOps = nil
	}
	if len(r.BlkioDeviceWriteIOps) > 0 && !f.BlkioWriteIOps {
		warnings = append(warnings, "Your kernel does not support IOPS Block write limit or the cgroup is not mounted. Block I/O IOPS write limit discarded.")
		r.BlkioDeviceWriteIOps = nil
	}
	return warnings, nil
}
