package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/docker/go-units"
	"github.com/opencontainers/runtime-spec/specs-go"
	"github.com/spf13/pflag"

	"gantry/runtime/intelrdt"
	"gantry/runtime/validate"
)

var updateCommand = command{
	name: "update", args: "<container-id>", about: "change the limits of a container; what is not given stays", min: 1, max: 1,
	text: "The file has the resources as config.json has them under linux.resources:\n\n" +
		"{\"memory\": {\"limit\": 67108864}, \"cpu\": {\"shares\": 512}, \"pids\": {\"limit\": 100}}\n\n" +
		"Its rules for devices are passed over: a container keeps those it was created with.",
	prepare: func(f *pflag.FlagSet) func(context.Context, *request, []string) error {
		file := f.StringP("resources", "r", "", "file with the resources as JSON, - for standard input; all other flags are then ignored")
		for _, l := range limits {
			f.String(l.flag, "", l.about)
			f.Lookup(l.flag).Hidden = l.hidden
		}
		return func(ctx context.Context, r *request, args []string) error {
			return update(ctx, r, f, args[0], *file)
		}
	},
}

func update(ctx context.Context, r *request, f *pflag.FlagSet, id, file string) error {
	c, err := r.load(id)
	if err != nil {
		return err
	}
	res := &specs.LinuxResources{}
	if file != "" {
		err = readJSON(file, r.stdin, res)
	} else {
		err = applyLimits(f, res)
	}
	if err != nil {
		return err
	}
	if m := res.Memory; m != nil && (m.Kernel != nil || m.KernelTCP != nil) { //nolint:staticcheck // still sent
		r.log.warn("Kernel memory settings are ignored and will be removed")
		m.Kernel, m.KernelTCP = nil, nil //nolint:staticcheck // still sent
	}
	res.Devices = nil // others may have added to those in force
	if err := validate.Resources(res); err != nil {
		return err
	}
	if err := c.Update(ctx, res); err != nil {
		return err
	}
	l3, bandwidth := f.Lookup("l3-cache-schema").Value.String(), f.Lookup("mem-bw-schema").Value.String()
	if file != "" || l3 == "" && bandwidth == "" {
		return nil
	}
	return c.UpdateRdt(l3, bandwidth)
}

// limit is a flag of update and where its value goes.
type limit struct {
	flag, about string
	put         func(r *specs.LinuxResources, value string) error
	hidden      bool
}

var limits = []limit{
	{flag: "blkio-weight", about: "weight of block I/O, 10 to 1000", put: number(func(r *specs.LinuxResources, v uint16) { blockIO(r).Weight = &v })},
	{flag: "cpu-period", about: "length of a period, in microseconds", put: number(func(r *specs.LinuxResources, v uint64) { cpu(r).Period = &v })},
	{flag: "cpu-quota", about: "CPU time in a period, in microseconds; -1 is no limit", put: number(func(r *specs.LinuxResources, v int64) { cpu(r).Quota = &v })},
	{flag: "cpu-burst", about: "unused CPU time that may be kept, in microseconds", put: number(func(r *specs.LinuxResources, v uint64) { cpu(r).Burst = &v })},
	{flag: "cpu-share", about: "relative weight", put: number(func(r *specs.LinuxResources, v uint64) { cpu(r).Shares = &v })},
	{flag: "cpu-rt-period", about: "length of a realtime period, in microseconds", put: number(func(r *specs.LinuxResources, v uint64) { cpu(r).RealtimePeriod = &v })},
	{flag: "cpu-rt-runtime", about: "realtime CPU time in a period, in microseconds", put: number(func(r *specs.LinuxResources, v int64) { cpu(r).RealtimeRuntime = &v })},
	{flag: "cpuset-cpus", about: "processors to use, as 0-3,7", put: text(func(r *specs.LinuxResources, v string) { cpu(r).Cpus = v })},
	{flag: "cpuset-mems", about: "memory nodes to use", put: text(func(r *specs.LinuxResources, v string) { cpu(r).Mems = v })},
	{flag: "cpu-idle", about: "1: only idle CPU time", put: number(func(r *specs.LinuxResources, v int64) { cpu(r).Idle = &v })},
	{flag: "memory", about: "memory limit, as 64m; -1 is no limit", put: size(func(r *specs.LinuxResources, v int64) { memory(r).Limit = &v })},
	{flag: "memory-reservation", about: "memory that reclaim leaves alone, as 64m", put: size(func(r *specs.LinuxResources, v int64) { memory(r).Reservation = &v })},
	{flag: "memory-swap", about: "limit of memory and swap together, as 64m; -1 is no limit", put: size(func(r *specs.LinuxResources, v int64) { memory(r).Swap = &v })},
	{flag: "pids-limit", about: "number of processes; -1 is no limit", put: number(func(r *specs.LinuxResources, v int64) {
		r.Pids = &specs.LinuxPids{Limit: &v}
	})},
	{flag: "kernel-memory", hidden: true, put: size(func(r *specs.LinuxResources, v int64) { memory(r).Kernel = &v })}, //nolint:staticcheck // still accepted
	{flag: "kernel-memory-tcp", hidden: true, put: size(func(r *specs.LinuxResources, v int64) { memory(r).KernelTCP = &v })},
	{flag: "l3-cache-schema", about: "schema of Intel RDT's L3 cache", put: rdt("CAT: l3 cache schema")},
	{flag: "mem-bw-schema", about: "schema of Intel RDT's memory bandwidth", put: rdt("MBA: memory bandwidth schema")},
}

func applyLimits(f *pflag.FlagSet, r *specs.LinuxResources) error {
	for _, l := range limits {
		value := f.Lookup(l.flag).Value.String()
		if value == "" {
			continue
		}
		err := l.put(r, value)
		if errors.Is(err, errNoRDT) {
			return err
		}
		if err != nil {
			return fmt.Errorf("invalid value for %s: %w", l.flag, err)
		}
	}
	return nil
}

var errNoRDT = errors.New("Intel RDT") //nolint:staticcheck // a name

// rdt is no limit of a cgroup: see update. Without the filesystem it has runc's words.
func rdt(what string) func(*specs.LinuxResources, string) error {
	return func(*specs.LinuxResources, string) error {
		if _, err := intelrdt.Find(); err != nil {
			return fmt.Errorf("%w/%s is not enabled", errNoRDT, what)
		}
		return nil
	}
}

func text(put func(*specs.LinuxResources, string)) func(*specs.LinuxResources, string) error {
	return func(r *specs.LinuxResources, v string) error { put(r, v); return nil }
}

// number reads a number that fits its field.
func number[T int64 | uint64 | uint16](put func(*specs.LinuxResources, T)) func(*specs.LinuxResources, string) error {
	return func(r *specs.LinuxResources, v string) (err error) {
		var n T
		switch p := any(&n).(type) {
		case *int64:
			*p, err = strconv.ParseInt(v, 10, 64)
		case *uint64:
			*p, err = strconv.ParseUint(v, 10, 64)
		case *uint16:
			var wide uint64
			wide, err = strconv.ParseUint(v, 10, 16)
			*p = uint16(wide)
		}
		if err == nil {
			put(r, n)
		}
		return err
	}
}

// size reads bytes with a unit, or -1.
func size(put func(*specs.LinuxResources, int64)) func(*specs.LinuxResources, string) error {
	return func(r *specs.LinuxResources, v string) error {
		n := int64(-1)
		if v != "-1" {
			var err error
			if n, err = units.RAMInBytes(v); err != nil {
				return err
			}
		}
		put(r, n)
		return nil
	}
}

func cpu(r *specs.LinuxResources) *specs.LinuxCPU { return allocated(&r.CPU) }

func memory(r *specs.LinuxResources) *specs.LinuxMemory { return allocated(&r.Memory) }

func blockIO(r *specs.LinuxResources) *specs.LinuxBlockIO { return allocated(&r.BlockIO) }

func allocated[T any](p **T) *T {
	if *p == nil {
		*p = new(T)
	}
	return *p
}
