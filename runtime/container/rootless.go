package container

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/moby/sys/userns"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"gantry/runtime/cgroup"
	"gantry/runtime/idmap"
	"gantry/runtime/plan"
	"gantry/runtime/program"
	"gantry/runtime/security/caps"
)

// creator is what this process may not do.
func creator() plan.Creator {
	c := plan.Creator{InUserNS: userns.RunningInUserNS()}
	c.Unprivileged = !caps.Have(unix.CAP_SYS_ADMIN) || c.InUserNS && !mayMount()
	return c
}

// creatorOf is creator for the init of a new container. Nobody but who creates it
// shares new user and pid namespaces with it before its start, so that it needs
// no protection there.
func creatorOf(s *specs.Spec) plan.Creator {
	c := creator()
	c.Dumpable = c.Unprivileged && plan.HasNew(s, specs.UserNamespace) && plan.HasNew(s, specs.PIDNamespace)
	return c
}

// mayMount asks the kernel: who is root of a user namespace may still be in the
// mount namespace of somebody else, as with "unshare -U".
func mayMount() bool {
	fd, err := unix.OpenTree(unix.AT_FDCWD, "/", unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err == nil {
		unix.Close(fd)
	}
	return err != unix.EPERM
}

// checkRootless refuses what nobody without privileges can have, in words that
// say more than the kernel's.
func checkRootless(s *specs.Spec) error {
	if caps.Have(unix.CAP_SYS_ADMIN) {
		return nil
	}
	if !plan.HasUserNS(s) {
		return fmt.Errorf("rootless container requires user namespaces: %w", errdefs.ErrInvalidArgument)
	}
	if plan.PathOf(s, specs.UserNamespace) != "" {
		return nil // its ids are not the spec's
	}
	l := s.Linux
	if len(l.UIDMappings) == 0 || len(l.GIDMappings) == 0 {
		return fmt.Errorf("rootless container requires at least one UID and one GID mapping: %w", errdefs.ErrInvalidArgument)
	}
	return checkOwners(s.Mounts, l)
}

// checkOwners refuses owners of mounts that are not mapped: the kernel says no
// more than that they are invalid.
func checkOwners(mounts []specs.Mount, l *specs.Linux) error {
	for _, m := range mounts {
		for _, o := range m.Options {
			for option, ids := range map[string][]specs.LinuxIDMapping{"uid=": l.UIDMappings, "gid=": l.GIDMappings} {
				text, is := strings.CutPrefix(o, option)
				id, err := strconv.ParseUint(text, 10, 32)
				if is && err == nil && !idmap.Has(ids, uint32(id)) {
					return fmt.Errorf("mount %s: cannot specify %s for an id that is not mapped: %w", m.Destination, o, errdefs.ErrInvalidArgument)
				}
			}
		}
	}
	return nil
}

// checkUser refuses a user that the container's own maps lack, in runc's words.
func checkUser(s *specs.Spec, p *specs.Process) error {
	if !plan.HasNew(s, specs.UserNamespace) {
		return nil
	}
	l, u := s.Linux, p.User
	switch {
	case len(u.AdditionalGids) > 0 && idmap.DeniesGroups(l.GIDMappings):
		return errNoGroups
	case !idmap.Has(l.UIDMappings, u.UID):
		return fmt.Errorf("cannot set uid to unmapped user in user namespace: %d: %w", u.UID, errdefs.ErrInvalidArgument)
	case !idmap.Has(l.GIDMappings, u.GID):
		return fmt.Errorf("cannot set gid to unmapped user in user namespace: %d: %w", u.GID, errdefs.ErrInvalidArgument)
	}
	for _, g := range u.AdditionalGids {
		if !idmap.Has(l.GIDMappings, g) {
			return fmt.Errorf("cannot set additional group to unmapped group in user namespace: %d: %w", g, errdefs.ErrInvalidArgument)
		}
	}
	return nil
}

// errNoGroups has runc's words: one's own group alone is mapped only by denying
// setgroups.
var errNoGroups = fmt.Errorf("cannot set any additional groups in a rootless container: %w", errdefs.ErrInvalidArgument)

// start clones the init. A user's own cgroup can be one that his processes can't
// be moved to, when the cgroup above both is not his: then it stays where we are.
func (k *creation) start(ctx context.Context, p *program.Program) (*program.Process, error) {
	proc, err := program.Start(p, k.files.byName)
	if !k.Rootless || !errors.Is(err, unix.EACCES) || k.cg.Absent() {
		return proc, err
	}
	if k.cg.Approach(ctx) == nil {
		if proc, err = program.Start(p, k.files.byName); !errors.Is(err, unix.EACCES) {
			return proc, err
		}
	}
	k.Warn(fmt.Sprintf("no process can be moved to cgroup %s, which is left out with its limits: the cgroup above it and us belongs to somebody else", unifiedDir(k.cg)))
	if err := k.cg.Delete(ctx); err != nil {
		return nil, err
	}
	k.setCgroup(cgroup.Absent())
	k.warnUnbound()
	if p, err = k.compile(ctx); err != nil {
		return nil, err
	}
	return program.Start(p, k.files.byName)
}

// setCgroup notes where the container is, for those who load it.
func (k *creation) setCgroup(m *cgroup.Manager) {
	k.cg, k.c.cg, k.c.rec.Cgroups, k.c.rec.Scope = m, m, m.Paths(), m.Unit()
}

func (k *creation) warnUnbound() {
	if k.cg.Absent() && !plan.HasNew(k.Spec, specs.PIDNamespace) {
		k.Warn("without a cgroup and a pid namespace of the container's own not all its processes can be found to be killed")
	}
}

// explain adds to what the kernel says of a mount that it refuses in user
// namespaces.
func explain(err error, s *specs.Spec, c plan.Creator) error {
	failed, ok := errors.AsType[*program.Error](err)
	if !ok || failed.Errno != unix.EPERM || !(c.InUserNS || plan.HasUserNS(s)) {
		return err
	}
	for _, m := range s.Mounts {
		if failed.Label != plan.MountLabel(m) {
			continue
		}
		switch m.Type {
		case "proc":
			return fmt.Errorf("%w (in a user namespace that takes a pid namespace of the container's own, and our own /proc without anything mounted over parts of it)", err)
		case "sysfs":
			return fmt.Errorf("%w (in a user namespace that takes a network namespace of the container's own; /sys can be bound instead)", err)
		case "mqueue":
			return fmt.Errorf("%w (in a user namespace that takes an ipc namespace of the container's own)", err)
		}
	}
	return err
}

// pidsOf finds the processes of a container that has no cgroup: those in its pid
// namespace, if nobody else is in it.
func (c *Container) pidsOf() ([]int, error) {
	if !c.ownsPIDs() {
		return nil, fmt.Errorf("find processes: the container has neither a cgroup nor a pid namespace of its own: %w", errdefs.ErrUnavailable)
	}
	ns, err := pidNamespace(strconv.Itoa(c.Pid()))
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	all, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	var pids []int
	for _, e := range all {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		if at, err := pidNamespace(e.Name()); err != nil || at != ns {
			continue
		}
		if _, alive := startTime(pid); alive { // a cgroup lists no zombies either
			pids = append(pids, pid)
		}
	}
	return pids, nil
}

func pidNamespace(proc string) (string, error) {
	return os.Readlink(filepath.Join("/proc", proc, "ns/pid"))
}

// signalAll is Kill of all processes without a cgroup. The end of a pid
// namespace's first process is that of all.
func (c *Container) signalAll(ctx context.Context, sig unix.Signal) error {
	if sig == unix.SIGKILL {
		return c.signalInit(ctx, sig)
	}
	n, err := cgroup.SignalAll(c.pidsOf, sig)
	if err == nil && n == 0 {
		return errNotRunning
	}
	return err
}
