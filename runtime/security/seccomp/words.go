package seccomp

import (
	"maps"
	"slices"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// actions are the filter's return values; errnoActions have an errno beside them.
var actions = map[specs.LinuxSeccompAction]uint32{
	specs.ActKill: unix.SECCOMP_RET_KILL_THREAD, specs.ActKillThread: unix.SECCOMP_RET_KILL_THREAD,
	specs.ActKillProcess: unix.SECCOMP_RET_KILL_PROCESS, specs.ActTrap: unix.SECCOMP_RET_TRAP,
	specs.ActErrno: unix.SECCOMP_RET_ERRNO, specs.ActTrace: unix.SECCOMP_RET_TRACE,
	specs.ActAllow: unix.SECCOMP_RET_ALLOW, specs.ActLog: unix.SECCOMP_RET_LOG, specs.ActNotify: unix.SECCOMP_RET_USER_NOTIF,
}

func hasErrno(a specs.LinuxSeccompAction) bool { return a == specs.ActErrno || a == specs.ActTrace }

var operators = []specs.LinuxSeccompOperator{
	specs.OpEqualTo, specs.OpGreaterEqual, specs.OpGreaterThan, specs.OpLessEqual, specs.OpLessThan,
	specs.OpMaskedEqual, specs.OpNotEqual,
}

// flagTSync has no name in the specification's package. The process that loads the filter
// has one thread, so it asks for nothing.
const flagTSync specs.LinuxSeccompFlag = "SECCOMP_FILTER_FLAG_TSYNC"

var filterFlags = map[specs.LinuxSeccompFlag]uint{
	specs.LinuxSeccompFlagLog: unix.SECCOMP_FILTER_FLAG_LOG, specs.LinuxSeccompFlagSpecAllow: unix.SECCOMP_FILTER_FLAG_SPEC_ALLOW,
	specs.LinuxSeccompFlagWaitKillableRecv: unix.SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV, flagTSync: unix.SECCOMP_FILTER_FLAG_TSYNC,
}

// Actions, Operators, Architectures and Flags are the words that Compile knows, sorted.
func Actions() []string { return sorted(maps.Keys(actions)) }

// Operators: see Actions.
func Operators() []string { return sorted(slices.Values(operators)) }

// Architectures: see Actions.
func Architectures() []string { return sorted(maps.Keys(abis)) }

// Flags: see Actions.
func Flags() []string { return sorted(maps.Keys(filterFlags)) }

// SupportedFlags are those of Flags that this kernel has.
func SupportedFlags() []string {
	list := []string{}
	for _, name := range Flags() {
		if kernelHas(filterFlags[specs.LinuxSeccompFlag(name)]) {
			list = append(list, name)
		}
	}
	return list
}

// kernelHas asks with a filter that can't be read, which the kernel looks for after the
// flags.
func kernelHas(flag uint) bool {
	if flag == unix.SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV {
		flag |= unix.SECCOMP_FILTER_FLAG_NEW_LISTENER // never alone
	}
	_, _, e := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, uintptr(flag), 0)
	return e == unix.EFAULT
}

func sorted[T ~string](words func(func(T) bool)) []string {
	var list []string
	for w := range words {
		list = append(list, string(w))
	}
	slices.Sort(list)
	return list
}
