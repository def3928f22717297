package container

import (
	"fmt"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/runtime-spec/specs-go"

	"gantry/runtime/intelrdt"
	"gantry/runtime/plan"
)

// rdt makes the resctrl group that the spec asks for and opens the way into it.
func (k *creation) rdt() (groups int, err error) {
	r := k.Spec.Linux.IntelRdt
	if r == nil {
		return 0, nil
	}
	tree, err := intelrdt.Find()
	if err != nil {
		return 0, err
	}
	if k.c.rec.Resctrl, err = tree.Create(k.ID, r); err != nil {
		return 0, err
	}
	k.undo = append(k.undo, k.c.rec.Resctrl.Undo)
	return k.files.groups(k.c.rec.Resctrl)
}

// groups opens the tasks files of a resctrl group; nil has none.
func (f *files) groups(g *intelrdt.Group) (n int, err error) {
	if g == nil {
		return 0, nil
	}
	list, err := g.Tasks()
	for i, file := range list {
		f.add(plan.InGroup(i), file)
	}
	return len(list), err
}

// UpdateRdt replaces the schemata of the container's resctrl group; what is empty stays.
// The class for a container without a group is errdefs.ErrFailedPrecondition.
func (c *Container) UpdateRdt(l3CacheSchema, memBwSchema string) error {
	if c.rec.Resctrl == nil {
		return fmt.Errorf("the container has no resctrl group: %w", errdefs.ErrFailedPrecondition)
	}
	tree, err := intelrdt.Find()
	if err != nil {
		return err
	}
	return tree.Update(c.rec.Resctrl, &specs.LinuxIntelRdt{L3CacheSchema: l3CacheSchema, MemBwSchema: memBwSchema})
}
