package spec

import (
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"gantry/daemon/host"
)

// DefaultMasked and DefaultReadonly are what HostConfig's path lists become when nil.
func DefaultMasked(h host.Features) []string {
	return append([]string{
		"/proc/asound", "/proc/acpi", "/proc/interrupts", "/proc/kcore", "/proc/keys",
		"/proc/latency_stats", "/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug",
		"/proc/scsi", "/sys/firmware", "/sys/devices/virtual/powercap",
	}, h.ExtraMasked...)
}

// DefaultReadonly: see DefaultMasked.
func DefaultReadonly() []string {
	return []string{"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"}
}

// setPaths: explicit lists win even when privileged, as in dockerd, since Adapt leaves
// them nil for privileged containers.
func setPaths(s *specs.Spec, in Input) {
	h := in.HostConfig
	if !h.Privileged {
		s.Linux.MaskedPaths, s.Linux.ReadonlyPaths = DefaultMasked(in.Host), DefaultReadonly()
	}
	if h.MaskedPaths != nil {
		s.Linux.MaskedPaths = h.MaskedPaths
	}
	if h.ReadonlyPaths != nil {
		s.Linux.ReadonlyPaths = h.ReadonlyPaths
	}
}
