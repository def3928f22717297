package container

import (
	"context"
	"fmt"
	"os"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"gantry/runtime/idmap"
	"gantry/runtime/plan"
	"gantry/runtime/program"
)

// openMounts opens what a user namespace's root could not reach, and the user
// namespaces of idmapped mounts.
func (k *creation) openMounts() error {
	userns := plan.HandsRoot(k.Spec, creator(nil))
	for i, m := range k.Spec.Mounts {
		if userns && plan.IsBind(m) {
			fd, err := unix.OpenTree(unix.AT_FDCWD, m.Source, plan.TreeFlags(m)|unix.OPEN_TREE_CLOEXEC)
			if err != nil {
				return fmt.Errorf("open source of mount %s: %s: %w", m.Destination, m.Source, err)
			}
			k.files.add(plan.InSource(i), os.NewFile(uintptr(fd), m.Source))
		}
		if len(m.UIDMappings) > 0 {
			f, err := userNamespace(m.UIDMappings, m.GIDMappings)
			if err != nil {
				return fmt.Errorf("id maps of mount %s: %w", m.Destination, err)
			}
			k.files.add(plan.InMap(i), f)
		}
	}
	if !userns {
		return nil
	}
	root, err := k.detachedRoot()
	if err != nil {
		return err
	}
	k.files.add(plan.InRoot, root)
	return nil
}

// userNamespace makes one with the given maps, held by the file alone.
func userNamespace(uids, gids []specs.LinuxIDMapping) (*os.File, error) {
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
	if _, err := proc.Next(context.Background()); err != nil {
		return nil, err
	}
	if err := idmap.Write(proc.Pid, idmap.Maps{UIDs: uids, GIDs: gids}); err != nil {
		return nil, err
	}
	return os.Open(fmt.Sprintf("/proc/%d/ns/user", proc.Pid))
}

// detachedRoot has a child mount the root and hand it over.
func (k *creation) detachedRoot() (*os.File, error) {
	p, err := plan.DetachedRoot(plan.Options{RootPath: k.Spec.Root.Path, Rootfs: k.Rootfs, Host: hostOptions(k.Spec.Root.Path)})
	if err != nil {
		return nil, err
	}
	proc, err := program.Start(p, nil)
	if err != nil {
		return nil, err
	}
	defer proc.Abort()
	ev, err := proc.Next(context.Background())
	if err != nil {
		return nil, err
	}
	if ev.File == nil {
		return nil, fmt.Errorf("root filesystem was not handed over")
	}
	return ev.File, nil
}
