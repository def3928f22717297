// Package spec turns what a user asked for and what the daemon prepared into an OCI
// runtime specification. It is pure: everything that has to be looked up on the host
// (users, devices, propagation of sources, namespaces of other containers) comes in
// through Input. It also holds the checks and defaults of a container's settings,
// in the order and words of dockerd 28.5.
package spec

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	containertypes "github.com/docker/docker/api/types/container"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"gantry/daemon/host"
	"gantry/daemon/userns"
)

// InitPath is where --init's binary appears in the container.
const InitPath = "/sbin/docker-init"

// Input is what Build needs. Config is merged with the image's and HostConfig has its
// defaults, see Merge and Adapt.
type Input struct {
	Config     *containertypes.Config
	HostConfig *containertypes.HostConfig
	Path       string // the program
	Args       []string

	LinkEnv []string // of links to other containers

	IDs userns.Mapping // of a user namespace of its own; the zero value is the host's

	User specs.User // resolved in the container's own files
	Home string     // of that user; "" sets no HOME

	Mounts      []Mount // in the user's order; Build sorts them
	Namespaces  Namespaces
	CgroupsPath string
	Init        string // host path of the init binary; "" runs without

	// Edit lets drivers of devices change what there is up to the default mounts; nil is none.
	Edit func(*specs.Spec) error

	Devices   []Device                 // of HostConfig.Devices, looked up
	AllHost   []specs.LinuxDevice      // every device of the host, for Privileged
	BlockDevs map[string][2]int64      // major and minor of the paths in blkio settings
	Ulimits   []*containertypes.Ulimit // the daemon's defaults
	Security  Security
	Profile   string // the daemon's seccomp profile: "" or builtin, unconfined, or JSON
	Host      host.Features
	// TopReadOnly says that the runtime makes only the top of a read-only bind read-only.
	TopReadOnly bool
}

// Namespaces says where the container joins others' namespaces. A path joins, Host
// drops the namespace, the zero value makes a new one.
type Namespaces struct {
	Net, IPC, PID Namespace
	User          Namespace // the one with Input.IDs; of no account without
}

// Namespace is one entry of Namespaces.
type Namespace struct {
	Host bool
	Path string
}

// Device is a device node to make in the container, and what its group may do with it.
type Device struct {
	specs.LinuxDevice
	Access string // of r, w, m
	Host   string // its path on the host, "" when that is the same
}

// Build returns the specification. An error is about the host's present state or a
// profile, never about what Validate has passed.
func Build(in Input) (*specs.Spec, error) {
	s := base(in)
	s.Linux.CgroupsPath = in.CgroupsPath
	setNamespaces(s, in)
	setUserns(s, in)
	setSysctls(s, in)
	if err := setResources(s, in); err != nil {
		return nil, err
	}
	setDevices(s, in)
	if in.Edit != nil {
		if err := in.Edit(s); err != nil {
			return nil, err
		}
	}
	setCapabilities(s, in)
	if err := setMounts(s, in); err != nil {
		return nil, err
	}
	setPaths(s, in)
	if err := setSeccomp(s, in); err != nil {
		return nil, err
	}
	setAppArmor(s, in)
	if len(in.HostConfig.Annotations) > 0 {
		s.Annotations = maps.Clone(in.HostConfig.Annotations)
	}
	return s, nil
}

// version is what a specification says that it is of. crun takes no other than 1.0
// before its 1.9; fields of later versions are read by runtimes that know them whatever
// is said here.
const version = "1.0.2"

func base(in Input) *specs.Spec {
	c, h := in.Config, in.HostConfig
	cwd := c.WorkingDir
	if cwd == "" {
		cwd = "/"
	}
	score := h.OomScoreAdj
	p := &specs.Process{
		Args:            append([]string{in.Path}, in.Args...),
		Env:             Env(c, in.LinkEnv, c.Tty, in.Home),
		Cwd:             cwd,
		Terminal:        c.Tty,
		User:            in.User,
		OOMScoreAdj:     &score,
		NoNewPrivileges: in.Security.NoNewPrivileges,
		Rlimits:         Rlimits(h.Ulimits, in.Ulimits),
	}
	if c.Tty && h.ConsoleSize != [2]uint{} {
		p.ConsoleSize = &specs.Box{Height: h.ConsoleSize[0], Width: h.ConsoleSize[1]}
	}
	if in.Init != "" && h.PidMode.IsPrivate() {
		p.Args = append([]string{InitPath, "--"}, p.Args...)
	}
	return &specs.Spec{
		Version:  version,
		Process:  p,
		Root:     &specs.Root{Path: "rootfs", Readonly: h.ReadonlyRootfs},
		Hostname: c.Hostname,
		Mounts:   defaultMounts(),
		Linux:    &specs.Linux{Resources: &specs.LinuxResources{}, Sysctl: map[string]string{}},
	}
}

// Rlimits merges the container's limits with the daemon's, by name.
func Rlimits(own, defaults []*containertypes.Ulimit) []specs.POSIXRlimit {
	all := slices.Clone(own)
	for _, d := range defaults {
		if !slices.ContainsFunc(own, func(u *containertypes.Ulimit) bool { return u.Name == d.Name }) {
			all = append(all, d)
		}
	}
	var out []specs.POSIXRlimit
	for _, u := range all {
		out = append(out, specs.POSIXRlimit{
			Type: "RLIMIT_" + strings.ToUpper(u.Name), Soft: uint64(u.Soft), Hard: uint64(u.Hard),
		})
	}
	return out
}

func setSysctls(s *specs.Spec, in Input) {
	if in.Config.Domainname != "" {
		s.Linux.Sysctl["kernel.domainname"] = in.Config.Domainname
	}
	if net := in.Namespaces.Net; !net.Host && in.HostConfig.NetworkMode.IsPrivate() {
		if in.Host.PingGroupRange && in.IDs.Empty() { // not all of its groups are mapped
			s.Linux.Sysctl["net.ipv4.ping_group_range"] = "0 2147483647"
		}
		if in.Host.UnprivilegedPortStart {
			s.Linux.Sysctl["net.ipv4.ip_unprivileged_port_start"] = "0"
		}
	}
	maps.Copy(s.Linux.Sysctl, in.HostConfig.Sysctls)
}

func setNamespaces(s *specs.Spec, in Input) {
	add := func(t specs.LinuxNamespaceType, n Namespace) {
		if !n.Host {
			s.Linux.Namespaces = append(s.Linux.Namespaces, specs.LinuxNamespace{Type: t, Path: n.Path})
		}
	}
	add(specs.MountNamespace, Namespace{})
	add(specs.NetworkNamespace, in.Namespaces.Net)
	add(specs.UTSNamespace, Namespace{Host: in.HostConfig.UTSMode.IsHost()})
	add(specs.PIDNamespace, in.Namespaces.PID)
	add(specs.IPCNamespace, in.Namespaces.IPC)
	private := in.HostConfig.CgroupnsMode.IsPrivate() && in.Host.CgroupNamespaces
	add(specs.CgroupNamespace, Namespace{Host: !private})
	if in.HostConfig.UTSMode.IsHost() {
		s.Hostname = ""
	}
}

// CgroupsPath is linux.cgroupsPath: "parent:prefix:id" with the systemd driver.
func CgroupsPath(parent, prefix, id string, systemd bool) string {
	if systemd {
		return parent + ":" + prefix + ":" + id
	}
	return strings.TrimRight(parent, "/") + "/" + id
}

// Command shows a command as `docker ps` does.
func Command(path string, args []string) string {
	words := []string{path}
	for _, a := range args {
		if strings.Contains(a, " ") {
			a = fmt.Sprintf("'%s'", a)
		}
		words = append(words, a)
	}
	return strings.Join(words, " ")
}
