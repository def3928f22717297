package container

import (
	"context"
	"fmt"
	"os"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"gantry/runtime/plan"
	"gantry/runtime/program"
)

// writeMaps gives the user namespace of pid its ids.
func writeMaps(pid int, uids, gids []specs.LinuxIDMapping) error {
	if os.Geteuid() != 0 { // an unprivileged map of groups needs this
		if err := os.WriteFile(fmt.Sprintf("/proc/%d/setgroups", pid), []byte("deny"), 0); err != nil {
			return fmt.Errorf("deny setgroups: %w", err)
		}
	}
	for _, m := range []struct {
		file string
		list []specs.LinuxIDMapping
	}{{"uid_map", uids}, {"gid_map", gids}} {
		if err := os.WriteFile(fmt.Sprintf("/proc/%d/%s", pid, m.file), []byte(mapText(m.list)), 0); err != nil {
			return fmt.Errorf("write %s: %w", m.file, err)
		}
	}
	return nil
}

func mapText(list []specs.LinuxIDMapping) string {
	var b strings.Builder
	for _, m := range list {
		fmt.Fprintf(&b, "%d %d %d\n", m.ContainerID, m.HostID, m.Size)
	}
	return b.String()
}

// openMounts opens what a user namespace's root could not reach, and the user
// namespaces of idmapped mounts.
func (k *creation) openMounts() error {
	userns := plan.HasUserNS(k.Spec)
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
	if err := writeMaps(proc.Pid, uids, gids); err != nil {
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
