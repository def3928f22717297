package container

import (
	"strings"

	"github.com/containerd/typeurl/v2"
	containertypes "github.com/docker/docker/api/types/container"

	"gantry/api/errdefs"
	"gantry/daemon/host"
	"gantry/daemon/spec"
	"gantry/daemon/userns"
)

// Config is what containers get and where they are kept; Reconfigure replaces some of
// it. Paths are absolute.
type Config struct {
	DataRoot string // of the daemon, which containers see with care
	Root     string // of the containers' own directories: data-root/containers
	IORoot   string // of the stream sockets: exec-root/io
	Sources  string // of mounts under way into containers: exec-root/sources
	BootID   string // of the running kernel; "" reads it
	Hostname string // of the machine, for host networking; "" asks the kernel
	// Remap is whose ids new containers have, but for those with --userns=host.
	Remap userns.Mapping

	Snapshotter    string             // "" is overlayfs
	NoMappedLayers bool               // the core makes layers with the host's ids
	HeedExits      bool               // the core's events are all that tells how a task ended whose shim has died, and no KILL ends a stuck one
	Runtimes       map[string]Runtime // by name
	DefaultRuntime string

	CgroupParent  string // "" is /gantry, or system.slice with systemd
	CgroupPrefix  string // of scopes with systemd; "" is gantry
	SystemdCgroup bool

	Defaults        spec.Defaults
	Ulimits         []*containertypes.Ulimit
	Init            bool
	InitPath        string // of gantry-init on the host
	NoNewPrivileges bool
	SeccompProfile  string // "" or builtin, unconfined, or the profile's JSON
	Log             containertypes.LogConfig

	Host host.Features
	// Experimental offers checkpoints.
	Experimental bool
}

// Runtime is a shim by the core's name of it, with options.
type Runtime struct {
	Name    string
	Path    string // of the shim's binary; "" has the core find it by the name
	Options typeurl.Any
	// Foreign shims know no log or stream URI of ours.
	Foreign bool
	// TopReadOnly runtimes know no recursive read-only mounts (the option rro).
	TopReadOnly bool
}

func (c Config) withDefaults() Config {
	if c.Snapshotter == "" {
		c.Snapshotter = "overlayfs"
	}
	if c.CgroupPrefix == "" {
		c.CgroupPrefix = "gantry"
	}
	if c.CgroupParent == "" {
		c.CgroupParent = "/gantry"
		if c.SystemdCgroup {
			c.CgroupParent = "system.slice"
		}
	}
	if c.Log.Type == "" {
		c.Log.Type = "json-file"
	}
	return c
}

// live is the part of the configuration that a reload replaces.
type live struct {
	Runtimes       map[string]Runtime
	DefaultRuntime string
	Defaults       spec.Defaults
}

// find is the runtime of a name: a configured one, or a shim by the core's name of it,
// which the core looks for in its PATH. No name is a path, else whoever reaches the API
// could have any program run.
func (l *live) find(name string) (Runtime, bool) {
	if rt, ok := l.Runtimes[name]; ok {
		return rt, true
	}
	prefix, _, dotted := strings.Cut(name, ".")
	if !dotted || prefix == "" || strings.Contains(name, "/") {
		return Runtime{}, false
	}
	return Runtime{Name: name, Foreign: true, TopReadOnly: true}, true
}

// Reconfigure replaces the runtimes and what a container gets that asks for nothing
// else; all else of cfg is constant. Containers that are there keep what they were made
// with, and find their runtime anew at each start.
func (s *Service) Reconfigure(cfg Config) {
	s.live.Store(&live{Runtimes: cfg.Runtimes, DefaultRuntime: cfg.DefaultRuntime, Defaults: cfg.Defaults})
}

// runtime is the shim of a container's runtime, which may have gone since it was made.
func (s *Service) runtime(c *Snapshot) (Runtime, error) {
	rt, ok := s.live.Load().find(c.Host.Runtime)
	if !ok {
		return rt, errdefs.InvalidArgument("unknown or invalid runtime name: %s", c.Host.Runtime)
	}
	return rt, nil
}
