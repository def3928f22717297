package spec

import (
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"gantry/daemon/mountpoint"
)

// Mount is one mount that is not among the defaults. Tmpfs mounts have no Source.
type Mount struct {
	Source, Destination string
	Tmpfs               bool
	Data                string // of a tmpfs: "size=64m,exec"
	Writable            bool
	Propagation         string // "" is rprivate
	// SourcePropagation is what the source's own mount is: "shared", "slave" or "".
	// It is looked at for shared and slave propagation only. SourceMount is its mount point.
	SourcePropagation, SourceMount string
	// AnySource takes slave propagation from a private mount for what it is: nothing comes.
	AnySource              bool
	NonRecursive           bool
	ReadOnlyNonRecursive   bool
	ReadOnlyForceRecursive bool
}

func defaultMounts() []specs.Mount {
	m := func(dst, typ, src string, opts ...string) specs.Mount {
		return specs.Mount{Destination: dst, Type: typ, Source: src, Options: opts}
	}
	return []specs.Mount{
		m("/proc", "proc", "proc", "nosuid", "noexec", "nodev"),
		m("/dev", "tmpfs", "tmpfs", "nosuid", "strictatime", "mode=755", "size=65536k"),
		m("/dev/pts", "devpts", "devpts", "nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"),
		m("/sys", "sysfs", "sysfs", "nosuid", "noexec", "nodev", "ro"),
		m("/sys/fs/cgroup", "cgroup", "cgroup", "ro", "nosuid", "noexec", "nodev"),
		m("/dev/mqueue", "mqueue", "mqueue", "nosuid", "noexec", "nodev"),
		m("/dev/shm", "tmpfs", "shm", "nosuid", "noexec", "nodev", "mode=1777"),
	}
}

// setMounts keeps of the defaults what the user does not replace, then the init binary,
// then the user's by depth of their destination.
func setMounts(s *specs.Spec, in Input) error {
	user := map[string]bool{}
	for _, m := range in.Mounts {
		user[path.Clean(m.Destination)] = true
	}
	s.Mounts = keptDefaults(s.Mounts, in, user)
	if in.Init != "" && in.HostConfig.PidMode.IsPrivate() {
		s.Mounts = append(s.Mounts, specs.Mount{
			Destination: InitPath, Type: "bind", Source: in.Init, Options: []string{"bind", "ro"},
		})
	}
	s.Mounts = append(s.Mounts, deviceBinds(in)...)
	for _, m := range SortMounts(in.Mounts) {
		if in.TopReadOnly && m.ReadOnlyForceRecursive {
			return fmt.Errorf("rro is not supported by runtime %q", in.HostConfig.Runtime)
		}
		m.ReadOnlyNonRecursive = m.ReadOnlyNonRecursive || in.TopReadOnly
		mount, err := convert(s, m)
		if err != nil {
			return err
		}
		s.Mounts = append(s.Mounts, mount)
	}
	if s.Root.Readonly {
		readonlyDefaults(s, user)
	}
	if in.HostConfig.Privileged {
		clearReadonly(s, func(m specs.Mount) bool { return m.Destination == "/sys" })
	}
	writable, err := cgroupsWritable(in)
	if err != nil {
		return err
	}
	if writable {
		clearReadonly(s, func(m specs.Mount) bool { return m.Type == "cgroup" })
	}
	return nil
}

func keptDefaults(defaults []specs.Mount, in Input, user map[string]bool) []specs.Mount {
	var out []specs.Mount
	for _, m := range defaults {
		switch {
		case user[m.Destination]:
			continue
		case user["/dev"] && strings.HasPrefix(m.Destination, "/dev/"):
			continue
		case m.Destination == "/dev/shm" && in.HostConfig.IpcMode.IsNone():
			continue
		case m.Destination == "/dev/shm":
			m.Options = append(m.Options, "size="+strconv.FormatInt(in.HostConfig.ShmSize, 10))
		}
		out = append(out, m)
	}
	return out
}

// SortMounts returns mounts by the depth of their destinations, else in the same order.
func SortMounts(mounts []Mount) []Mount {
	depth := func(m Mount) int { return strings.Count(path.Clean(m.Destination), "/") }
	out := slices.Clone(mounts)
	slices.SortStableFunc(out, func(a, b Mount) int { return depth(a) - depth(b) })
	return out
}

func convert(s *specs.Spec, m Mount) (specs.Mount, error) {
	if m.Tmpfs {
		opts := []string{"noexec", "nosuid", "nodev", "rprivate"}
		if m.Data != "" {
			opts = append(opts, strings.Split(m.Data, ",")...)
		}
		merged, err := mountpoint.MergeTmpfs(opts)
		return specs.Mount{Destination: m.Destination, Source: "tmpfs", Type: "tmpfs", Options: merged}, err
	}
	if err := propagate(s, m); err != nil {
		return specs.Mount{}, err
	}
	opts := []string{"rbind"}
	if m.NonRecursive {
		opts[0] = "bind"
	}
	if !m.Writable {
		opts = append(opts, readonlyOption(m))
	}
	if m.Propagation != "" {
		opts = append(opts, m.Propagation)
	}
	return specs.Mount{Destination: m.Destination, Source: m.Source, Type: "bind", Options: opts}, nil
}

// readonlyOption is recursive unless asked otherwise: the kernels that the runtime
// supports have mount_setattr.
func readonlyOption(m Mount) string {
	if m.ReadOnlyNonRecursive {
		return "ro"
	}
	return "rro"
}

// propagate checks that the source's mount can do what is asked, and loosens the root's
// own propagation so that it can work.
func propagate(s *specs.Spec, m Mount) error {
	switch m.Propagation {
	case "shared", "rshared":
		if m.SourcePropagation != "shared" {
			return fmt.Errorf("path %s is mounted on %s but it is not a shared mount", m.Source, m.SourceMount)
		}
		if r := s.Linux.RootfsPropagation; r != "shared" && r != "rshared" {
			s.Linux.RootfsPropagation = "shared"
		}
	case "slave", "rslave":
		if m.SourcePropagation == "" && m.AnySource {
			return nil
		}
		if m.SourcePropagation == "" {
			return fmt.Errorf("path %s is mounted on %s but it is not a shared or slave mount", m.Source, m.SourceMount)
		}
		if s.Linux.RootfsPropagation == "" {
			s.Linux.RootfsPropagation = "rslave"
		}
	}
	return nil
}

// readonlyDefaults makes what the user did not mount read-only, but for what a program
// can't do without.
func readonlyDefaults(s *specs.Spec, user map[string]bool) {
	for i, m := range s.Mounts {
		switch m.Destination {
		case "/proc", "/dev/pts", "/dev/shm", "/dev/mqueue", "/dev":
			continue
		}
		if !user[path.Clean(m.Destination)] && !slices.Contains(m.Options, "ro") {
			s.Mounts[i].Options = append(m.Options, "ro")
		}
	}
}

func clearReadonly(s *specs.Spec, match func(specs.Mount) bool) {
	for i, m := range s.Mounts {
		if match(m) {
			s.Mounts[i].Options = slices.DeleteFunc(slices.Clone(m.Options), func(o string) bool { return o == "ro" })
		}
	}
}
