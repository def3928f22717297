package plan

import (
	"encoding/binary"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"gantry/runtime/program"
	"gantry/runtime/validate"
)

var mempolicyModes = map[specs.MemoryPolicyModeType]int{
	specs.MpolDefault: unix.MPOL_DEFAULT, specs.MpolPreferred: unix.MPOL_PREFERRED, specs.MpolBind: unix.MPOL_BIND,
	specs.MpolInterleave: unix.MPOL_INTERLEAVE, specs.MpolLocal: unix.MPOL_LOCAL,
	specs.MpolPreferredMany: unix.MPOL_PREFERRED_MANY, specs.MpolWeightedInterleave: unix.MPOL_WEIGHTED_INTERLEAVE,
}

var mempolicyFlags = map[specs.MemoryPolicyFlagType]int{
	specs.MpolFNumaBalancing: unix.MPOL_F_NUMA_BALANCING, specs.MpolFRelativeNodes: unix.MPOL_F_RELATIVE_NODES,
	specs.MpolFStaticNodes: unix.MPOL_F_STATIC_NODES,
}

// MemoryPolicies are the modes and the flags of linux.memoryPolicy, sorted.
func MemoryPolicies() (modes, flags []string) {
	return words(maps.Keys(mempolicyModes)), words(maps.Keys(mempolicyFlags))
}

// memoryPolicy says on which nodes the process's memory is to be.
func (b *builder) memoryPolicy() error {
	p := b.spec.Linux.MemoryPolicy
	if p == nil {
		return nil
	}
	mode, ok := mempolicyModes[p.Mode]
	if !ok {
		return fmt.Errorf("invalid memory policy mode %q: %w", p.Mode, errdefs.ErrInvalidArgument)
	}
	text := string(p.Mode)
	for _, f := range p.Flags {
		bit, ok := mempolicyFlags[f]
		if !ok {
			return fmt.Errorf("invalid memory policy flag %q: %w", f, errdefs.ErrInvalidArgument)
		}
		mode |= bit
		text += "|" + string(f)
	}
	nodes, err := validate.ParseNumbers(p.Nodes)
	if err != nil {
		return fmt.Errorf("invalid memory policy nodes %q: %w", p.Nodes, err)
	}
	mask, bits := program.Num(0), program.Num(0)
	if nodes != nil {
		mask = maskArg(nodes, p.Nodes)
		bits = program.Num(validate.MaxNumber + 2) // the kernel takes one bit less
	}
	b.Label("set memory policy")
	b.Call("set_mempolicy", unix.SYS_SET_MEMPOLICY, program.Named(mode, text), mask, bits)
	return nil
}

func maskArg(set *validate.Numbers, text string) program.Arg {
	var b []byte
	for _, w := range set {
		b = binary.NativeEndian.AppendUint64(b, w)
	}
	return program.Bytes(b, strings.TrimSpace(text))
}

// affinity says on which processors a process of Exec runs: one list for as long as it
// is not in the container's cgroup, which it is born with, another from then on. With
// neither it may run wherever its cgroup lets it, not only where the runtime may.
func (b *builder) affinity() error {
	if !b.isExec {
		return nil
	}
	a := b.proc.ExecCPUAffinity
	if a == nil {
		a = &specs.CPUAffinity{}
	}
	initial, err := validate.ParseNumbers(a.Initial)
	if err != nil {
		return fmt.Errorf("bad CPUAffinity.Initial: %w", err)
	}
	final, err := validate.ParseNumbers(a.Final)
	if err != nil {
		return fmt.Errorf("bad CPUAffinity.Final: %w", err)
	}
	if initial != nil {
		b.Clone.CPUs = cpuSet(initial)
	}
	const size = (validate.MaxNumber + 1) / 8
	switch {
	case final != nil:
		b.Label("set final CPU affinity")
		b.Call("sched_setaffinity", unix.SYS_SCHED_SETAFFINITY, program.Num(0), program.Num(size), maskArg(final, a.Final))
	case initial == nil:
		all := new(validate.Numbers)
		for n := range validate.MaxNumber + 1 {
			all.Add(n)
		}
		b.Label("reset CPU affinity")
		b.Call("sched_setaffinity", unix.SYS_SCHED_SETAFFINITY, program.Num(0), program.Num(size), maskArg(all, "all")).
			Tolerate(unix.EPERM, unix.EACCES, unix.EINVAL).Note()
	}
	return nil
}

func cpuSet(set *validate.Numbers) *unix.CPUSet {
	cpus := new(unix.CPUSet)
	for n := range validate.MaxNumber + 1 {
		if set.Has(n) {
			cpus.Set(n)
		}
	}
	return cpus
}

// words are a table's keys as the specification has them, sorted.
func words[K ~string](keys func(func(K) bool)) []string {
	var list []string
	for k := range keys {
		list = append(list, string(k))
	}
	slices.Sort(list)
	return list
}
