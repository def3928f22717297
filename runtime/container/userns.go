package container

import (
	"context"
	"fmt"
	"os"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"gantry/runtime/idmap"
	"gantry/runtime/plan"
	"gantry/runtime/program"
	"gantry/runtime/rootfs"
)

// openMounts opens what a user namespace's root could not reach, and the user
// namespaces of idmapped mounts.
func (k *creation) openMounts(ctx context.Context) error {
	userns := plan.HandsRoot(k.Spec, creator())
	for i, m := range k.Spec.Mounts {
		if userns && plan.IsBind(m) {
			fd, err := unix.OpenTree(unix.AT_FDCWD, m.Source, plan.TreeFlags(m)|unix.OPEN_TREE_CLOEXEC)
			if err != nil {
				return fmt.Errorf("open source of mount %s: %s: %w", m.Destination, m.Source, err)
			}
			k.files.add(plan.InSource(i), os.NewFile(uintptr(fd), m.Source))
		}
		if plan.IsMapped(m) {
			if err := k.mapMount(ctx, i, m, userns); err != nil {
				return fmt.Errorf("id maps of mount %s: %w", m.Destination, err)
			}
		}
	}
	if !userns {
		return rootIDs(ctx, k.Rootfs, &k.files)
	}
	root, err := k.detachedRoot(ctx)
	if err != nil {
		return err
	}
	k.files.add(plan.InRoot, root)
	return nil
}

// mapMount gives mount i its ids: here when the container has a user namespace, from where
// the kernel lets nobody do it, else its init does.
func (k *creation) mapMount(ctx context.Context, i int, m specs.Mount, userns bool) error {
	ns, err := k.mapOf(ctx, m)
	if err != nil {
		return err
	}
	if !userns {
		k.files.add(plan.InMap(i), ns)
		return nil
	}
	defer ns.Close()
	return unix.MountSetattr(int(k.files.byName[plan.InSource(i)].Fd()), "", plan.MapFlags(m),
		&unix.MountAttr{Attr_set: unix.MOUNT_ATTR_IDMAP, Userns_fd: uint64(ns.Fd())})
}

// mapOf is a user namespace with the ids of a mount: its own, or those of the user namespace
// that the container joins.
func (k *creation) mapOf(ctx context.Context, m specs.Mount) (*os.File, error) {
	if len(m.UIDMappings) > 0 {
		return userNamespace(ctx, m.UIDMappings, m.GIDMappings)
	}
	if path := plan.PathOf(k.Spec, specs.UserNamespace); path != "" {
		return os.Open(path)
	}
	return nil, fmt.Errorf("there are none: %w", errdefs.ErrInvalidArgument)
}

// userNamespace makes one with the given maps, held by the file alone.
func userNamespace(ctx context.Context, uids, gids []specs.LinuxIDMapping) (*os.File, error) {
	p := program.New()
	p.Clone.Flags, p.Clone.Signal = unix.CLONE_NEWUSER, 0
	p.Label("hold a user namespace")
	p.Keep(3)
	p.Ask(plan.AskMaps)
	p.Exit()
	proc, err := program.Start(p, nil)
	if err != nil {
		return nil, err
	}
	defer proc.Abort()
	if _, err := proc.Next(ctx); err != nil {
		return nil, err
	}
	if err := idmap.Write(proc.Pid, idmap.Maps{UIDs: uids, GIDs: gids}); err != nil {
		return nil, err
	}
	return os.Open(fmt.Sprintf("/proc/%d/ns/user", proc.Pid))
}

// detachedRoot has a child mount the root and hand it over.
func (k *creation) detachedRoot(ctx context.Context) (*os.File, error) {
	return DetachedRoot(ctx, k.Rootfs, k.Spec.Root.Path)
}

// DetachedRoot has a child mount the first of mounts, or bind path where there is none, as
// Create does for a container with a user namespace, and returns the mount, which is
// attached nowhere. path is a directory that the child may cover.
func DetachedRoot(ctx context.Context, mounts []Mount, path string) (*os.File, error) {
	p, err := plan.DetachedRoot(plan.Options{RootPath: path, Rootfs: mounts, Host: hostOptions(path)})
	if err != nil {
		return nil, err
	}
	var inputs files
	defer inputs.close()
	if err := rootIDs(ctx, mounts, &inputs); err != nil {
		return nil, err
	}
	proc, err := program.Start(p, inputs.byName)
	if err != nil {
		return nil, err
	}
	defer proc.Abort()
	ev, err := proc.Next(ctx)
	if err != nil {
		return nil, err
	}
	if ev.File == nil {
		return nil, fmt.Errorf("root filesystem was not handed over")
	}
	return ev.File, nil
}

// rootIDs opens the user namespace that the mount of the root needs for its id maps, if it
// has some.
func rootIDs(ctx context.Context, mounts []Mount, f *files) error {
	if len(mounts) == 0 || !rootfs.NeedsIDMap(mounts[0]) {
		return nil
	}
	uids, gids, err := rootfs.IDMaps(mounts[0])
	if err != nil {
		return err
	}
	ns, err := userNamespace(ctx, uids, gids)
	if err != nil {
		return fmt.Errorf("id maps of the root filesystem: %w", err)
	}
	f.add(rootfs.InIDMap, ns)
	return nil
}
