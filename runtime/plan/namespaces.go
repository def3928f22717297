package plan

import (
	"fmt"
	"maps"
	"slices"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"gantry/runtime/program"
	"gantry/runtime/validate"
)

var cloneFlag = map[specs.LinuxNamespaceType]uint64{
	specs.UserNamespace: unix.CLONE_NEWUSER, specs.PIDNamespace: unix.CLONE_NEWPID,
	specs.MountNamespace: unix.CLONE_NEWNS, specs.NetworkNamespace: unix.CLONE_NEWNET,
	specs.IPCNamespace: unix.CLONE_NEWIPC, specs.UTSNamespace: unix.CLONE_NEWUTS,
	specs.CgroupNamespace: unix.CLONE_NEWCGROUP, specs.TimeNamespace: unix.CLONE_NEWTIME,
}

// NamespaceTypes are the namespaces that a container can have, sorted.
func NamespaceTypes() []string { return words(maps.Keys(cloneFlag)) }

// CloneFlag is the CLONE_NEW* flag of a namespace type, 0 for an unknown one.
func CloneFlag(t specs.LinuxNamespaceType) uint64 { return cloneFlag[t] }

// namespaces says which the container gets new and which it joins.
type namespaces struct {
	fresh  uint64 // CLONE_NEW*
	joined map[specs.LinuxNamespaceType]string
}

func readNamespaces(l *specs.Linux) (namespaces, error) {
	ns := namespaces{joined: map[specs.LinuxNamespaceType]string{}}
	if l == nil {
		return ns, fmt.Errorf("spec has no linux section: %w", errdefs.ErrInvalidArgument)
	}
	for _, n := range l.Namespaces {
		flag := cloneFlag[n.Type]
		_, twice := ns.joined[n.Type]
		switch {
		case flag == 0:
			return ns, fmt.Errorf("unknown namespace type %q: %w", n.Type, errdefs.ErrInvalidArgument)
		case ns.fresh&flag != 0 || twice:
			return ns, fmt.Errorf("namespace %q is listed twice: %w", n.Type, errdefs.ErrInvalidArgument)
		case n.Path == "":
			ns.fresh |= flag
		default:
			ns.joined[n.Type] = n.Path
		}
	}
	if ns.fresh&unix.CLONE_NEWNS == 0 && ns.joined[specs.MountNamespace] == "" {
		return ns, fmt.Errorf("a container needs a mount namespace of its own: %w", errdefs.ErrInvalidArgument)
	}
	return ns, nil
}

// user says whether the container has a user namespace beside ours.
func (ns namespaces) user() bool {
	return ns.fresh&unix.CLONE_NEWUSER != 0 || ns.joined[specs.UserNamespace] != ""
}

func (ns namespaces) order() []specs.LinuxNamespaceType {
	return slices.Sorted(maps.Keys(ns.joined))
}

func (ns namespaces) inputs(b *builder) (regs []program.Reg) {
	for _, t := range ns.order() {
		regs = append(regs, b.Input(InNamespace(t)))
	}
	return regs
}

// enterNamespaces divides the work: what clone3 makes, what is joined, what is
// made afterwards because it must belong to a joined user namespace.
func (b *builder) enterNamespaces() {
	fresh := b.ns.fresh
	later := fresh & (unix.CLONE_NEWCGROUP | unix.CLONE_NEWTIME)
	fresh &^= later
	switch {
	case b.ns.joined[specs.UserNamespace] != "":
		b.undumpable()
		b.joinUser()
		b.makeInJoinedUser(fresh)
		b.timeNamespace()
	case fresh&unix.CLONE_NEWUSER != 0 && b.joinsFirst():
		b.joinThenMakeUser(fresh)
		return
	default:
		b.Clone.Flags = fresh
		if b.ns.joined[specs.PIDNamespace] != "" {
			b.Clone.PidNS = b.Input(InNamespace(specs.PIDNamespace))
		}
		if fresh&unix.CLONE_NEWUSER != 0 {
			b.awaitMaps()
		}
		b.timeNamespace()
		b.undumpable()
	}
	b.joinOthers()
	b.cgroupNS()
}

// joinsFirst says whether namespaces are joined that a new user namespace may have no power
// over, while the creator has.
func (b *builder) joinsFirst() bool {
	others := len(b.ns.joined)
	if b.ns.joined[specs.PIDNamespace] != "" {
		others--
	}
	return others > 0 && !b.o.Creator.Unprivileged
}

// joinThenMakeUser clones once more, for the new user namespace. A pid namespace is joined
// for that second child: one that were born in it would not know its child's pid in ours.
func (b *builder) joinThenMakeUser(fresh uint64) {
	b.undumpable()
	b.joinOthers()
	if b.ns.joined[specs.PIDNamespace] != "" {
		b.joinNamespace(specs.PIDNamespace)
	}
	b.forkInto("user", fresh)
	b.awaitMaps()
	b.timeNamespace()
	b.undumpable()
	b.cgroupNS()
}

func (b *builder) cgroupNS() {
	if b.ns.fresh&unix.CLONE_NEWCGROUP != 0 {
		b.Label("make cgroup namespace")
		b.Unshare(unix.CLONE_NEWCGROUP)
	}
}

// undumpable keeps other processes of the container, if it shares their pid
// namespace, out of the child's memory and descriptors.
func (b *builder) undumpable() {
	if b.o.Creator.Dumpable {
		return
	}
	b.Label("turn undumpable")
	b.Prctl("SET_DUMPABLE", unix.PR_SET_DUMPABLE, program.Num(0))
}

func (b *builder) awaitMaps() {
	b.Label("wait for id maps")
	b.Ask(AskMaps)
	b.becomeRoot()
}

// becomeRoot takes the ids of the user namespace's root, without which files
// could not be made.
func (b *builder) becomeRoot() {
	b.Label("become root of the user namespace")
	zero := program.Num(0)
	b.Call("setresgid", unix.SYS_SETRESGID, zero, zero, zero)
	b.Call("setresuid", unix.SYS_SETRESUID, zero, zero, zero)
	b.Call("setgroups", unix.SYS_SETGROUPS, zero, zero).Tolerate(unix.EPERM)
}

func (b *builder) joinUser() {
	b.Label("join user namespace")
	b.SetNS(b.Input(InNamespace(specs.UserNamespace)), unix.CLONE_NEWUSER)
	b.becomeRoot()
	b.undumpable() // the new ids made it dumpable again
}

// makeInJoinedUser clones once more for a pid namespace, which belongs to the
// user namespace of the one that clones.
func (b *builder) makeInJoinedUser(fresh uint64) {
	pid := fresh & unix.CLONE_NEWPID
	if b.ns.joined[specs.PIDNamespace] != "" {
		b.joinNamespace(specs.PIDNamespace)
	}
	if pid != 0 || b.ns.joined[specs.PIDNamespace] != "" {
		b.forkInto("pid", pid)
	}
	b.Label("make namespaces")
	if rest := fresh &^ unix.CLONE_NEWPID; rest != 0 {
		b.Unshare(rest)
	}
}

// forkInto goes on in a child in new namespaces, and in the pid namespace that has just been
// joined. It leads a session of its own.
func (b *builder) forkInto(kind string, fresh uint64) {
	b.Label("clone into %s namespace", kind)
	b.ForkOn(fresh)
	b.Ask(TellChild)
	b.session()
}

// joinOthers joins what is no matter of the clone: the mount namespace last, with which
// the host's paths are out of reach.
func (b *builder) joinOthers() {
	for _, t := range b.ns.order() {
		if t != specs.UserNamespace && t != specs.PIDNamespace && t != specs.MountNamespace {
			b.joinNamespace(t)
		}
	}
	if b.ns.joined[specs.MountNamespace] != "" {
		b.joinNamespace(specs.MountNamespace)
	}
}

func (b *builder) joinNamespace(t specs.LinuxNamespaceType) {
	b.Label("join %s namespace %s", t, b.ns.joined[t])
	b.SetNS(b.Input(InNamespace(t)), cloneFlag[t])
}

// sysctls go through the host's procfs, which shows each task its own namespaces.
func (b *builder) sysctls() error {
	for _, k := range slices.Sorted(maps.Keys(b.spec.Linux.Sysctl)) {
		path, err := validate.SysctlPath(k)
		if err != nil {
			return err
		}
		b.Label("set sysctl %s", k)
		f := b.openInProc("file", "sys/"+path)
		b.Write(f, b.spec.Linux.Sysctl[k])
		b.Close(f)
	}
	return nil
}

func (b *builder) hostname() {
	if h := b.spec.Hostname; h != "" {
		b.Label("set host name %q", h)
		b.Call("sethostname", unix.SYS_SETHOSTNAME, program.Str(h), program.Num(len(h)))
	}
	if d := b.spec.Domainname; d != "" {
		b.Label("set domain name %q", d)
		b.Call("setdomainname", unix.SYS_SETDOMAINNAME, program.Str(d), program.Num(len(d)))
	}
}

// PathOf is the path of the namespace of that type that the container joins, "" if it joins
// none.
func PathOf(spec *specs.Spec, t specs.LinuxNamespaceType) string {
	for _, n := range spec.Linux.Namespaces {
		if n.Type == t {
			return n.Path
		}
	}
	return ""
}

// HasNew says whether the container gets a new namespace of that type.
func HasNew(spec *specs.Spec, t specs.LinuxNamespaceType) bool {
	for _, n := range spec.Linux.Namespaces {
		if n.Type == t {
			return n.Path == ""
		}
	}
	return false
}

// HasUserNS says whether the container has a user namespace beside ours.
func HasUserNS(spec *specs.Spec) bool { return HasNamespace(spec, specs.UserNamespace) }

// HasNamespace says whether the container has a namespace of this type beside ours.
func HasNamespace(spec *specs.Spec, t specs.LinuxNamespaceType) bool {
	return slices.ContainsFunc(spec.Linux.Namespaces, func(n specs.LinuxNamespace) bool { return n.Type == t })
}
