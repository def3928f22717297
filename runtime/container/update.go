package container

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/opencontainers/runtime-spec/specs-go"

	"gantry/runtime/cgroup"
)

// Update changes the container's resource limits; what is nil stays. The limits
// in force are kept in the record, for whoever loads the container.
func (c *Container) Update(ctx context.Context, r *specs.LinuxResources) error {
	unlock, err := c.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	switch c.status() {
	case specs.StateStopped, specs.StateCreating:
		return errNotRunning
	}
	m, err := c.cgroup()
	if err != nil {
		return err
	}
	rec, err := loadRecord(c.root, c.id)
	if err != nil {
		return err
	}
	kept := rec.Spec.Linux.Resources
	if m.Kind() == cgroup.V2 {
		r = withSwap(r, kept)
	}
	if err := m.Update(r); err != nil {
		return err
	}
	if rec.Spec.Linux.Resources, err = mergeResources(kept, r); err != nil {
		return fmt.Errorf("keep resources: %w", err)
	}
	return rec.save(c.dir())
}

// withSwap completes limits of memory and of memory and swap together by what is
// kept: cgroup v2 limits swap alone, which is their difference.
func withSwap(r, kept *specs.LinuxResources) *specs.LinuxResources {
	if r.Memory == nil || kept == nil || kept.Memory == nil {
		return r
	}
	m := *r.Memory
	switch {
	case m.Limit == nil && m.Swap != nil && *m.Swap > 0:
		m.Limit = kept.Memory.Limit
	case m.Swap == nil && m.Limit != nil && *m.Limit > 0:
		m.Swap = kept.Memory.Swap
	}
	full := *r
	full.Memory = &m
	return &full
}

// mergeResources gives the limits that an update leaves: those of kept where it
// says nothing. Neither is changed.
func mergeResources(kept, update *specs.LinuxResources) (*specs.LinuxResources, error) {
	all := &specs.LinuxResources{}
	for _, r := range []*specs.LinuxResources{kept, update} {
		if r == nil {
			continue
		}
		b, err := json.Marshal(r)
		if err != nil {
			return nil, err
		}
		lists := takeLists(all)
		if err := json.Unmarshal(b, all); err != nil { // into what is there: absent fields stay
			return nil, err
		}
		lists.putBack(all)
	}
	return all, nil
}

// lists are resources that are told apart by a key; an update names some of them.
type lists struct {
	devices  []specs.LinuxDeviceCgroup
	huge     []specs.LinuxHugepageLimit
	weights  []specs.LinuxWeightDevice
	throttle [4][]specs.LinuxThrottleDevice
}

func throttles(b *specs.LinuxBlockIO) [4]*[]specs.LinuxThrottleDevice {
	return [4]*[]specs.LinuxThrottleDevice{
		&b.ThrottleReadBpsDevice, &b.ThrottleWriteBpsDevice, &b.ThrottleReadIOPSDevice, &b.ThrottleWriteIOPSDevice,
	}
}

func takeLists(r *specs.LinuxResources) (l lists) {
	l.devices, l.huge, r.Devices, r.HugepageLimits = r.Devices, r.HugepageLimits, nil, nil
	if b := r.BlockIO; b != nil {
		l.weights, b.WeightDevice = b.WeightDevice, nil
		for i, list := range throttles(b) {
			l.throttle[i], *list = *list, nil
		}
	}
	return l
}

// putBack puts what was taken before what r has of the same lists, which counts
// where both name a device or a size. Rules for devices are an order: r's replace.
func (l lists) putBack(r *specs.LinuxResources) {
	if r.Devices == nil {
		r.Devices = l.devices
	}
	r.HugepageLimits = upsert(l.huge, r.HugepageLimits, func(h specs.LinuxHugepageLimit) string { return h.Pagesize })
	if b := r.BlockIO; b != nil {
		b.WeightDevice = upsert(l.weights, b.WeightDevice, func(d specs.LinuxWeightDevice) [2]int64 { return [2]int64{d.Major, d.Minor} })
		for i, list := range throttles(b) {
			*list = upsert(l.throttle[i], *list, func(d specs.LinuxThrottleDevice) [2]int64 { return [2]int64{d.Major, d.Minor} })
		}
	}
}

// upsert gives old with the entries of newer in place of those of the same key, or
// behind all.
func upsert[T any, K comparable](old, newer []T, key func(T) K) []T {
	at := map[K]int{}
	for i, e := range old {
		at[key(e)] = i
	}
	all := append([]T(nil), old...)
	for _, e := range newer {
		if i, ok := at[key(e)]; ok {
			all[i] = e
		} else {
			at[key(e)] = len(all)
			all = append(all, e)
		}
	}
	return all
}
