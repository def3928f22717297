package program

import (
	"encoding/binary"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"
)

// Cwd is AT_FDCWD as the directory of a call.
var Cwd = Named(cwd, "cwd")

const cwd = ^uint64(99) // AT_FDCWD, -100

func flags(v uint64, table []flagName) Arg {
	if v == 0 {
		return Num(0)
	}
	return Named(v, flagText(v, table))
}

// Open opens path in dir as openat(2).
func (p *Program) Open(name string, dir Arg, path string, how int) (Reg, *Op) {
	r := p.Reg(name)
	return r, p.OpenTo(r, dir, path, how)
}

// OpenTo is Open into a register that is there.
func (p *Program) OpenTo(r Reg, dir Arg, path string, how int) *Op {
	return p.CallTo(r, "openat", unix.SYS_OPENAT, dir, Str(path), flags(uint64(how|unix.O_CLOEXEC), openTable), Num(0))
}

// OpenIn opens path in root as if root were "/": symbolic links stay inside and
// magic links are refused.
func (p *Program) OpenIn(name string, root Reg, path string, how int) (Reg, *Op) {
	r := p.Reg(name)
	return r, p.CallTo(r, "openat2", unix.SYS_OPENAT2, From(root), Str(relative(path)),
		openHow(how|unix.O_CLOEXEC, unix.RESOLVE_IN_ROOT|unix.RESOLVE_NO_MAGICLINKS), Num(24))
}

// OpenPlain is OpenIn for a path that has no symbolic link in it: one is ELOOP.
func (p *Program) OpenPlain(name string, root Reg, path string, how int) (Reg, *Op) {
	r := p.Reg(name)
	return r, p.CallTo(r, "openat2", unix.SYS_OPENAT2, From(root), Str(relative(path)),
		openHow(how|unix.O_CLOEXEC, unix.RESOLVE_IN_ROOT|unix.RESOLVE_NO_SYMLINKS|unix.RESOLVE_NO_MAGICLINKS), Num(24))
}

func openHow(how int, resolve uint64) Arg {
	b := binary.NativeEndian.AppendUint64(nil, uint64(how))
	b = binary.NativeEndian.AppendUint64(b, 0)
	b = binary.NativeEndian.AppendUint64(b, resolve)
	return Bytes(b, "{"+flagText(uint64(how), openTable)+" "+flagText(resolve, resolveTable)+"}")
}

func relative(path string) string {
	if path = strings.Trim(path, "/"); path == "" {
		return "."
	}
	return path
}

// MakePath opens path in root as OpenIn with O_PATH and makes what is missing:
// directories of mode 0755, at the end a directory or an empty file of mode
// 0644, whichever like is; like 0 is a directory. A dangling symbolic link is
// followed and its target made, as runc does.
func (p *Program) MakePath(name string, root Reg, path string, like Reg) (Reg, *Op) {
	r := p.Reg(name)
	arg := Named(int64(-1), "dir")
	if like != 0 {
		arg = From(like)
	}
	return r, p.CallTo(r, "makepath", opMakePath, From(root), Str(relative(path)), arg)
}

// MakeFile is MakePath for an empty file.
func (p *Program) MakeFile(name string, root Reg, path string) (Reg, *Op) {
	r := p.Reg(name)
	return r, p.CallTo(r, "makepath", opMakePath, From(root), Str(relative(path)), Named(int64(-2), "file"))
}

// Close closes the descriptor in r.
func (p *Program) Close(r Reg) *Op { return p.Call("close", unix.SYS_CLOSE, From(r)) }

// OpenTree is open_tree(2); an empty path with AT_EMPTY_PATH is dir itself.
func (p *Program) OpenTree(name string, dir Arg, path string, how uint) (Reg, *Op) {
	r := p.Reg(name)
	return r, p.OpenTreeTo(r, dir, path, how)
}

// OpenTreeTo is OpenTree into a register that is there.
func (p *Program) OpenTreeTo(r Reg, dir Arg, path string, how uint) *Op {
	return p.CallTo(r, "open_tree", unix.SYS_OPEN_TREE, dir, Str(path), flags(uint64(how|unix.OPEN_TREE_CLOEXEC), atTable))
}

// Attach moves the detached mount in from onto the place in to.
func (p *Program) Attach(from, to Reg) *Op {
	return p.Call("move_mount", unix.SYS_MOVE_MOUNT, From(from), Str(""), From(to), Str(""),
		Named(uint64(moveEmptyPaths), "EMPTY_PATHS"))
}

const moveEmptyPaths = unix.MOVE_MOUNT_F_EMPTY_PATH | 0x40 // MOVE_MOUNT_T_EMPTY_PATH

// AttachPath moves the detached mount in from onto path in dir.
func (p *Program) AttachPath(from Reg, dir Arg, path string) *Op {
	return p.Call("move_mount", unix.SYS_MOVE_MOUNT, From(from), Str(""), dir, Str(path),
		Named(uint64(unix.MOVE_MOUNT_F_EMPTY_PATH), "F_EMPTY_PATH"))
}

// Attr is what mount_setattr changes.
type Attr struct {
	Set, Clear  uint64 // MOUNT_ATTR_*
	Propagation uint64 // one of MS_PRIVATE, MS_SLAVE, MS_SHARED, MS_UNBINDABLE, or 0
	UserNS      Reg    // for MOUNT_ATTR_IDMAP
}

// Zero says whether a changes nothing.
func (a Attr) Zero() bool { return a == Attr{} }

// SetAttr changes the mount in r, with recursive all mounts below it too.
func (p *Program) SetAttr(r Reg, a Attr, recursive bool) *Op {
	return p.SetAttrPath(From(r), "", a, recursive)
}

// SetAttrPath changes the mount at path in dir.
func (p *Program) SetAttrPath(dir Arg, path string, a Attr, recursive bool) *Op {
	how := uint64(0)
	if path == "" {
		how |= unix.AT_EMPTY_PATH
	}
	if recursive {
		how |= unix.AT_RECURSIVE
	}
	arg := a.arg()
	if a.UserNS != 0 {
		p.Call("store", opStore, arg, Num(24), From(a.UserNS))
	}
	return p.Call("mount_setattr", unix.SYS_MOUNT_SETATTR, dir, Str(path), flags(how, atTable), arg, Num(unix.MOUNT_ATTR_SIZE_VER0))
}

func (a Attr) arg() Arg {
	var b []byte
	var text []string
	for _, v := range []uint64{a.Set, a.Clear, a.Propagation, 0} {
		b = binary.NativeEndian.AppendUint64(b, v)
	}
	if a.Set != 0 {
		text = append(text, "set="+flagText(a.Set, attrTable))
	}
	if a.Clear != 0 {
		text = append(text, "clear="+flagText(a.Clear, attrTable))
	}
	if a.Propagation != 0 {
		text = append(text, flagText(a.Propagation, propagationTable))
	}
	return Bytes(b, "{"+strings.Join(text, " ")+"}")
}

// FSOpen starts the configuration of a new mount of a filesystem type.
func (p *Program) FSOpen(name, fstype string) (Reg, *Op) {
	r := p.Reg(name)
	return r, p.CallTo(r, "fsopen", unix.SYS_FSOPEN, Str(fstype), Named(unix.FSOPEN_CLOEXEC, "CLOEXEC"))
}

// FSString sets a key of the configuration; the kernel takes 255 bytes of value.
func (p *Program) FSString(fs Reg, key, value string) *Op {
	return p.Call("fsconfig", unix.SYS_FSCONFIG, From(fs), Named(unix.FSCONFIG_SET_STRING, "STRING"), Str(key), Str(value), Num(0))
}

// FSFlag sets a flag of the configuration.
func (p *Program) FSFlag(fs Reg, key string) *Op {
	return p.Call("fsconfig", unix.SYS_FSCONFIG, From(fs), Named(unix.FSCONFIG_SET_FLAG, "FLAG"), Str(key), Num(0), Num(0))
}

// FSMount creates the filesystem and a detached mount of it, and closes fs.
func (p *Program) FSMount(name string, fs Reg, attr uint64) (Reg, *Op) {
	r := p.Reg(name)
	return r, p.FSMountTo(r, fs, attr)
}

// FSMountTo is FSMount into a register that is there.
func (p *Program) FSMountTo(r, fs Reg, attr uint64) *Op {
	p.Call("fsconfig", unix.SYS_FSCONFIG, From(fs), Named(unix.FSCONFIG_CMD_CREATE, "CREATE"), Num(0), Num(0), Num(0))
	o := p.CallTo(r, "fsmount", unix.SYS_FSMOUNT, From(fs), Named(unix.FSMOUNT_CLOEXEC, "CLOEXEC"), flags(attr, attrTable))
	p.Close(fs)
	return o
}

// FSPick starts the change of the filesystem mounted at r.
func (p *Program) FSPick(name string, r Reg) (Reg, *Op) {
	fs := p.Reg(name)
	return fs, p.CallTo(fs, "fspick", unix.SYS_FSPICK, From(r), Str(""), Named(unix.FSPICK_EMPTY_PATH|unix.FSPICK_CLOEXEC, "EMPTY_PATH|CLOEXEC"))
}

// FSReconfigure changes a filesystem as configured.
func (p *Program) FSReconfigure(fs Reg) *Op {
	return p.Call("fsconfig", unix.SYS_FSCONFIG, From(fs), Named(unix.FSCONFIG_CMD_RECONFIGURE, "RECONFIGURE"), Num(0), Num(0), Num(0))
}

// Statx leaves what the file in r is in 256 bytes, for Load and Check.
func (p *Program) Statx(r Reg) Arg {
	st := Buffer("", statxSize, "stat")
	p.Call("statx", unix.SYS_STATX, From(r), Str(""), Named(unix.AT_EMPTY_PATH, "EMPTY_PATH"), Named(unix.STATX_BASIC_STATS, "BASIC"), st)
	return st
}

// Places in struct statx, and its size.
const (
	StatxUID   = 20
	StatxGID   = 24
	StatxMode  = 28
	StatxMajor = 128
	StatxMinor = 132
	statxSize  = 256
)

// Load reads the 32 bits at a place of data that an op has written, as far as mask goes.
func (p *Program) Load(name string, data Arg, place int, mask uint32) Reg {
	r := p.Reg(name)
	p.CallTo(r, "load", opLoad, data, Num(place), Named(mask, fmt.Sprintf("%#o", mask)))
	return r
}

// Check fails with err unless the 32 bits at a place of data are want, as far as mask goes.
func (p *Program) Check(data Arg, place int, mask, want uint32, err unix.Errno) *Op {
	return p.Call("check", opCheck, data, Num(place), Named(mask, fmt.Sprintf("%#o", mask)), Named(want, fmt.Sprintf("%#o", want)), Named(uint64(err), unix.ErrnoName(err)))
}

// Mount is mount(2).
func (p *Program) Mount(source, target, fstype string, how uintptr, options string) *Op {
	return p.Call("mount", unix.SYS_MOUNT, Str(source), Str(target), Str(fstype), flags(uint64(how), mountTable), Str(options))
}

// WriteFile opens path in dir, writes b with one write and closes it. The op
// that it returns is the open; with tolerated errors the rest is left out.
func (p *Program) WriteFile(dir Arg, path string, b string, tolerate ...unix.Errno) *Op {
	f, o := p.Open("file", dir, path, unix.O_WRONLY)
	if len(tolerate) > 0 {
		o.Tolerate(tolerate...)
	}
	p.IfOK(o, func() {
		p.Write(f, b).Tolerate(tolerate...)
		p.Close(f)
	})
	return o
}

// Write writes b to r at once.
func (p *Program) Write(r Reg, b string) *Op {
	return p.Call("write", unix.SYS_WRITE, From(r), Bytes([]byte(b), quote(b)), Num(len(b)))
}

// SetNS joins the namespaces of r: a namespace file or a pidfd.
func (p *Program) SetNS(r Reg, kinds uint64) *Op {
	return p.Call("setns", unix.SYS_SETNS, From(r), Named(kinds, cloneFlags(kinds)))
}

// Unshare leaves namespaces for new ones.
func (p *Program) Unshare(kinds uint64) *Op {
	return p.Call("unshare", unix.SYS_UNSHARE, Named(kinds, cloneFlags(kinds)))
}

// Prctl is prctl(2); name is what it does, for reading.
func (p *Program) Prctl(name string, option int, args ...Arg) *Op {
	for len(args) < 4 {
		args = append(args, Num(0))
	}
	return p.Call("prctl", unix.SYS_PRCTL, append([]Arg{Named(option, name)}, args...)...)
}

// Dup makes fd a copy of r that stays open over execve.
func (p *Program) Dup(r Reg, fd int) *Op {
	return p.Call("dup3", unix.SYS_DUP3, From(r), Num(fd), Num(0))
}

// Keep moves the given descriptors to base and above, where their registers
// follow them, and closes every other one. The socket to the parent is always
// among them.
func (p *Program) Keep(base int, regs ...Reg) *Op {
	return p.keep("keep", opKeep, base, regs)
}

// CloseAllBut closes every descriptor of base and above except these.
func (p *Program) CloseAllBut(base int, regs ...Reg) *Op {
	return p.keep("closeallbut", opCloseAllBut, base, regs)
}

func (p *Program) keep(name string, nr uintptr, base int, regs []Reg) *Op {
	var b []byte
	names := make([]string, len(regs))
	for i, r := range regs {
		b = binary.NativeEndian.AppendUint64(b, uint64(r))
		names[i] = p.regs[r]
	}
	return p.Call(name, nr, Num(base), Bytes(b, "["+strings.Join(names, " ")+"]"), Num(len(regs)))
}

// Ask tells the parent code and waits until Process.Answer. Once the parent is
// gone the child leaves.
func (p *Program) Ask(code byte) *Op { return p.Call("ask", opTell, code_(code), Named(1, "wait")) }

// Tell tells the parent code.
func (p *Program) Tell(code byte) *Op { return p.Call("tell", opTell, code_(code), Num(0)) }

// TellFD tells the parent code and hands it a copy of the descriptor in r.
func (p *Program) TellFD(code byte, r Reg) *Op {
	return p.Call("tellfd", opTellFD, code_(code), From(r))
}

func code_(c byte) Arg { return Named(uint64(c), fmt.Sprintf("%q", c)) }

// AwaitStart waits until someone connects to the listening socket in r, which
// is the start. Every op that fails from then on is told to the one that
// connected. A signal that would end a process ends the child as a shell says
// it, with 128 + its number, although it may be the first process of a pid
// namespace; signals must be blocked, and signals must be a signalfd of them.
func (p *Program) AwaitStart(listener, signals Reg) *Op {
	return p.Call("awaitstart", opAwaitStart, From(listener), From(signals))
}

// Signalfd makes a descriptor for the signals of mask.
func (p *Program) Signalfd(name string, mask uint64, text string) (Reg, *Op) {
	r := p.Reg(name)
	b := binary.NativeEndian.AppendUint64(nil, mask)
	return r, p.CallTo(r, "signalfd", unix.SYS_SIGNALFD4, Named(int64(-1), "new"), Bytes(b, text), Num(8), Named(unix.SFD_CLOEXEC, "CLOEXEC"))
}

// SignalMask replaces the set of blocked signals.
func (p *Program) SignalMask(mask uint64, text string) *Op {
	b := binary.NativeEndian.AppendUint64(nil, mask)
	return p.Call("sigprocmask", unix.SYS_RT_SIGPROCMASK, Named(unix.SIG_SETMASK, "SETMASK"), Bytes(b, text), Num(0), Num(8))
}

// SignalDefaults gives every signal its default disposition, ignored ones too.
func (p *Program) SignalDefaults() *Op { return p.Call("sigdefaults", opSigDefaults) }

// DropBounding takes every capability that is not in keep out of the bounding set.
func (p *Program) DropBounding(keep uint64, text string) *Op {
	return p.Call("dropbounding", opDropBounding, Named(keep, text))
}

// Ambient makes set the ambient set.
func (p *Program) Ambient(set uint64) {
	p.ambient("CLEAR_ALL", unix.PR_CAP_AMBIENT_CLEAR_ALL, 0)
	for c := range 64 {
		if set>>c&1 != 0 {
			p.ambient("RAISE", unix.PR_CAP_AMBIENT_RAISE, c)
		}
	}
}

func (p *Program) ambient(name string, how, capability int) {
	p.Prctl("CAP_AMBIENT", unix.PR_CAP_AMBIENT, Named(how, name), Num(capability))
}

// Capset replaces the effective, permitted and inheritable sets.
func (p *Program) Capset(effective, permitted, inheritable uint64, text string) *Op {
	hdr := binary.NativeEndian.AppendUint32(nil, unix.LINUX_CAPABILITY_VERSION_3)
	hdr = binary.NativeEndian.AppendUint32(hdr, 0)
	var b []byte
	for _, shift := range []int{0, 32} {
		for _, set := range []uint64{effective, permitted, inheritable} {
			b = binary.NativeEndian.AppendUint32(b, uint32(set>>shift))
		}
	}
	return p.Call("capset", unix.SYS_CAPSET, Bytes(hdr, "self"), Bytes(b, text))
}

// ChownStdio gives descriptors 0, 1 and 2 to uid, except /dev/null.
func (p *Program) ChownStdio(uid uint32) *Op { return p.Call("chownstdio", opChownStdio, Num(uid)) }

// LookPath finds the first of the candidates that is a regular file the caller
// may execute, and gives its address for Execve. With one candidate its errno is
// the error, with more it is ENOENT.
func (p *Program) LookPath(candidates []string) (Reg, *Op) {
	r := p.Reg("exe")
	text := "[" + strings.Join(candidates, " ") + "]"
	return r, p.CallTo(r, "lookpath", opLookPath, Strs(candidates, text), Num(len(candidates)))
}

// Execve runs the file whose address is in exe; env is set, not added to.
func (p *Program) Execve(exe Reg, args, env []string) *Op {
	return p.ExecveEnv(exe, args, Strs(env, fmt.Sprintf("%d variables", len(env))))
}

// ExecveEnv is Execve with an environment of Strs.
func (p *Program) ExecveEnv(exe Reg, args []string, env Arg) *Op {
	return p.Call("execve", opExecve, From(exe), Strs(args, fmt.Sprintf("%q", args)), env)
}

// HomeOf writes the home directory of uid behind "HOME=" in buffer, as
// /etc/passwd has it; what is there stays when it does not.
func (p *Program) HomeOf(uid uint32, buffer Arg) *Op {
	return p.Call("homeof", opHome, Num(uid), buffer, Num(len(buffer.data.b)))
}

// IfUnset adds ops that run only when nothing has been put into r yet.
func (p *Program) IfUnset(r Reg, then func()) {
	p.IfFailed(p.Call("isset", opIsSet, From(r)).Tolerate(unix.ENODATA), then)
}

// Address puts the address of s into a register, for Execve.
func (p *Program) Address(name, s string) Reg {
	r := p.Reg(name)
	p.CallTo(r, "address", opAddress, Str(s))
	return r
}

// Fork clones the child once more, with flags. In the copy child runs; the one
// that cloned goes on after it, with the pid of the copy in the register.
func (p *Program) Fork(clone uint64, child func()) Reg {
	r := p.Reg("pid")
	o := p.CallTo(r, "fork", opFork, Named(clone, cloneFlags(clone)))
	n := len(p.ops)
	child()
	o.skipOK = len(p.ops) - n
	return r
}

// Join waits for the child in r, by Fork, and fails with EPIPE unless it ended well.
func (p *Program) Join(r Reg) *Op { return p.Call("join", opJoin, From(r)) }

// ForkOn clones the child once more as a sibling of its own: the copy goes on
// with the program, the child leaves. See Process.Adopt.
func (p *Program) ForkOn(clone uint64) *Op {
	return p.Call("forkon", opForkOn, Named(clone, cloneFlags(clone)))
}

// Exit ends the child well.
func (p *Program) Exit() *Op { return p.Call("exit", opExit, Num(0)) }

// BPFFilter loads a seccomp filter of n instructions of 8 bytes.
func (p *Program) BPFFilter(name string, code []byte, n int, how uint) *Op {
	return p.Call("seccomp", unix.SYS_SECCOMP, Named(1, "SET_MODE_FILTER"), Num(how), filterArg(name, code, n))
}

// filterArg is the address of a struct sock_fprog.
func filterArg(name string, code []byte, n int) Arg {
	prog := &data{b: make([]byte, 16), ptrs: []pointer{{8, &data{b: code}}}}
	binary.NativeEndian.PutUint16(prog.b, uint16(n))
	return Arg{is: argData, data: prog, text: name}
}
