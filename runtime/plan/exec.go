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
	if err := lacking(spec, proc); err != nil {
		return nil, err
	}
	own, err := readNamespaces(spec.Linux)
	if err != nil {
		return nil, err
	}
	pidfd, root := b.Input(InPidFD), b.Input(InRoot)
	b.begin()
	b.undumpable()
	b.joinCgroups()
	b.openAttrs()
	kinds := own.fresh
	for t := range own.joined {
		kinds |= cloneFlag[t]
	}
	pidns, inside := kinds&unix.CLONE_NEWPID, o.Creator.Unprivileged
	if pidns != 0 && !inside {
		b.Clone.PidNS = pidfd
		kinds &^= pidns
	}
	b.Label("join the container's namespaces")
	b.SetNS(pidfd, kinds)
	if kinds&unix.CLONE_NEWUSER != 0 {
		b.becomeRoot()
		b.undumpable()
	}
	if pidns != 0 && inside {
		b.forkIntoPidNS()
	}
	b.Label("enter the container's root")
	if o.NoPivot {
		b.Call("fchdir", unix.SYS_FCHDIR, program.From(root))
		b.Call("chroot", unix.SYS_CHROOT, program.Str("."))
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
