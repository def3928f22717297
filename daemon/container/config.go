package container

import (
	"github.com/containerd/typeurl/v2"
	containertypes "github.com/docker/docker/api/types/container"

	"gantry/daemon/host"
	"gantry/daemon/spec"
)

// Config is constant after New. Paths are absolute.
type Config struct {
	Root     string // of the containers' own directories: data-root/containers
	IORoot   string // of the stream sockets: exec-root/io
	BootID   string // of the running kernel; "" reads it
	Hostname string // of the machine, for host networking; "" asks the kernel

	Snapshotter    string             // "" is overlayfs
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
}

// Runtime is a shim by the core's name of it, with options.
type Runtime struct {
	Name    string
	Options typeurl.Any
	// Foreign shims know no log or stream URI of ours.
	Foreign bool
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
