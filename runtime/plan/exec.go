package plan

import (
	"fmt"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"gantry/runtime/program"
)

// Exec plans a further process of a container whose namespaces and settings
// spec describes; InPidFD is the container's init, InRoot its root directory.
// Classes: InvalidArgument, NotImplemented.
func Exec(spec *specs.Spec, proc *specs.Process, o Options) (*program.Program, error) {
	b := &builder{Program: program.New(), spec: spec, o: o, proc: proc, isExec: true}
	own, err := readNamespaces(spec.Linux)
	if err != nil {
		return nil, err
	}
	b.begin()
	b.undumpable()
	kinds := own.fresh
	for t := range own.joined {
		kinds |= cloneFlag[t]
	}
	if kinds&unix.CLONE_NEWPID != 0 && kinds&unix.CLONE_NEWUSER != 0 && !o.Creator.Unprivileged {
		b.bornInside(kinds)
	} else {
		b.appearInside(kinds)
	}
	b.root, _ = b.Open("root", program.Cwd, "/", unix.O_PATH|unix.O_DIRECTORY)
	if proc.Terminal {
		b.console("/dev/pts/ptmx", false)
	}
	if err := b.finish(); err != nil {
		return nil, fmt.Errorf("exec: %w", err)
	}
	return b.Program, nil
}

// bornInside enters a container that has a user namespace. Whoever is in there has no
// power over the child before it is in it too, and none after that, for its memory is the
// creator's: so its first clone may be into the pid namespace.
func (b *builder) bornInside(kinds uint64) {
	b.joinCgroups()
	b.openProc()
	b.openAttrs()
	b.closeProc()
	pidfd := b.Input(InPidFD)
	b.Clone.PidNS = pidfd
	b.Label("join the container's namespaces")
	b.SetNS(pidfd, kinds&^unix.CLONE_NEWPID)
	b.becomeRoot()
	b.undumpable()
	b.enterRoot()
}

// appearInside enters any other container. Who has CAP_SYS_PTRACE in there sees root,
// working directory and open files of each process of its pid namespace, so the child
// comes into that last, by another clone, when nothing of the host is left to be seen.
func (b *builder) appearInside(kinds uint64) {
	b.bornInCgroup()
	b.Label("join the container's namespaces")
	b.SetNS(b.Input(InPidFD), kinds)
	if kinds&unix.CLONE_NEWUSER != 0 {
		b.becomeRoot()
		b.undumpable()
	}
	b.enterRoot()
	if kinds&unix.CLONE_NEWPID != 0 {
		b.forkInto("pid", 0)
	}
	b.joinTasks()
	b.openOwnAttrs()
}

func (b *builder) enterRoot() {
	b.Label("enter the container's root")
	if b.o.NoPivot {
		b.Call("fchdir", unix.SYS_FCHDIR, program.From(b.Input(InRoot)))
		b.Call("chroot", unix.SYS_CHROOT, program.Str("."))
	}
}
