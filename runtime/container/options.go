package container

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"gantry/runtime/cgroup"
	"gantry/runtime/hop"
	"gantry/runtime/plan"
	"gantry/runtime/program/limits"
	"gantry/runtime/rootfs"
	"gantry/runtime/security"
	"gantry/runtime/security/caps"
)

// files are the inputs of a program, by name; those of own are closed in the
// end.
type files struct {
	byName map[string]*os.File
	own    []*os.File
}

func (f *files) set(name string, file *os.File) {
	if f.byName == nil {
		f.byName = map[string]*os.File{}
	}
	f.byName[name] = file
}

// add is set for a file to be closed.
func (f *files) add(name string, file *os.File) {
	f.set(name, file)
	f.own = append(f.own, file)
}

func (f *files) close() {
	for _, file := range f.own {
		file.Close()
	}
}

// stdio sets descriptors 0 and up; what is nil, and all with a terminal, is the
// null device.
func (f *files) stdio(terminal bool, stdin, stdout, stderr *os.File, extra []*os.File) error {
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	f.own = append(f.own, null)
	for name, file := range map[string]*os.File{plan.InStdin: stdin, plan.InStdout: stdout, plan.InStderr: stderr} {
		if file == nil || terminal {
			file = null
		}
		f.set(name, file)
	}
	for i, file := range extra {
		f.set(plan.InExtra(i), file)
	}
	return nil
}

// cgroup opens what joining takes and says how many tasks files there are, and
// whether there is a directory to be born into. The unified hierarchy of a hybrid
// host is one: a write to its cgroup.procs would wait 10 ms for an RCU grace
// period.
func (f *files) cgroup(m *cgroup.Manager) (tasks int, dir bool, err error) {
	list, err := m.JoinFDs()
	if err != nil {
		return 0, false, err
	}
	unified := unifiedDir(m)
	for _, file := range list {
		if unified != "" && filepath.Dir(file.Name()) == unified {
			file.Close()
			continue
		}
		f.add(plan.InTasks(tasks), file)
		tasks++
	}
	if unified == "" {
		return tasks, false, nil
	}
	return tasks, true, f.openPath(plan.InCgroup, unified, unix.O_PATH|unix.O_DIRECTORY)
}

// unifiedDir is the cgroup's directory in the unified hierarchy, if it has one.
func unifiedDir(m *cgroup.Manager) string { return m.Paths()[""] }

func (f *files) openPath(name, path string, flags int) error {
	fd, err := unix.Open(path, flags|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open %s: %w", path, err)
	}
	f.add(name, os.NewFile(uintptr(fd), path))
	return nil
}

// open opens all that the init starts with.
func (k *creation) open(ctx context.Context) error {
	_, end := hop.Begin(ctx, "open streams, namespaces and mounts")
	defer end()
	if err := k.files.stdio(k.Spec.Process.Terminal, k.Stdin, k.Stdout, k.Stderr, k.ExtraFiles); err != nil {
		return err
	}
	k.c.rec.Descriptors = k.files.descriptors()
	l, err := listen(k.c.dir())
	if err != nil {
		return err
	}
	k.files.add(plan.InListener, l)
	for _, n := range k.Spec.Linux.Namespaces {
		if n.Path == "" {
			continue
		}
		if err := k.files.openNamespace(n); err != nil {
			return err
		}
		if err := notOurs(n, k.Spec.Linux.Sysctl); err != nil {
			return err
		}
	}
	return k.openMounts(ctx)
}

// options gathers what the plan must know and opens the way into the cgroup.
func (k *creation) options() (plan.Options, error) {
	o, err := k.planOptions()
	if err != nil {
		return o, err
	}
	if !k.Spec.Process.Terminal {
		o.Null = k.files.null()
	}
	if o.Groups, err = k.rdt(); err != nil {
		return o, err
	}
	o.Tasks, o.Cgroup, err = k.files.cgroup(k.cg)
	return o, err
}

func (k *creation) planOptions() (o plan.Options, err error) {
	o = plan.Options{
		ID: k.ID, RootPath: k.Spec.Root.Path, Rootfs: k.Rootfs, Extra: len(k.ExtraFiles),
		Start: true, Hooks: hasEarlyHooks(k.Spec.Hooks), NoPivot: k.NoPivot, Keyring: !k.NoNewKeyring,
		Host: hostOptions(k.Spec.Root.Path), Cgroups: cgroupMounts(k.cg), Creator: creatorOf(k.Spec),
	}
	tell(k.Warn, ignored(k.Spec))
	o.Process, err = processOptions(k.Spec, k.Spec.Process, k.filter, k.OOMScoreAdj, k.Warn)
	o.Creator.NoDevices = o.Process.HaveCaps>>unix.CAP_MKNOD&1 == 0
	return o, err
}

func hasEarlyHooks(h *specs.Hooks) bool {
	return h != nil && len(h.Prestart)+len(h.CreateRuntime)+len(h.CreateContainer) > 0 //nolint:staticcheck // still in use
}

func hostOptions(mountPoint string) rootfs.Options {
	o := rootfs.Options{LowerPlus: rootfs.HasLowerPlus()}
	if st, err := os.Stat(mountPoint); err == nil && st.IsDir() {
		o.MountPoint = mountPoint
	}
	return o
}

// cgroupMounts says how the container's cgroups are to be shown to it.
func cgroupMounts(m *cgroup.Manager) plan.CgroupMounts {
	if m.Kind() == cgroup.V2 {
		return plan.CgroupMounts{Unified: true, Path: unifiedDir(m)}
	}
	var list []plan.Hierarchy
	for _, h := range m.Hierarchies() {
		list = append(list, plan.Hierarchy(h))
	}
	return plan.CgroupMounts{Hierarchies: list}
}

// processOptions clamps what the process asks for to what we may give it.
func processOptions(spec *specs.Spec, p *specs.Process, compile func() (filter, error), oom *int, warn func(string)) (o plan.Process, err error) {
	if err := checkUser(spec, p); err != nil {
		return o, err
	}
	userns := plan.HasUserNS(spec)
	o.OOMScoreAdj = p.OOMScoreAdj
	if o.OOMScoreAdj == nil {
		o.OOMScoreAdj = oom
	}
	var warnings []string
	clamp := security.Capabilities
	if userns {
		clamp = security.CapabilitiesInUserNS
	}
	if o.Caps, warnings, err = clamp(p.Capabilities); err != nil {
		return o, err
	}
	tell(warn, warnings)
	if o.HaveCaps, err = permitted(userns); err != nil {
		return o, err
	}
	if o.Rlimits, warnings, err = security.Rlimits(p.Rlimits); err != nil {
		return o, err
	}
	o.Rlimits = withNofile(o.Rlimits)
	tell(warn, warnings)
	f, err := compile()
	if err != nil {
		return o, err
	}
	o.Seccomp, o.SeccompFlag = f.Program, f.Flags
	o.Notify, o.NotifyFlag = f.Notify, f.NotifyFlags
	tell(warn, f.Warnings)
	o.MountLabel = security.SELinuxMount(spec.Linux.MountLabel)
	o.Attrs, err = attrs(p)
	return o, err
}

func tell(warn func(string), warnings []string) {
	for _, w := range warnings {
		warn(w)
	}
}

// permitted is what the init may keep until it confines itself.
func permitted(userns bool) (uint64, error) {
	if userns {
		last, err := caps.Last()
		return caps.All(last).Permitted, err
	}
	return caps.Permitted()
}

// withNofile undoes that Go raises the soft limit at its start.
func withNofile(list []security.Rlimit) []security.Rlimit {
	for _, l := range list {
		if l.Resource == unix.RLIMIT_NOFILE {
			return list
		}
	}
	orig, ok := limits.Nofile()
	if !ok {
		return list
	}
	return append(list, security.Rlimit{Name: "RLIMIT_NOFILE", Resource: unix.RLIMIT_NOFILE, Soft: orig.Cur, Hard: orig.Max})
}

func attrs(p *specs.Process) (list []security.Attr, err error) {
	a, err := security.AppArmor(p.ApparmorProfile)
	if err != nil {
		return nil, err
	}
	s, err := security.SELinux(p.SelinuxLabel)
	if err != nil {
		return nil, err
	}
	for _, attr := range []*security.Attr{a, s} {
		if attr != nil {
			list = append(list, *attr)
		}
	}
	return list, nil
}
