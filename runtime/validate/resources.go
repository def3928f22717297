package validate

import (
	"maps"
	"slices"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
)

func (c *checker) resources(f string, r *specs.LinuxResources) {
	if r == nil {
		return
	}
	for i, d := range r.Devices {
		f := at(f+".devices", i)
		known(c, f+".type", "type", d.Type, "", "a", "b", "c")
		if strings.Trim(d.Access, "rwm") != "" {
			c.add(f+".access", "%q is not of r, w and m", clip(d.Access))
		}
	}
	if m := r.Memory; m != nil && m.Swappiness != nil && *m.Swappiness > 100 {
		c.add(f+".memory.swappiness", "%d is more than 100", *m.Swappiness)
	}
	if p := r.CPU; p != nil {
		c.numbers(f+".cpu.cpus", p.Cpus)
		c.numbers(f+".cpu.mems", p.Mems)
		if p.Idle != nil && *p.Idle != 0 && *p.Idle != 1 {
			c.add(f+".cpu.idle", "%d is neither 0 nor 1", *p.Idle)
		}
	}
	c.blockIO(f+".blockIO", r.BlockIO)
	for i, h := range r.HugepageLimits {
		if strings.ContainsAny(h.Pagesize, "/\x00") || h.Pagesize == "" {
			c.add(at(f+".hugepageLimits", i)+".pageSize", "%q is no page size", clip(h.Pagesize))
		}
	}
	for _, key := range slices.Sorted(maps.Keys(r.Unified)) {
		if !strings.Contains(key, ".") || strings.ContainsAny(key, "/\x00") || strings.HasPrefix(key, ".") {
			c.add(f+".unified", "%q is no file of a cgroup", clip(key))
		}
	}
}

func (c *checker) blockIO(f string, b *specs.LinuxBlockIO) {
	if b == nil {
		return
	}
	weight := func(f string, w *uint16) {
		if w != nil && *w != 0 && (*w < 10 || *w > 1000) {
			c.add(f, "%d is not within 10 and 1000", *w)
		}
	}
	weight(f+".weight", b.Weight)
	weight(f+".leafWeight", b.LeafWeight)
	for i, d := range b.WeightDevice {
		weight(at(f+".weightDevice", i)+".weight", d.Weight)
		weight(at(f+".weightDevice", i)+".leafWeight", d.LeafWeight)
	}
}
