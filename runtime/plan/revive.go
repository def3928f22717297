package plan

import (
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"gantry/runtime/program"
)

// Reviver is the program that brings processes back from a checkpoint.
type Reviver struct {
	Path      string
	Args, Env []string
	Place     string   // directory on the host where it finds the container's root
	Dirs      []string // directories of the host, told as they are in its mount namespace
}

// Revive plans a child that runs a reviver in the container's cgroup, with stdio,
// and in a mount namespace of its own, where the root lies at its place and from
// which it goes together with the namespace.
func Revive(o Options, r Reviver) (*program.Program, error) {
	p := program.New()
	p.Clone.Flags = unix.CLONE_NEWNS
	if o.Cgroup {
		p.Clone.Cgroup = p.Input(InCgroup)
	}
	std, tasks := []program.Reg{p.Input(InStdin), p.Input(InStdout), p.Input(InStderr)}, []program.Reg(nil)
	for i := range o.Extra {
		std = append(std, p.Input(InExtra(i)))
	}
	for i := range o.Tasks {
		tasks = append(tasks, p.Input(InTasks(i)))
	}
	p.Label("set up descriptors")
	p.Keep(len(std), append(std, tasks...)...)
	p.SignalDefaults()
	for fd, reg := range std {
		p.Dup(reg, fd)
	}
	p.Label("join cgroup")
	for _, f := range tasks {
		p.Write(f, "0")
	}
	p.Label("make mounts private")
	p.SetAttrPath(program.Cwd, "/", program.Attr{Propagation: unix.MS_SLAVE}, true)
	o.Host.MountPoint = r.Place
	root, attached, err := rootMount(p, o)
	if err != nil {
		return nil, err
	}
	if !attached {
		p.Label("attach root filesystem at %s", r.Place)
		p.AttachPath(root, program.Cwd, r.Place)
	}
	for _, d := range r.Dirs {
		p.Label("open %s", d)
		f, _ := p.Open("dir", program.Cwd, d, unix.O_RDONLY|unix.O_DIRECTORY)
		p.TellFD(TellDir, f)
		p.Close(f)
	}
	p.Label("run %s", r.Path)
	exe := p.Address("exe", r.Path)
	p.CloseAllBut(len(std))
	p.Execve(exe, r.Args, r.Env)
	return p, nil
}

// MountPoints plans a child that makes whatever the container's mounts lie on, as
// Create would: it mounts them in a mount namespace that goes with it.
func MountPoints(spec *specs.Spec, o Options) (*program.Program, error) {
	b := &builder{Program: program.New(), spec: spec, o: o, proc: spec.Process,
		dirs: map[string]program.Reg{}, sources: map[int]program.Reg{}}
	b.o.Hooks = false
	b.Clone.Flags, b.Clone.Signal = unix.CLONE_NEWNS, 0
	b.Keep(3)
	b.propagation()
	if err := b.openSources(); err != nil {
		return nil, err
	}
	if err := b.attachRoot(); err != nil {
		return nil, err
	}
	for i, m := range spec.Mounts {
		if err := b.mountPoint(i, m); err != nil {
			return nil, err
		}
	}
	b.makeCwd()
	b.Exit()
	return b.Program, nil
}

// mountPoint mounts m, without what only those who use it would see.
func (b *builder) mountPoint(i int, m specs.Mount) error {
	m.UIDMappings, m.GIDMappings = nil, nil
	if m.Type == "cgroup" || m.Type == "cgroup2" {
		b.Label("make mount point %s", m.Destination)
		to, _ := b.MakePath("to", b.root, m.Destination, 0)
		b.Close(to)
		return nil
	}
	return b.mount(i, m)
}
