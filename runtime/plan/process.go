package plan

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"path"
	"strings"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"gantry/runtime/program"
)

// finish turns the child into the process of the spec: what needs privilege
// first, seccomp and the last capabilities after the wait for the start.
func (b *builder) finish() error {
	if len(b.proc.Args) == 0 {
		return fmt.Errorf("process has no args: %w", errdefs.ErrInvalidArgument)
	}
	o := b.o.Process
	b.reopenNull()
	b.keyring()
	if b.o.Subreaper {
		b.Label("become subreaper")
		b.Prctl("SET_CHILD_SUBREAPER", unix.PR_SET_CHILD_SUBREAPER, program.Num(1))
	}
	if b.proc.NoNewPrivileges {
		b.Label("set no_new_privs")
		b.Prctl("SET_NO_NEW_PRIVS", unix.PR_SET_NO_NEW_PRIVS, program.Num(1))
	}
	if err := b.scheduling(); err != nil {
		return err
	}
	b.Label("set umask")
	b.Call("umask", unix.SYS_UMASK, octal(umask(b.proc.User.Umask)))
	home, env := b.environment()
	if home != nil {
		b.Label("look up home directory")
		b.HomeOf(b.proc.User.UID, *home)
	}
	b.Label("give standard descriptors to the user")
	b.ChownStdio(b.proc.User.UID)
	b.rlimits()
	cwd := b.chdir()
	b.user()
	b.undumpable() // the kernel's fs.suid_dumpable may have undone it
	b.chdirAgain(cwd)
	exe := b.command()
	b.notify()
	b.awaitStart()
	b.Label("unblock signals")
	b.SignalMask(0, "none")
	b.confine(o)
	b.Label("exec %s", cmp.Or(b.o.Exe, b.proc.Args[0]))
	b.ExecveEnv(exe, b.proc.Args, env)
	return nil
}

func (b *builder) command() program.Reg {
	list := candidates(b.proc.Args[0], b.proc.Env)
	b.Label("look up command")
	if b.o.Exe != "" {
		list = []string{b.o.Exe}
		b.Label("run %s", b.o.Exe)
	}
	exe, _ := b.LookPath(list)
	return exe
}

func octal(v uint32) program.Arg { return program.Named(v, fmt.Sprintf("%#o", v)) }

func umask(u *uint32) uint32 {
	if u == nil {
		return 0o022
	}
	return *u & 0o777
}

func (b *builder) keyring() {
	if !b.o.Keyring {
		return
	}
	b.Label("join session keyring")
	b.Call("keyctl", unix.SYS_KEYCTL, program.Named(unix.KEYCTL_JOIN_SESSION_KEYRING, "JOIN_SESSION_KEYRING"),
		program.Str("_ses."+b.o.ID)).Tolerate(unix.ENOSYS, unix.EDQUOT, unix.EPERM, unix.EACCES).Note()
}

// environment is the process's, with room for HOME where the spec has none.
func (b *builder) environment() (*program.Arg, program.Arg) {
	env := lastOfEach(b.proc.Env)
	if b.o.Exe != "" {
		return nil, program.Strs(env, fmt.Sprintf("%d variables", len(env)))
	}
	for _, e := range env {
		if strings.HasPrefix(e, "HOME=") {
			return nil, program.Strs(env, fmt.Sprintf("%d variables", len(env)))
		}
	}
	home := program.Buffer("HOME=/", unix.PathMax, "HOME")
	return &home, program.Strs(env, fmt.Sprintf("%d variables and HOME", len(env)), home)
}

// lastOfEach leaves of each variable the last value, in the place of that.
func lastOfEach(env []string) []string {
	last := make(map[string]int, len(env))
	for i, e := range env {
		name, _, _ := strings.Cut(e, "=")
		last[name] = i
	}
	if len(last) == len(env) {
		return env
	}
	var out []string
	for i, e := range env {
		if name, _, _ := strings.Cut(e, "="); last[name] == i {
			out = append(out, e)
		}
	}
	return out
}

func (b *builder) rlimits() {
	for _, l := range b.o.Process.Rlimits {
		b.Label("set %s", l.Name)
		v := binary.NativeEndian.AppendUint64(nil, l.Soft)
		v = binary.NativeEndian.AppendUint64(v, l.Hard)
		b.Call("prlimit64", unix.SYS_PRLIMIT64, program.Num(0), program.Named(l.Resource, l.Name),
			program.Bytes(v, fmt.Sprintf("{%d %d}", int64(l.Soft), int64(l.Hard))), program.Num(0))
	}
}

// chdir enters the working directory as root, without magic links, so that no
// descriptor of ours can lead out of the container. The register stays 0 when
// that was refused: a file system may refuse root but not the user.
func (b *builder) chdir() program.Reg {
	b.Label("chdir to cwd (%q) set in config.json failed", b.proc.Cwd)
	dir, o := b.OpenIn("cwd", b.root, b.proc.Cwd, unix.O_PATH|unix.O_DIRECTORY)
	o.Tolerate(unix.EACCES)
	b.IfOK(o, func() { b.Call("fchdir", unix.SYS_FCHDIR, program.From(dir)) })
	return dir
}

func (b *builder) chdirAgain(dir program.Reg) {
	b.Label("chdir to cwd (%q) set in config.json failed", b.proc.Cwd)
	b.IfUnset(dir, func() {
		again, _ := b.OpenIn("cwd", b.root, b.proc.Cwd, unix.O_PATH|unix.O_DIRECTORY)
		b.Call("fchdir", unix.SYS_FCHDIR, program.From(again))
	})
}

// user takes the ids and all capabilities that need taking early. What is
// permitted stays until confine, if seccomp needs it then.
func (b *builder) user() {
	o, u := b.o.Process, b.proc.User
	b.Label("limit capabilities")
	b.DropBounding(o.Caps.Bounding, capText(o.Caps.Bounding))
	b.Prctl("SET_KEEPCAPS", unix.PR_SET_KEEPCAPS, program.Num(1))
	b.Label("set groups")
	groups := []byte{}
	for _, g := range u.AdditionalGids {
		groups = binary.NativeEndian.AppendUint32(groups, g)
	}
	call := b.Call("setgroups", unix.SYS_SETGROUPS, program.Num(len(u.AdditionalGids)), program.Bytes(groups, fmt.Sprint(u.AdditionalGids)))
	if len(u.AdditionalGids) == 0 {
		call.Tolerate(unix.EPERM) // setgroups may be denied in a user namespace
	}
	b.Label("set user %d:%d", u.UID, u.GID)
	gid, uid := program.Num(u.GID), program.Num(u.UID)
	b.Call("setresgid", unix.SYS_SETRESGID, gid, gid, gid)
	b.Call("setresuid", unix.SYS_SETRESUID, uid, uid, uid)
	b.Label("set capabilities")
	b.capset(o.Caps.Effective, o.HaveCaps|o.Caps.Permitted, o.Caps.Inheritable)
}

func (b *builder) capset(effective, permitted, inheritable uint64) {
	b.Capset(effective, permitted, inheritable,
		fmt.Sprintf("{eff=%s prm=%s inh=%s}", capText(effective), capText(permitted), capText(inheritable)))
}

func capText(set uint64) string {
	if set == 0 {
		return "none"
	}
	return fmt.Sprintf("%#x", set)
}

func (b *builder) awaitStart() {
	keep := b.attrs
	if !b.o.Start {
		b.Label("close descriptors")
		b.CloseAllBut(3+b.o.Extra, keep...)
		return
	}
	b.Label("wait for start")
	l := b.Input(InListener)
	sig, _ := b.Signalfd("signals", endingSignals, "ending")
	b.CloseAllBut(3+b.o.Extra, append([]program.Reg{l, sig}, keep...)...)
	b.AwaitStart(l, sig)
}

// endingSignals are those whose default is to end a process. SIGKILL and
// SIGSTOP can't be had.
var endingSignals = ^signalSet(unix.SIGKILL, unix.SIGSTOP, unix.SIGCHLD, unix.SIGCONT, unix.SIGTSTP,
	unix.SIGTTIN, unix.SIGTTOU, unix.SIGURG, unix.SIGWINCH)

func signalSet(sigs ...unix.Signal) (set uint64) {
	for _, s := range sigs {
		set |= 1 << (s - 1)
	}
	return set
}

// confine does what must come last: labels, seccomp, capabilities. Without
// no_new_privs seccomp needs CAP_SYS_ADMIN, so the capabilities follow it;
// the filter then sees capset and execve only.
func (b *builder) confine(o Process) {
	for i, f := range b.attrs {
		b.Label("set label")
		b.Write(f, o.Attrs[i].Value)
	}
	b.Label("set capabilities")
	if o.Caps.Ambient != 0 {
		b.capset(o.HaveCaps, o.HaveCaps|o.Caps.Permitted, o.Caps.Inheritable)
		b.Ambient(o.Caps.Ambient)
	}
	if len(o.Seccomp) == 0 {
		b.capset(o.Caps.Effective, o.Caps.Permitted, o.Caps.Inheritable)
		return
	}
	if b.proc.NoNewPrivileges {
		b.capset(o.Caps.Effective, o.Caps.Permitted, o.Caps.Inheritable)
		b.seccomp(o)
		return
	}
	b.capset(o.HaveCaps, o.HaveCaps|o.Caps.Permitted, o.Caps.Inheritable)
	b.seccomp(o)
	b.Label("set capabilities")
	b.capset(o.Caps.Effective, o.Caps.Permitted, o.Caps.Inheritable)
}

// candidates are the files that a command may mean: itself if it has a slash,
// else one per entry of PATH.
func candidates(command string, env []string) []string {
	if strings.Contains(command, "/") {
		return []string{command}
	}
	list := ""
	for _, e := range env {
		if v, ok := strings.CutPrefix(e, "PATH="); ok {
			list = v
		}
	}
	var out []string
	for _, dir := range strings.Split(list, ":") {
		if dir == "" {
			dir = "."
		}
		out = append(out, path.Join(dir, command))
	}
	if list == "" {
		return nil
	}
	return out
}
