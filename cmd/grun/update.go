package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/docker/go-units"
	"github.com/opencontainers/runtime-spec/specs-go"
	"github.com/spf13/pflag"

	"gantry/runtime/validate"
)

var updateCommand = command{
	name: "update", args: "<container-id>", about: "change the limits of a container; what is not given stays", min: 1, max: 1,
	prepare: func(f *pflag.FlagSet) func(context.Context, *request, []string) error {
		file := f.StringP("resources", "r", "", "file with the resources as JSON, - for standard input; all other flags are then ignored")
		for _, l := range limits {
			f.String(l.flag, "", l.about)
		}
		return func(_ context.Context, r *request, args []string) error {
			res := &specs.LinuxResources{}
			var err error
			if *file != "" {
				err = readJSON(*file, r.stdin, res)
			} else {
				err = applyLimits(f, res)
			}
			if err == nil {
				err = validate.Resources(res)
			}
			if err != nil {
				return err
			}
			c, err := r.load(args[0])
			if err != nil {
				return err
			}
			return c.Update(res)
		}
	},
}

// limit is a flag of update and where its value goes.
type limit struct {
	flag, about string
	put         func(r *specs.LinuxResources, value string) error
}

var limits = []limit{
	{"blkio-weight", "weight of block I/O, 10 to 1000", number(func(r *specs.LinuxResources, v uint16) { blockIO(r).Weight = &v })},
	{"cpu-period", "length of a period, in microseconds", number(func(r *specs.LinuxResources, v uint64) { cpu(r).Period = &v })},
	{"cpu-quota", "CPU time in a period, in microseconds; -1 is no limit", number(func(r *specs.LinuxResources, v int64) { cpu(r).Quota = &v })},
	{"cpu-burst", "unused CPU time that may be kept, in microseconds", number(func(r *specs.LinuxResources, v uint64) { cpu(r).Burst = &v })},
	{"cpu-share", "relative weight", number(func(r *specs.LinuxResources, v uint64) { cpu(r).Shares = &v })},
	{"cpu-rt-period", "length of a realtime period, in microseconds", number(func(r *specs.LinuxResources, v uint64) { cpu(r).RealtimePeriod = &v })},
	{"cpu-rt-runtime", "realtime CPU time in a period, in microseconds", number(func(r *specs.LinuxResources, v int64) { cpu(r).RealtimeRuntime = &v })},
	{"cpuset-cpus", "processors to use, as 0-3,7", text(func(r *specs.LinuxResources, v string) { cpu(r).Cpus = v })},
	{"cpuset-mems", "memory nodes to use", text(func(r *specs.LinuxResources, v string) { cpu(r).Mems = v })},
	{"cpu-idle", "1: only idle CPU time", number(func(r *specs.LinuxResources, v int64) { cpu(r).Idle = &v })},
	{"memory", "memory limit, as 64m; -1 is no limit", size(func(r *specs.LinuxResources, v int64) { memory(r).Limit = &v })},
	{"memory-reservation", "memory that reclaim leaves alone, as 64m", size(func(r *specs.LinuxResources, v int64) { memory(r).Reservation = &v })},
	{"memory-swap", "limit of memory and swap together, as 64m; -1 is no limit", size(func(r *specs.LinuxResources, v int64) { memory(r).Swap = &v })},
	{"pids-limit", "number of processes; -1 is no limit", number(func(r *specs.LinuxResources, v int64) {
		r.Pids = &specs.LinuxPids{Limit: &v}
	})},
	{"l3-cache-schema", "not implemented", unsupported},
	{"mem-bw-schema", "not implemented", unsupported},
}

func applyLimits(f *pflag.FlagSet, r *specs.LinuxResources) error {
	for _, l := range limits {
		if !f.Changed(l.flag) {
			continue
		}
		if err := l.put(r, f.Lookup(l.flag).Value.String()); err != nil {
			return fmt.Errorf("--%s: %w", l.flag, err)
		}
	}
	return nil
}

func unsupported(*specs.LinuxResources, string) error { return errors.New("not implemented") }

func text(put func(*specs.LinuxResources, string)) func(*specs.LinuxResources, string) error {
	return func(r *specs.LinuxResources, v string) error { put(r, v); return nil }
}

// number reads a number that fits its field.
func number[T int64 | uint64 | uint16](put func(*specs.LinuxResources, T)) func(*specs.LinuxResources, string) error {
	return func(r *specs.LinuxResources, v string) error {
		n, err := strconv.ParseInt(v, 10, 64)
		if err != nil || int64(T(n)) != n || n < 0 && T(n) > 0 {
			return fmt.Errorf("%q is not a number that fits", v)
		}
		put(r, T(n))
		return nil
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
