package plan

import (
	"fmt"
	"path"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"gantry/runtime/program"
	"gantry/runtime/rootfs"
)

// mountCgroup shows the container its own part of the cgroup file system: by a
// mount inside its cgroup namespace, or by binds of its directories.
func (b *builder) mountCgroup(m specs.Mount, f rootfs.Flags) error {
	f.Data, f.Super = nil, nil
	if b.o.Cgroups.Unified {
		b.mountUnified(m, f)
		return nil
	}
	return b.mountHierarchies(m, f)
}

func (b *builder) cgroupNamespace() bool {
	return b.ns.fresh&unix.CLONE_NEWCGROUP != 0 || b.ns.joined[specs.CgroupNamespace] != ""
}

func (b *builder) mountUnified(m specs.Mount, f rootfs.Flags) {
	b.Label("mount cgroup2 on %s", m.Destination)
	if !b.cgroupNamespace() {
		src, _ := b.OpenTree("cgroup2", program.Cwd, b.o.Cgroups.Path, unix.OPEN_TREE_CLONE)
		b.attach(src, m.Destination, f)
		return
	}
	fs, _ := b.FSOpen("fs", "cgroup2")
	src, _ := b.FSMount("cgroup2", fs, 0)
	b.attach(src, m.Destination, f)
}

// mountHierarchies makes a tmpfs with a directory per hierarchy and a link per
// controller that shares one, as runc does.
func (b *builder) mountHierarchies(m specs.Mount, f rootfs.Flags) error {
	top := specs.Mount{Destination: m.Destination, Type: "tmpfs", Source: "tmpfs",
		Options: []string{"nosuid", "noexec", "nodev", "mode=755"}}
	if f.ReadOnly() {
		top.Options = append(top.Options, "ro")
	}
	tf := rootfs.ParseOptions(top.Options)
	tf.Propagation = f.Propagation
	if err := b.mountNew(top, tf); err != nil {
		return err
	}
	for _, h := range b.o.Cgroups.Hierarchies {
		dest := path.Join(m.Destination, h.Name)
		b.Label("mount cgroup %s on %s", h.Name, dest)
		src, err := b.hierarchy(h)
		if err != nil {
			return fmt.Errorf("mount %s: %w", dest, err)
		}
		b.attach(src, dest, f)
		if len(h.Options) > 1 && h.Options[0] != "none" {
			b.linkControllers(m.Destination, h)
		}
	}
	return nil
}

func (b *builder) hierarchy(h Hierarchy) (program.Reg, error) {
	if !b.cgroupNamespace() {
		src, _ := b.OpenTree("cgroup", program.Cwd, h.Path, unix.OPEN_TREE_CLONE)
		return src, nil
	}
	return rootfs.New(b.Program, "cgroup", "cgroup", "cgroup", rootfs.Flags{Data: h.Options})
}

func (b *builder) linkControllers(dest string, h Hierarchy) {
	dir, _ := b.OpenIn("dir", b.root, dest, unix.O_PATH|unix.O_DIRECTORY)
	for _, c := range h.Options {
		if c != h.Name {
			b.Call("symlinkat", unix.SYS_SYMLINKAT, program.Str(h.Name), program.From(dir), program.Str(c)).Tolerate(unix.EEXIST)
		}
	}
	b.Close(dir)
}
