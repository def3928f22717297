// Package cgroup puts a container's processes into control groups and holds them
// to their limits, on cgroup v1, hybrid and v2 hosts.
//
// # Which hosts
//
// Where the hierarchies are mounted, and what each controls, is read from
// /proc/self/mountinfo and /proc/self/cgroup; no place is assumed.
//
//	v1      one directory per mounted hierarchy, name=systemd and the like included
//	hybrid  the same, and one in the unified hierarchy, which has no controllers
//	v2      one directory; its controllers are enabled in every parent on the way
//
// # Paths
//
// An absolute path starts at each hierarchy's mount point, a relative one at the
// cgroup this process is in, on v2 at the one above that, which can hand
// controllers on. Paths are cleaned first, so none leaves its mount.
// Manager.Paths is keyed by controller ("cpu", "memory"), by "name=systemd" for
// a named hierarchy and by "" for the unified one; controllers mounted together
// share a value. Load takes the same map, so that a state file can keep it.
//
// # From resources to files
//
// planV1 and planV2 are pure: they turn a specs.LinuxResources into a list of
// (controller, file, value), in the order the kernel wants. The managers carry
// the list out. A limit whose controller is not mounted is an error that names
// the controller; a controller without a limit may be absent.
//
// # Units
//
// Bytes, microseconds and counts, as in the files themselves; -1 is no limit.
// CPU shares (2..262144, 1024 the default) become cpu.weight (1..10000, 100 the
// default) by the curve that maps both defaults on each other. A v1 swap limit
// is memory and swap together; v2 counts swap alone, so the memory limit is
// taken off.
//
// # Concurrency
//
// A Manager may be used from several goroutines; it holds no lock and keeps no
// state beside its paths, the kernel orders the writes.
package cgroup
