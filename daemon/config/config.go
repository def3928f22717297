// Package config is the engine's configuration: defaults, then the file
// daemon.json, then flags become one Config, which is checked whole and then
// constant. Names, meanings and texts are dockerd's; the default places are
// Gantry's own, so that both engines can be installed side by side.
package config

import (
	"net/netip"
	"path/filepath"

	containertypes "github.com/docker/docker/api/types/container"

	"gantry/api/rest"
)

// Default places.
const (
	DefaultHost       = "unix:///run/gantry/docker.sock"
	DefaultConfigFile = "/etc/gantry/daemon.json"
	DefaultDataRoot   = "/var/lib/gantry"
	DefaultExecRoot   = "/run/gantry"
	DefaultPidFile    = "/run/gantry/gantry.pid"
	DefaultBridge     = "gantry0"
	DefaultRuntime    = "gantry"
	DefaultGroup      = "docker" // of the socket; root's only where there is none
)

// BuiltinRuntimes are the names of the built-in runtime, unless an entry of "runtimes"
// has one of them.
var BuiltinRuntimes = []string{DefaultRuntime, "runc", "io.containerd.runc.v2", "io.containerd.gantry.v2"}

// Config is what the engine runs with. Paths are absolute once Load has returned.
type Config struct {
	// Listening and access.
	Hosts         []string // unix://, tcp://, fd://
	Group         string   // of unix sockets
	TLS           Bool
	TLSVerify     Bool
	TLSCACert     string
	TLSCert       string
	TLSKey        string
	MinAPIVersion string
	PidFile       string
	MetricsAddr   string   // host:port of /metrics, "" for none
	Authorization []string // plugins, in the order in which they are asked

	// Places and state.
	DataRoot        string
	ExecRoot        string
	ConfigFile      string
	Containerd      string // socket of the core that the engine stands on; "" is one of its own, in its process
	Namespace       string // in the core
	PluginNamespace string // in the core, of managed plugins; told to clients only
	StorageDriver   string // snapshotter: overlayfs or native
	ShutdownTimeout int    // seconds, -1 waits for ever
	LiveRestore     bool
	Init            bool
	InitPath        string // "" is gantry-init beside the daemon

	// The daemon's own log.
	Debug     bool
	LogLevel  string
	LogFormat string
	RawLogs   bool // no colours in the text format, which has none here

	Experimental bool

	// Defaults for containers.
	LogDriver       string
	LogOpts         map[string]string
	DefaultRuntime  string
	Runtimes        map[string]Runtime
	Ulimits         map[string]*containertypes.Ulimit
	ShmSize         int64 // bytes
	IpcMode         string
	CgroupnsMode    string // "" is private on cgroup v2, host on v1
	CgroupParent    string // "" derives from ExecRoot
	CgroupDriver    string // from exec-opts: cgroupfs or systemd; see defaultCgroupDriver
	SeccompProfile  string
	NoNewPrivileges bool
	UsernsRemap     string // user[:group] whose subordinate ids containers have; "" is none
	Labels          []string
	Features        map[string]bool
	CDISpecDirs     []string // with specifications of devices; none where CDI is off

	// Network.
	Bridge          string // "" is DefaultBridge, "none" is no default network
	BIP             string // address/prefix of the default bridge
	AddressPools    []AddressPool
	MTU             int
	DefaultIP       netip.Addr // host address for published ports
	IPForward       bool
	IPForwardNoDrop bool
	IPMasq          bool
	IPTables        bool // false: touch no firewall rules at all
	IP6Tables       bool
	FirewallBackend string
	UserlandProxy   bool
	DNS             []string
	DNSOpts         []string
	DNSSearch       []string
	HostGatewayIPs  []netip.Addr

	// Registry.
	Mirrors          []string
	Insecure         []string // names, host:port or CIDR
	MaxDownloads     int
	MaxUploads       int
	DownloadAttempts int
	HTTPProxy        string
	HTTPSProxy       string
	NoProxy          string

	// Validate asks to check the configuration and leave.
	Validate bool
	// Version asks to print the version and leave.
	Version bool

	// Warnings are what is accepted but not acted upon.
	Warnings []string
}

// Runtime is one entry of "runtimes": a runc-like binary with arguments for our
// shim, or a shim by its type and its options.
type Runtime struct {
	Path    string         `json:"path,omitempty"`
	Args    []string       `json:"runtimeArgs,omitempty"`
	Type    string         `json:"runtimeType,omitempty"`
	Options map[string]any `json:"options,omitempty"`
}

// AddressPool cuts Base into networks of prefix length Size.
type AddressPool struct {
	Base netip.Prefix `json:"base"`
	Size int          `json:"size"`
}

// Bool is a flag that knows whether it was given.
type Bool struct{ Set, Value bool }

// CoreSocket is where the core is reached.
func (c *Config) CoreSocket() string {
	if c.Containerd != "" {
		return c.Containerd
	}
	return filepath.Join(c.ExecRoot, "core", "core.sock")
}

// New returns the defaults.
func New() *Config {
	return &Config{
		Group:            DefaultGroup,
		MinAPIVersion:    rest.MinVersion,
		PidFile:          DefaultPidFile,
		DataRoot:         DefaultDataRoot,
		ExecRoot:         DefaultExecRoot,
		ConfigFile:       DefaultConfigFile,
		Namespace:        "moby",
		PluginNamespace:  "plugins.moby",
		ShutdownTimeout:  15,
		LiveRestore:      true,
		LogLevel:         "info",
		LogFormat:        "text",
		LogDriver:        "json-file",
		LogOpts:          map[string]string{},
		DefaultRuntime:   DefaultRuntime,
		Runtimes:         map[string]Runtime{},
		Ulimits:          map[string]*containertypes.Ulimit{},
		ShmSize:          64 << 20,
		IpcMode:          "private",
		SeccompProfile:   "builtin",
		Features:         map[string]bool{},
		CDISpecDirs:      []string{"/etc/cdi", "/var/run/cdi"},
		MTU:              1500,
		DefaultIP:        netip.IPv4Unspecified(),
		IPForward:        true,
		IPMasq:           true,
		IPTables:         true,
		IP6Tables:        true,
		UserlandProxy:    true,
		MaxDownloads:     3,
		MaxUploads:       5,
		DownloadAttempts: 5,
	}
}
