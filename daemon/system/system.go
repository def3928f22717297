// Package system tells about the engine and its host as a whole: info, version, disk
// usage, registry log-in and events. It holds no state of its own besides what it was
// made with.
//
// Nothing here waits for a container: counts come from the other services' snapshots,
// and what could hang (the core, over its socket) is asked with a deadline.
package system

import (
	"cmp"
	"context"
	"log/slog"
	"net/netip"
	"sync/atomic"
	"time"

	containertypes "github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/events"
	"github.com/docker/docker/api/types/filters"
	imagetypes "github.com/docker/docker/api/types/image"
	"github.com/docker/docker/api/types/registry"
	systemtypes "github.com/docker/docker/api/types/system"
	volumetypes "github.com/docker/docker/api/types/volume"
	"golang.org/x/sync/singleflight"

	"gantry/api/rest"
	"gantry/daemon/host"
)

// Config is what the engine runs with, as far as it is told to clients. A reload replaces it whole.
// Empty values mean the engine's defaults.
type Config struct {
	ID            string // see EngineID
	DataRoot      string
	MinAPIVersion string
	Debug         bool
	Experimental  bool
	LiveRestore   bool
	Labels        []string
	Host          host.Features

	Hosts []Listener // where the API listens

	Driver       string      // of storage, "overlayfs"
	DriverStatus [][2]string // what it says of itself
	CgroupDriver string      // cgroupfs or systemd
	CgroupnsMode string      // the default of containers: private or host

	SeccompProfile  string // builtin, unconfined or a file
	NoNewPrivileges bool
	Remapped        bool // containers have user namespaces of their own

	LoggingDriver  string   // the default of containers
	LogDrivers     []string // all there are
	VolumeDrivers  []string
	NetworkDrivers []string

	DefaultRuntime string
	Runtimes       map[string]systemtypes.Runtime // as configured; the built-in one has its names by itself
	InitBinary     string

	InsecureRegistries []string // names, host:port or CIDR
	Mirrors            []string
	HTTPProxy          string
	HTTPSProxy         string
	NoProxy            string

	AddressPools    []AddressPool
	FirewallBackend string // "" tells nothing
	CDISpecDirs     []string

	CoreName      string // "gantry core", or "containerd" when that is what the engine stands on
	CoreAddress   string
	CoreNamespace string

	PluginNamespace      string   // in the core
	AuthorizationPlugins []string // in their order
}

// Listener is one address of the API.
type Listener struct {
	Proto, Addr    string // "tcp", "127.0.0.1:2375"
	TLS, TLSVerify bool
}

// AddressPool is a range from which networks take their subnets.
type AddressPool struct {
	Base netip.Prefix
	Size int // bits of the subnets' prefixes
}

// Deps are the services that are asked. Layers, Networks and Registry may be nil.
type Deps struct {
	Containers Containers
	Images     Images
	Volumes    Volumes
	Networks   Networks
	Events     Events
	Core       Core
	Layers     Layers
	Registry   Registry
	Devices    Devices // nil knows none
}

// Devices lists what containers may ask for; daemon/device.Drivers does.
type Devices interface {
	List() (found []systemtypes.DeviceInfo, warnings []string)
}

// Containers lists containers; daemon/container.Service does.
type Containers interface {
	List(ctx context.Context, o containertypes.ListOptions) ([]containertypes.Summary, error)
	Count() (running, paused, stopped int)
}

// Images lists images; daemon/image.Service does.
type Images interface {
	List(ctx context.Context, o imagetypes.ListOptions) ([]*imagetypes.Summary, error)
}

// Networks tells what keeps packets from containers; daemon/network.Service does.
type Networks interface {
	Warnings() []string
}

// Volumes lists volumes with what they hold; daemon/volume.Service does.
type Volumes interface {
	DiskUsage(ctx context.Context) ([]*volumetypes.Volume, error)
}

// Events is the feed; daemon/event.Service is.
type Events interface {
	Subscribe(ctx context.Context, since, until time.Time, f filters.Args, open func() error, emit func(events.Message) error) error
	Listeners() int
}

// Core tells its version; libctr/client.Introspection does.
type Core interface {
	Version(ctx context.Context) (version, revision string, err error)
}

// Layers tells the bytes that all images take on disk, each layer counted once.
type Layers interface {
	LayersSize(ctx context.Context) (int64, error)
}

// Registry tries credentials at the registry they name, and returns an identity token
// if it gives one. Unauthenticated when they are no good.
type Registry interface {
	Login(ctx context.Context, a *registry.AuthConfig) (token string, err error)
}

// Service implements router/system.Backend. It is safe for concurrent use.
type Service struct {
	cfg   atomic.Pointer[Config]
	deps  Deps
	log   *slog.Logger
	usage singleflight.Group // by kind: callers at the same time share one calculation
}

// New returns the service.
func New(cfg Config, deps Deps, log *slog.Logger) *Service {
	s := &Service{deps: deps, log: log}
	s.Reconfigure(cfg)
	return s
}

// Reconfigure replaces what is told of the engine's configuration.
func (s *Service) Reconfigure(cfg Config) {
	cfg = cfg.withDefaults()
	s.cfg.Store(&cfg)
}

// withDefaults fills in what is meant by an empty value.
func (c Config) withDefaults() Config {
	c.CoreName = cmp.Or(c.CoreName, "gantry core")
	c.MinAPIVersion = cmp.Or(c.MinAPIVersion, rest.MinVersion)
	c.SeccompProfile = cmp.Or(c.SeccompProfile, "builtin")
	c.CgroupDriver = cmp.Or(c.CgroupDriver, "cgroupfs")
	c.LoggingDriver = cmp.Or(c.LoggingDriver, "json-file")
	c.DefaultRuntime = cmp.Or(c.DefaultRuntime, builtinNames[0])
	if c.CgroupnsMode == "" {
		c.CgroupnsMode = string(containertypes.CgroupnsModeHost)
		if c.Host.CgroupV2 {
			c.CgroupnsMode = string(containertypes.CgroupnsModePrivate)
		}
	}
	return c
}

// Events hands out the feed; see daemon/event.
func (s *Service) Events(ctx context.Context, since, until time.Time, f filters.Args, open func() error, emit func(events.Message) error) error {
	return s.deps.Events.Subscribe(ctx, since, until, f, open, emit)
}
