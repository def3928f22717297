// Package plan compiles what an OCI bundle asks for into programs of system
// calls. It is pure: all it must know of the host comes in Options, so that a
// plan can be printed and compared.
//
// # The order of a container's start
//
//	close what is not needed; signals; stdio             nothing of the parent stays open
//	oom_score_adj, session, cgroups by writing "0"
//	user namespace: joined, or made and its maps awaited   Ask AskMaps
//	undumpable
//	other namespaces joined or made, those first that a new user namespace has no
//	  power over; time offsets; cgroup namespace last
//	network devices moved in                               Ask AskNetDevices
//	sysctls through the host's /proc, host name
//	mount propagation, sources of binds, the root
//	mounts, devices, links, all below the root's descriptor
//	hooks                                                  Ask AskHooks
//	console, masked and read-only paths
//	pivot_root, read-only root
//	limits, user, capabilities, working directory, PATH
//	start awaited: the socket to the parent is closed
//	capabilities and seccomp, as late as can be; execve
//
// The root is never reached by joining strings: its descriptor is the base of
// openat2 with RESOLVE_IN_ROOT until the pivot.
package plan

import (
	"fmt"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"gantry/runtime/program"
	"gantry/runtime/rootfs"
	"gantry/runtime/security"
)

// What a program says to the one who runs it.
const (
	AskMaps       = 'u' // asked: write the id maps
	AskOffsets    = 'o' // asked: write the offsets of the time namespace
	AskNetDevices = 'd' // asked: move the network devices
	AskHooks      = 'h' // asked: run the hooks that come before pivot_root
	TellTTY       = 't' // told, with the console's master; then asked, if Options say so
	TellChild     = 'p' // asked: the init is another process now, adopt it
	TellRoot      = 'r' // told, with the root's detached mount
	TellDir       = 'd' // told, with a reviver's directory

	TellListener = 's' // told, with the descriptor of a seccomp filter's listener
)

// Names of inputs: open files that a program starts with.
const (
	InStdin    = "stdin"
	InStdout   = "stdout"
	InStderr   = "stderr"
	InListener = "listener" // the socket whose first connection is the start
	InCgroup   = "cgroup"   // directory for CLONE_INTO_CGROUP
	InPidFD    = "pidfd"    // of the container's init
	InRoot     = "root"     // a detached mount of the root, or the container's root directory
)

// InExtra names the i-th extra file, InTasks the i-th cgroup tasks file,
// InNamespace the namespace file of a type, InSource the source of the i-th
// mount of the spec, InMap the user namespace of its idmap.
func InExtra(i int) string { return fmt.Sprintf("extra%d", i) }

// InTasks: see InExtra.
func InTasks(i int) string { return fmt.Sprintf("tasks%d", i) }

// InGroup names the i-th tasks file of resctrl.
func InGroup(i int) string { return fmt.Sprintf("group%d", i) }

// InNamespace: see InExtra.
func InNamespace(t specs.LinuxNamespaceType) string { return "ns-" + string(t) }

// InSource: see InExtra.
func InSource(i int) string { return fmt.Sprintf("source%d", i) }

// InMap: see InExtra.
func InMap(i int) string { return fmt.Sprintf("idmap%d", i) }

// Options is what a plan needs to know beside the spec.
type Options struct {
	ID       string
	RootPath string         // spec.Root.Path, absolute
	Rootfs   []rootfs.Mount // as container.CreateOptions
	Host     rootfs.Options
	Extra    int  // number of InExtra inputs
	Tasks    int  // number of InTasks inputs
	Groups   int  // number of InGroup inputs
	Cgroup   bool // InCgroup is given
	Start    bool // wait for a start; false runs at once
	Hooks    bool // there are hooks to wait for
	NoPivot  bool
	Exe      string // the file to run, with the environment as it is given; "" looks up the process's own
	Keyring  bool   // a session keyring of its own
	AskTTY   bool   // ask whether the console is ready for the process
	// Subreaper: what the process's descendants leave behind becomes its own.
	Subreaper bool
	Null      [3]bool // standard descriptors that are the host's null device

	Cgroups CgroupMounts
	Creator Creator

	Process Process
}

// Process is the part of Options that concerns the process alone.
type Process struct {
	Caps        security.CapSets  // what it gets in the end
	HaveCaps    uint64            // what may be kept permitted until then
	Rlimits     []security.Rlimit // beside RLIMIT_NOFILE, always complete
	Seccomp     []unix.SockFilter
	SeccompFlag uint
	Notify      []unix.SockFilter // a filter beside Seccomp that asks a listener, whose descriptor is told
	NotifyFlag  uint
	Attrs       []security.Attr // labels for execve
	MountLabel  string          // mount option that labels a tmpfs: "context=…"
	OOMScoreAdj *int
}

// CgroupMounts is how a mount of type cgroup looks inside.
type CgroupMounts struct {
	Unified     bool        // one cgroup2 mount
	Path        string      // the container's own directory, for v2 without a cgroup namespace
	Hierarchies []Hierarchy // v1 and hybrid
}

// Hierarchy is a cgroup v1 mount.
type Hierarchy struct {
	Name    string   // of its directory: "cpu,cpuacct", "systemd"
	Options []string // to mount it: "cpu", "cpuacct", or "none", "name=systemd"
	Path    string   // the container's own directory in it
}

// builder carries the registers that steps share.
type builder struct {
	*program.Program
	spec *specs.Spec
	o    Options
	proc *specs.Process

	isExec bool

	ns      namespaces
	root    program.Reg
	dirs    map[string]program.Reg // directories below the root, opened once
	procfs  program.Reg            // the host's, while it is of use
	attrs   []program.Reg          // label files, opened while /proc is the host's
	shown   []shownMount           // procfs and sysfs
	late    []lateReadonly
	sources map[int]program.Reg
}

// lateReadonly is a mount that turns read-only once all that goes into it is made.
type lateReadonly struct {
	mount program.Reg
	label string
}

// Create plans a container's init. Classes: InvalidArgument, NotImplemented.
func Create(spec *specs.Spec, o Options) (*program.Program, error) {
	b := &builder{Program: program.New(), spec: spec, o: o, proc: spec.Process,
		dirs: map[string]program.Reg{}, sources: map[int]program.Reg{}}
	var err error
	if b.ns, err = readNamespaces(spec.Linux); err != nil {
		return nil, err
	}
	b.begin()
	b.joinCgroups()
	b.openProc()
	b.enterNamespaces()
	b.loopback()
	if err := b.netDevices(); err != nil {
		return nil, err
	}
	if err := b.sysctls(); err != nil {
		return nil, err
	}
	b.hostname()
	b.openAttrs()
	b.closeProc()
	if err := b.mounts(); err != nil {
		return nil, err
	}
	b.pivot()
	if err := b.finish(); err != nil {
		return nil, err
	}
	return b.Program, nil
}

// DetachedRoot plans a child that mounts the root and hands over its detached
// mount: for containers with a user namespace, which could not mount it.
func DetachedRoot(o Options) (*program.Program, error) {
	p := program.New()
	p.Clone.Flags, p.Clone.Signal = unix.CLONE_NEWNS, 0
	p.Keep(3, rootInputs(p, o)...)
	p.Label("make mounts private")
	p.SetAttrPath(program.Cwd, "/", program.Attr{Propagation: unix.MS_SLAVE}, true)
	r, attached, err := rootMount(p, o)
	if err != nil {
		return nil, err
	}
	if attached {
		p.Label("detach root filesystem")
		r, _ = p.OpenTree("detached", program.From(r), "", unix.OPEN_TREE_CLONE|unix.AT_EMPTY_PATH)
	}
	p.Label("hand over root filesystem")
	p.TellFD(TellRoot, r)
	p.Exit()
	return p, nil
}

// rootInputs are what the mount of the root needs.
func rootInputs(p *program.Program, o Options) (regs []program.Reg) {
	if len(o.Rootfs) > 0 && rootfs.NeedsIDMap(o.Rootfs[0]) {
		regs = append(regs, p.Input(rootfs.InIDMap))
	}
	return regs
}

func rootMount(p *program.Program, o Options) (program.Reg, bool, error) {
	if len(o.Rootfs) > 0 {
		return rootfs.Root(p, o.Rootfs[0], o.Host)
	}
	return rootfs.Root(p, rootfs.Mount{Type: "bind", Source: o.RootPath}, o.Host)
}
