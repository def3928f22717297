package plan

import (
	"fmt"
	"path"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"gantry/runtime/program"
	"gantry/runtime/rootfs"
)

// mountInputs are what the parent opens for us: with a user namespace the root
// and the sources of binds, which its root may be unable to reach; and the user
// namespaces of idmapped mounts.
func (b *builder) mountInputs() (regs []program.Reg) {
	if b.handed() {
		regs = append(regs, b.Input(InRoot))
	} else {
		regs = rootInputs(b.Program, b.o)
	}
	for i, m := range b.spec.Mounts {
		if b.handed() && IsBind(m) {
			regs = append(regs, b.Input(InSource(i)))
		}
		if IsMapped(m) && !b.handed() {
			regs = append(regs, b.Input(InMap(i)))
		}
	}
	return regs
}

// IsBind says whether a mount of the spec shows a host path.
func IsBind(m specs.Mount) bool {
	f := rootfs.ParseOptions(m.Options)
	return (m.Type == "bind" || f.Bind) && !f.Remount
}

func (b *builder) mounts() error {
	b.propagation()
	if err := b.openSources(); err != nil {
		return err
	}
	if err := b.attachRoot(); err != nil {
		return err
	}
	for _, m := range b.o.Rootfs[min(1, len(b.o.Rootfs)):] {
		sm := specs.Mount{Destination: "/" + m.Target, Type: m.Type, Source: m.Source, Options: m.Options}
		if err := b.mount(-1, sm); err != nil {
			return err
		}
	}
	for i, m := range b.spec.Mounts {
		if err := b.mount(i, m); err != nil {
			return err
		}
	}
	b.makeCwd()
	if b.ownsDev() {
		if err := b.devices(); err != nil {
			return err
		}
	}
	if b.o.Hooks {
		b.Label("run hooks")
		b.Ask(AskHooks)
	}
	if b.proc.Terminal {
		b.console("/dev/pts/ptmx", true)
	}
	b.maskedPaths()
	b.readonlyPaths()
	for _, l := range b.late {
		b.Label("%s", l.label)
		b.SetAttr(l.mount, program.Attr{Set: unix.MOUNT_ATTR_RDONLY}, false)
	}
	return nil
}

var rootPropagation = map[string]uint64{
	"shared": unix.MS_SHARED, "rshared": unix.MS_SHARED | unix.MS_REC,
	"slave": unix.MS_SLAVE, "rslave": unix.MS_SLAVE | unix.MS_REC,
	"private": unix.MS_PRIVATE, "rprivate": unix.MS_PRIVATE | unix.MS_REC,
	"unbindable": unix.MS_UNBINDABLE, "runbindable": unix.MS_UNBINDABLE | unix.MS_REC,
}

// propagation keeps our mounts away from the host's. With a shared root the
// copies stay the host's peers, so that shared binds can be made of them.
func (b *builder) propagation() {
	p := rootPropagation[b.spec.Linux.RootfsPropagation]
	if p == 0 {
		p = unix.MS_SLAVE | unix.MS_REC
	}
	if p&unix.MS_SHARED != 0 {
		return
	}
	b.Label("set propagation of mounts")
	if p&unix.MS_UNBINDABLE != 0 {
		p = unix.MS_PRIVATE | unix.MS_REC // binds are still to be made
	}
	b.SetAttrPath(program.Cwd, "/", program.Attr{Propagation: p &^ unix.MS_REC}, true)
}

// openSources clones the trees of all binds while the host's are in reach and
// before "/" turns private.
func (b *builder) openSources() error {
	for i, m := range b.spec.Mounts {
		if !IsBind(m) {
			continue
		}
		b.Label("open source of mount %s: %s", m.Destination, m.Source)
		if b.handed() {
			b.sources[i] = b.Input(InSource(i))
			if !IsMapped(m) {
				b.sources[i] = b.lockedTree(path.Base(m.Destination), m.Source, TreeFlags(m), b.sources[i])
			}
			continue
		}
		r, _ := b.OpenTree(path.Base(m.Destination), program.Cwd, m.Source, TreeFlags(m))
		b.sources[i] = r
	}
	return nil
}

// lockedTree clones a tree of the host's as a new user namespace has it: in its copy of the
// mount namespace the kernel has locked what the host's mounts forbid, while what the parent
// hands over could be remounted by a container with CAP_SYS_ADMIN. Where the user
// namespace's root can't reach the tree, the parent's has to do; so it has where a path
// means something else to each process.
func (b *builder) lockedTree(name, source string, how uint, handed program.Reg) program.Reg {
	if b.ns.fresh&unix.CLONE_NEWNS == 0 || strings.HasPrefix(source, "/proc/") {
		return handed
	}
	r := b.Reg(name)
	o := b.OpenTreeTo(r, program.Cwd, source, how).Tolerate(unix.EACCES, unix.EINVAL)
	b.IfFailed(o, func() {
		b.CallTo(r, "fcntl", unix.SYS_FCNTL, program.From(handed), program.Named(unix.F_DUPFD_CLOEXEC, "DUPFD_CLOEXEC"), program.Num(0))
	})
	return r
}

// TreeFlags are the open_tree flags for a bind's source.
func TreeFlags(m specs.Mount) uint {
	how := uint(unix.OPEN_TREE_CLONE)
	if rootfs.ParseOptions(m.Options).Rec {
		how |= unix.AT_RECURSIVE
	}
	return how
}

// MapFlags are the mount_setattr flags for an idmapped bind's source.
func MapFlags(m specs.Mount) uint {
	if rootfs.ParseOptions(m.Options).RecIDMap {
		return unix.AT_EMPTY_PATH | unix.AT_RECURSIVE
	}
	return unix.AT_EMPTY_PATH
}

// attachRoot puts the root's mount on top of "/", from where pivot_root takes
// it. Hooks expect it at its own path: one that joins our mount namespace has
// for its root what lies on top of "/".
func (b *builder) attachRoot() error {
	attached := false
	if b.handed() {
		b.root = b.Input(InRoot)
		if len(b.o.Rootfs) == 0 {
			b.Label("bind root filesystem %s", b.o.RootPath)
			b.root = b.lockedTree("rootfs", b.o.RootPath, unix.OPEN_TREE_CLONE|unix.AT_RECURSIVE, b.root)
		}
	} else {
		var err error
		if b.root, attached, err = rootMount(b.Program, b.o); err != nil {
			return err
		}
	}
	b.Label("attach root filesystem")
	if rootPropagation[b.spec.Linux.RootfsPropagation]&unix.MS_SHARED != 0 {
		b.SetAttrPath(program.Cwd, "/", program.Attr{Propagation: unix.MS_PRIVATE}, true)
	}
	place := "/"
	if b.o.Hooks && b.o.Host.MountPoint != "" {
		place = b.o.Host.MountPoint
	}
	if !attached {
		b.AttachPath(b.root, program.Cwd, place)
	}
	return nil
}

// mount adds one mount of the spec; i is its index, -1 for one of the root's.
func (b *builder) mount(i int, m specs.Mount) error {
	f := rootfs.ParseOptions(m.Options)
	if !f.Remount {
		b.cover(m.Destination)
	}
	switch {
	case f.Remount:
		return b.remount(m, f)
	case IsMapped(m) && b.ns.user() && !b.handed():
		return fmt.Errorf("mount %s: id-mapped mounts are not supported for rootless containers: %w", m.Destination, errdefs.ErrInvalidArgument)
	case m.Type == "cgroup" || m.Type == "cgroup2" && b.o.Cgroups.Unified:
		return b.mountCgroup(m, f)
	case m.Type == "bind" || f.Bind:
		b.mountBind(i, m, f)
		return nil
	case m.Type == "":
		return fmt.Errorf("mount %s has no type: %w", m.Destination, errdefs.ErrInvalidArgument)
	}
	return b.mountNew(m, f)
}

// mountBind shows a host path. With a user namespace the parent has set the id maps: they
// need capabilities over the filesystem.
func (b *builder) mountBind(i int, m specs.Mount, f rootfs.Flags) {
	b.Label("bind %s on %s", m.Source, m.Destination)
	src, ok := b.sources[i]
	if !ok {
		src, _ = b.OpenTree("source", program.Cwd, m.Source, TreeFlags(m))
	}
	if IsMapped(m) && !b.handed() {
		b.SetAttr(src, program.Attr{Set: unix.MOUNT_ATTR_IDMAP, UserNS: b.Input(InMap(i))}, f.RecIDMap)
	}
	b.setBindAttr(src, f)
	f.Attr = program.Attr{}
	b.attach(src, m.Destination, f)
}

// setBindAttr sets the attributes of a mount that is not new; see rootfs.Flags.BindAttr.
func (b *builder) setBindAttr(r program.Reg, f rootfs.Flags) {
	if f.Attr.Zero() {
		return
	}
	o := b.SetAttr(r, f.BindAttr(), false).Tolerate(unix.EPERM)
	b.IfFailed(o, func() { b.SetAttr(r, f.Attr, false) })
}

// attach sets what the options ask for and moves the mount to its place.
func (b *builder) attach(src program.Reg, dest string, f rootfs.Flags) {
	if !f.Attr.Zero() {
		b.SetAttr(src, f.Attr, false)
	}
	if !f.Recursive.Zero() {
		b.SetAttr(src, f.Recursive, true)
	}
	to, _ := b.MakePath("to", b.root, dest, src)
	b.Attach(src, to)
	b.Close(to)
	rootfs.Propagate(b.Program, src, f)
	b.Close(src)
}

// remount changes what lies on the destination: with bind the mount alone, else its
// filesystem too.
func (b *builder) remount(m specs.Mount, f rootfs.Flags) error {
	b.Label("remount %s", m.Destination)
	to, _ := b.OpenIn("to", b.root, m.Destination, unix.O_PATH)
	if !f.Bind {
		fs, _ := b.FSPick("fs", to)
		if err := rootfs.Configure(b.Program, fs, "", f); err != nil {
			return fmt.Errorf("remount %s: %w", m.Destination, err)
		}
		b.FSReconfigure(fs)
		b.Close(fs)
	}
	b.setBindAttr(to, f)
	if !f.Recursive.Zero() {
		b.SetAttr(to, f.Recursive, true)
	}
	rootfs.Propagate(b.Program, to, f)
	b.Close(to)
	return nil
}

// mountNew mounts a new filesystem. A read-only tmpfs, and what is /dev, turns so at the
// end, for other mounts and devices may go into it.
func (b *builder) mountNew(m specs.Mount, f rootfs.Flags) error {
	b.Label("%s", MountLabel(m))
	late := f.ReadOnly() && (m.Type == "tmpfs" || path.Clean(m.Destination) == "/dev")
	if late {
		f.Attr.Set &^= unix.MOUNT_ATTR_RDONLY
	}
	f.Data = append(f.Data, b.label(m)...)
	r, err := b.newMount(m, f)
	if err != nil {
		return fmt.Errorf("mount %s: %w", m.Destination, err)
	}
	if m.Type == "tmpfs" {
		b.likeBeneath(r, m, f)
	}
	to, _ := b.MakePath("to", b.root, m.Destination, 0)
	if isProc(m) {
		b.Close(to)
		to, _ = b.OpenPlain("to", b.root, m.Destination, unix.O_PATH|unix.O_DIRECTORY)
	}
	b.Attach(r, to)
	b.Close(to)
	if !f.Recursive.Zero() {
		b.SetAttr(r, f.Recursive, true)
	}
	rootfs.Propagate(b.Program, r, f)
	if late {
		b.late = append(b.late, lateReadonly{r, fmt.Sprintf("make %s read-only", m.Destination)})
		return nil
	}
	if isProc(m) {
		b.shown = append(b.shown, shownMount{path.Join("/", m.Destination), r})
		return nil
	}
	b.Close(r)
	return nil
}

// newMount makes the detached mount of a new filesystem. The sysfs of a network namespace
// that is not the user namespace's own can't be mounted: then the host's is shown.
func (b *builder) newMount(m specs.Mount, f rootfs.Flags) (program.Reg, error) {
	source := m.Source
	if source == "" {
		source = m.Type
	}
	if m.Type != "sysfs" || !b.ns.user() && !b.o.Creator.InUserNS || b.ns.fresh&unix.CLONE_NEWNET != 0 {
		return rootfs.New(b.Program, m.Type, m.Type, source, f)
	}
	r := b.Reg(m.Type)
	fs, o := b.FSOpen("fs", m.Type)
	o.Tolerate(unix.EPERM)
	var err error
	b.IfElse(o, func() { err = rootfs.NewIn(b.Program, r, fs, source, f) }, func() {
		b.OpenTreeTo(r, program.Cwd, "/sys", unix.OPEN_TREE_CLONE|unix.AT_RECURSIVE)
		if !f.Attr.Zero() {
			b.SetAttr(r, f.Attr, false)
		}
	})
	return r, err
}

// isProc says whether a mount is of a filesystem whose paths will be masked and
// made read-only by name: a symbolic link in the image, which somebody else may
// change meanwhile, must not decide where it lies.
func isProc(m specs.Mount) bool { return m.Type == "proc" || m.Type == "sysfs" }

// label is the SELinux option for a filesystem that is born here; those of the kernel's own
// objects have their labels by policy.
func (b *builder) label(m specs.Mount) []string {
	if b.o.Process.MountLabel == "" || isProc(m) || m.Type == "mqueue" || m.Type == "cgroup2" {
		return nil
	}
	return []string{b.ownLabel()}
}

// ownLabel is the option that labels a filesystem; quotes are for mount(2), whose options
// are one string.
func (b *builder) ownLabel() string { return strings.ReplaceAll(b.o.Process.MountLabel, `"`, "") }

// makeCwd makes the working directory, as runc does.
func (b *builder) makeCwd() {
	if cwd := b.proc.Cwd; path.Clean(cwd) != "/" {
		b.Label("make working directory %s", cwd)
		r, _ := b.MakePath("cwd", b.root, cwd, 0)
		b.Close(r)
	}
}

// pivot makes the root's mount the root, and lets go of the host's.
func (b *builder) pivot() {
	b.Label("make the root filesystem the root")
	b.Call("fchdir", unix.SYS_FCHDIR, program.From(b.root))
	if b.o.NoPivot {
		b.Call("chroot", unix.SYS_CHROOT, program.Str("."))
	} else {
		old, _ := b.Open("old", program.Cwd, "/", unix.O_PATH|unix.O_DIRECTORY)
		b.Call("pivot_root", unix.SYS_PIVOT_ROOT, program.Str("."), program.Str("."))
		b.SetAttr(old, program.Attr{Propagation: unix.MS_SLAVE}, true)
		b.Call("fchdir", unix.SYS_FCHDIR, program.From(old))
		b.Call("umount2", unix.SYS_UMOUNT2, program.Str("."), program.Named(unix.MNT_DETACH, "DETACH"))
		b.Close(old)
	}
	b.Call("chdir", unix.SYS_CHDIR, program.Str("/"))
	if p := rootPropagation[b.spec.Linux.RootfsPropagation]; p&(unix.MS_SHARED|unix.MS_UNBINDABLE) != 0 {
		b.Label("set propagation of the root filesystem")
		b.SetAttr(b.root, program.Attr{Propagation: p &^ unix.MS_REC}, p&unix.MS_REC != 0)
	}
	if b.spec.Root != nil && b.spec.Root.Readonly {
		b.Label("make the root filesystem read-only")
		b.SetAttr(b.root, program.Attr{Set: unix.MOUNT_ATTR_RDONLY}, false)
	}
}

// IsMapped says whether a mount of the spec changes the owners of files.
func IsMapped(m specs.Mount) bool {
	return len(m.UIDMappings) > 0 || rootfs.ParseOptions(m.Options).IDMap
}
