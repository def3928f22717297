package program

import (
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// String lists the program, one op a line under the label it serves:
//
//	clone NEWNS|NEWPID
//	mount proc on /proc
//	   7  fs = fsopen("proc", CLOEXEC)
//	   8  fsconfig(fs, CREATE)
//	  12  unlinkat(root, "x")  ? ENOENT: +2
//
// "? ENOENT" are tolerated errnos; "+2" says how many ops are left out then,
// "ok: +1" how many are left out on success.
func (p *Program) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "clone %s", cloneFlags(p.Clone.Flags))
	if p.Clone.PidNS != 0 {
		fmt.Fprintf(&b, " pidns=%s", p.regs[p.Clone.PidNS])
	}
	if p.Clone.Cgroup != 0 {
		fmt.Fprintf(&b, " cgroup=%s", p.regs[p.Clone.Cgroup])
	}
	if p.Clone.CPUs != nil {
		fmt.Fprintf(&b, " cpus=%d", p.Clone.CPUs.Count())
	}
	b.WriteByte('\n')
	label := ""
	for i, o := range p.ops {
		if o.label != label {
			label = o.label
			fmt.Fprintf(&b, "%s\n", label)
		}
		fmt.Fprintf(&b, "%4d  %s\n", i, p.opText(o))
	}
	return b.String()
}

func (p *Program) opText(o *Op) string {
	var b strings.Builder
	if o.out != noReg {
		b.WriteString(p.regs[o.out] + " = ")
	}
	b.WriteString(o.name + "(")
	for i, a := range o.args {
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(p.argText(a))
	}
	b.WriteString(")")
	if len(o.tolerate) > 0 {
		b.WriteString("  ?")
		for _, e := range o.tolerate {
			b.WriteString(" " + unix.ErrnoName(e))
		}
	}
	if o.note {
		b.WriteString(" noted")
	}
	if o.skipErr > 0 {
		fmt.Fprintf(&b, ": +%d", o.skipErr)
	}
	if o.skipOK > 0 {
		fmt.Fprintf(&b, "  ok: +%d", o.skipOK)
	}
	return b.String()
}

func (p *Program) argText(a Arg) string {
	if a.is == argReg {
		return p.regs[a.reg]
	}
	return a.text
}

func quote(s string) string {
	if len(s) > 120 {
		s = s[:120] + "…"
	}
	return strconv.Quote(s)
}

type flagName struct {
	bit  uint64
	name string
}

// flagText names the bits of v; bits without a name are one number at the end.
func flagText(v uint64, table []flagName) string {
	var parts []string
	for _, f := range table {
		if f.bit != 0 && v&f.bit == f.bit {
			parts = append(parts, f.name)
			v &^= f.bit
		}
	}
	if v != 0 || len(parts) == 0 {
		parts = append(parts, fmt.Sprintf("%#x", v))
	}
	return strings.Join(parts, "|")
}

var cloneTable = []flagName{
	{unix.CLONE_NEWUSER, "NEWUSER"}, {unix.CLONE_NEWPID, "NEWPID"}, {unix.CLONE_NEWNS, "NEWNS"},
	{unix.CLONE_NEWNET, "NEWNET"}, {unix.CLONE_NEWIPC, "NEWIPC"}, {unix.CLONE_NEWUTS, "NEWUTS"},
	{unix.CLONE_NEWCGROUP, "NEWCGROUP"}, {unix.CLONE_NEWTIME, "NEWTIME"}, {unix.CLONE_PARENT, "PARENT"}, {unix.CLONE_FILES, "FILES"},
}

func cloneFlags(v uint64) string {
	if v == 0 {
		return "none"
	}
	return flagText(v, cloneTable)
}

var openTable = []flagName{
	{unix.O_RDWR, "RDWR"}, {unix.O_WRONLY, "WRONLY"}, {unix.O_PATH, "PATH"}, {unix.O_DIRECTORY, "DIRECTORY"},
	{unix.O_NOFOLLOW, "NOFOLLOW"}, {unix.O_CREAT, "CREAT"}, {unix.O_EXCL, "EXCL"}, {unix.O_TRUNC, "TRUNC"},
	{unix.O_NOCTTY, "NOCTTY"}, {unix.O_NONBLOCK, "NONBLOCK"}, {unix.O_CLOEXEC, "CLOEXEC"},
}

var resolveTable = []flagName{
	{unix.RESOLVE_IN_ROOT, "IN_ROOT"}, {unix.RESOLVE_NO_MAGICLINKS, "NO_MAGICLINKS"},
	{unix.RESOLVE_NO_SYMLINKS, "NO_SYMLINKS"}, {unix.RESOLVE_BENEATH, "BENEATH"}, {unix.RESOLVE_NO_XDEV, "NO_XDEV"},
}

var attrTable = []flagName{
	{unix.MOUNT_ATTR_RDONLY, "rdonly"}, {unix.MOUNT_ATTR_NOSUID, "nosuid"}, {unix.MOUNT_ATTR_NODEV, "nodev"},
	{unix.MOUNT_ATTR_NOEXEC, "noexec"}, {unix.MOUNT_ATTR_NODIRATIME, "nodiratime"},
	{unix.MOUNT_ATTR_NOSYMFOLLOW, "nosymfollow"}, {unix.MOUNT_ATTR_IDMAP, "idmap"},
	{unix.MOUNT_ATTR__ATIME, "atimemask"}, {unix.MOUNT_ATTR_NOATIME, "noatime"}, {unix.MOUNT_ATTR_STRICTATIME, "strictatime"},
}

var atTable = []flagName{
	{unix.OPEN_TREE_CLONE, "CLONE"}, {unix.AT_RECURSIVE, "RECURSIVE"}, {unix.AT_EMPTY_PATH, "EMPTY_PATH"},
	{unix.AT_SYMLINK_NOFOLLOW, "SYMLINK_NOFOLLOW"}, {unix.OPEN_TREE_CLOEXEC, "CLOEXEC"},
}

var propagationTable = []flagName{
	{unix.MS_PRIVATE, "private"}, {unix.MS_SLAVE, "slave"}, {unix.MS_SHARED, "shared"}, {unix.MS_UNBINDABLE, "unbindable"},
	{unix.MS_REC, "rec"},
}

var mountTable = []flagName{
	{unix.MS_RDONLY, "rdonly"}, {unix.MS_NOSUID, "nosuid"}, {unix.MS_NODEV, "nodev"}, {unix.MS_NOEXEC, "noexec"},
	{unix.MS_NOATIME, "noatime"}, {unix.MS_NODIRATIME, "nodiratime"}, {unix.MS_RELATIME, "relatime"},
	{unix.MS_STRICTATIME, "strictatime"}, {unix.MS_SYNCHRONOUS, "sync"}, {unix.MS_DIRSYNC, "dirsync"},
	{unix.MS_BIND, "bind"}, {unix.MS_MOVE, "move"}, {unix.MS_REMOUNT, "remount"}, {unix.MS_REC, "rec"},
	{unix.MS_PRIVATE, "private"}, {unix.MS_SLAVE, "slave"}, {unix.MS_SHARED, "shared"},
}
