package rest

import (
	"context"

	"github.com/docker/docker/api/types/versions"

	"gantry/api/reqctx"
)

// Change is one difference between API versions: in force from Since on, absent
// before. The handlers ask by In, so that every difference that the router knows
// stands in the one table below.
type Change struct {
	Since string
	// About names the operation and what changed.
	About string
}

// In says whether the change is in force for the request of ctx. A context without
// a version is served as the newest.
func (c Change) In(ctx context.Context) bool {
	v := reqctx.Version(ctx)
	return v == "" || c.InVersion(v)
}

// InVersion says whether the change is in force in version v.
func (c Change) InVersion(v string) bool { return versions.GreaterThanOrEqualTo(v, c.Since) }

// The changes, oldest first; a test demands a transcript for each. The source is the
// version history of Docker's API documentation and what dockerd 28.5 does; where both
// differ, dockerd counts. Those of services and nodes are not here: an engine without a
// swarm answers all of them alike.
var (
	// AutoRemove: before, the client removed the container itself after a run.
	AutoRemove = Change{"1.25", "POST /containers/create: HostConfig.AutoRemove"}
	// SecurityOptionPairs: before, only the names ("seccomp", not "name=seccomp,profile=builtin").
	SecurityOptionPairs = Change{"1.25", "GET /info: SecurityOptions are key=value lists"}
	// WebSocketBinary: before, the frames were text frames.
	WebSocketBinary = Change{"1.28", "GET /containers/{id}/attach/ws: binary frames"}
	// NetworkListBrief: before, the list gave each network's containers too.
	NetworkListBrief = Change{"1.28", "GET /networks: without containers"}
	// BuildAux are the messages that carry the ids of built images.
	BuildAux = Change{"1.30", "POST /build: aux messages"}
	// WaitCondition: before, always not-running, and the headers came with the body.
	WaitCondition = Change{"1.30", "POST /containers/{id}/wait: condition; headers at once"}
	// PullPlatform is the platform query of pull and import.
	PullPlatform = Change{"1.32", "POST /images/create: platform"}
	// BuildPlatform is the platform query of a build.
	BuildPlatform = Change{"1.32", "POST /build: platform"}
	// WaitRemoveError: before, a removal that failed was told by an empty body.
	WaitRemoveError = Change{"1.34", "POST /containers/{id}/wait?condition=removed: Error in the answer"}
	// EmptyUnknown: before, an unknown kernel or operating system was "<unknown>".
	EmptyUnknown = Change{"1.39", "GET /info: KernelVersion, OperatingSystem empty when unknown"}
	// BindNonRecursive is BindOptions.NonRecursive.
	BindNonRecursive = Change{"1.40", "POST /containers/create: BindOptions.NonRecursive"}
	// KernelMemoryTCP is HostConfig.KernelMemoryTCP.
	KernelMemoryTCP = Change{"1.40", "POST /containers/create: KernelMemoryTCP"}
	// IpcPrivate: before, an empty IpcMode meant shareable.
	IpcPrivate = Change{"1.40", "POST /containers/create: the daemon's default IpcMode"}
	// UpdatePidsLimit is PidsLimit of update.
	UpdatePidsLimit = Change{"1.40", "POST /containers/{id}/update: PidsLimit"}
	// Capabilities was a set in place of the default one, in this version alone. It changes
	// what a container may do, so it is refused and not dropped.
	Capabilities = Change{"1.40", "POST /containers/create: HostConfig.Capabilities is refused"}
	// BuildOutputs is the outputs query of a build.
	BuildOutputs = Change{"1.40", "POST /build: outputs"}
	// NoCapabilities ends Capabilities: an unknown field again.
	NoCapabilities = Change{"1.41", "POST /containers/create: HostConfig.Capabilities is ignored"}
	// CgroupnsDefault: before, an empty CgroupnsMode meant host on cgroup v1.
	CgroupnsDefault = Change{"1.41", "POST /containers/create: the daemon's default CgroupnsMode"}
	// CreatePlatform is the platform query of create.
	CreatePlatform = Change{"1.41", "POST /containers/create: platform"}
	// StatsOneShot is one sample without a priming one.
	StatsOneShot = Change{"1.41", "GET /containers/{id}/stats: one-shot"}
	// NoImageFilterParam: before, `filter` was a glob on repository names.
	NoImageFilterParam = Change{"1.41", "GET /images/json: filter removed in favour of filters"}
	// StopSignal is the signal query of stop and restart.
	StopSignal = Change{"1.42", "POST /containers/{id}/stop and /restart: signal"}
	// BindCreateMountpoint is BindOptions.CreateMountpoint.
	BindCreateMountpoint = Change{"1.42", "POST /containers/create: BindOptions.CreateMountpoint"}
	// MountOptionsChecked: before, options of another mount type were ignored.
	MountOptionsChecked = Change{"1.42", "POST /containers/create: options must fit the mount's type"}
	// ConsoleSize is the initial size of a TTY; Linux daemons ignored it before.
	ConsoleSize = Change{"1.42", "POST /containers/create, /containers/{id}/exec, /exec/{id}/start: ConsoleSize"}
	// NoKernelMemory: from here the value is ignored.
	NoKernelMemory = Change{"1.42", "POST /containers/create and /update, GET /info: KernelMemory removed"}
	// StreamMediaTypes: before, framed streams said raw-stream too.
	StreamMediaTypes = Change{"1.42", "attach, exec start, logs: Content-Type multiplexed-stream when framed"}
	// WebSocketStreams: before, all three streams were attached.
	WebSocketStreams = Change{"1.42", "GET /containers/{id}/attach/ws: stdin, stdout, stderr"}
	// SharedSize is the shared-size query of the image list.
	SharedSize = Change{"1.42", "GET /images/json: shared-size"}
	// DiskUsageTypes is the type query; before, everything was counted.
	DiskUsageTypes = Change{"1.42", "GET /system/df: type"}
	// BuildCacheParents replaces BuildCache.Parent, and BuilderSize is gone.
	BuildCacheParents = Change{"1.42", "GET /system/df: BuildCache.Parents for Parent, no BuilderSize"}
	// PruneAnonymous: before, named volumes were pruned as well.
	PruneAnonymous = Change{"1.42", "POST /volumes/prune: anonymous volumes only, unless filter all"}
	// ClusterVolumes are volumes of a swarm.
	ClusterVolumes = Change{"1.42", "/volumes: ClusterVolumeSpec"}
	// Annotations is HostConfig.Annotations.
	Annotations = Change{"1.43", "POST /containers/create: Annotations"}
	// EmptyRepoTags: before, an image without a name had "<none>:<none>".
	EmptyRepoTags = Change{"1.43", "GET /images/json: no <none> names"}
	// HealthStartInterval is Healthcheck.StartInterval.
	HealthStartInterval = Change{"1.44", "POST /containers/create: Healthcheck.StartInterval"}
	// ReadOnlyRecursive: before, read-only binds were not recursively so.
	ReadOnlyRecursive = Change{"1.44", "POST /containers/create: read-only binds are recursively read-only"}
	// SeveralEndpoints: before, more than one endpoint was refused.
	SeveralEndpoints = Change{"1.44", "POST /containers/create: several endpoints"}
	// EndpointMacAddress replaces the container's MacAddress.
	EndpointMacAddress = Change{"1.44", "POST /containers/create: MacAddress of an endpoint"}
	// NoVirtualSize: before, VirtualSize repeated Size.
	NoVirtualSize = Change{"1.44", "GET /images/json, /images/{name}/json, /system/df: no VirtualSize"}
	// CreatedOmitted: before, an image without a date had the zero time.
	CreatedOmitted = Change{"1.44", "GET /images/{name}/json: Created omitted when unknown"}
	// RuntimeStatus is Runtimes.status.
	RuntimeStatus = Change{"1.44", "GET /info: status of Runtimes"}
	// VolumeSubpath is VolumeOptions.Subpath.
	VolumeSubpath = Change{"1.45", "POST /containers/create: VolumeOptions.Subpath"}
	// PlainAliases: before, Aliases also held the short id and the host name.
	PlainAliases = Change{"1.45", "GET /containers/{id}/json: Aliases as given"}
	// NoContainerConfig: from here Container and ContainerConfig are left out.
	NoContainerConfig = Change{"1.45", "GET /images/{name}/json: no Container, ContainerConfig"}
	// ListAnnotations is HostConfig.Annotations in the list.
	ListAnnotations = Change{"1.46", "GET /containers/json: HostConfig.Annotations"}
	// ContainerdInfo is the Containerd field.
	ContainerdInfo = Change{"1.46", "GET /info: Containerd"}
	// ImageCreateEvents are the create events of images.
	ImageCreateEvents = Change{"1.46", "GET /events: image create"}
	// PushPlatform is the platform query of push.
	PushPlatform = Change{"1.46", "POST /images/{name}/push: platform"}
	// ListManifests is the manifests query of the image list.
	ListManifests = Change{"1.47", "GET /images/json: manifests"}
	// NoNondistributable: from here two lists of RegistryConfig are left out.
	NoNondistributable = Change{"1.47", "GET /info: no AllowNondistributableArtifacts lists"}
	// SysctlNotMoved: before, a sysctl of eth0 was moved to the endpoint's options.
	SysctlNotMoved = Change{"1.48", "POST /containers/create: sysctls of an interface belong to DriverOpts"}
	// GwPriority is EndpointSettings.GwPriority.
	GwPriority = Change{"1.48", "POST /containers/create: GwPriority"}
	// ImageMounts are mounts of type image.
	ImageMounts = Change{"1.48", "POST /containers/create: mounts of type image"}
	// VolumeDriverWarning tells that VolumeDriver does not reach Mounts.
	VolumeDriverWarning = Change{"1.48", "POST /containers/create: warning about VolumeDriver with Mounts"}
	// EnableIPv4 is the field of that name.
	EnableIPv4 = Change{"1.48", "POST /networks/create: EnableIPv4"}
	// InspectManifests is the manifests query of image inspect.
	InspectManifests = Change{"1.48", "GET /images/{name}/json: manifests"}
	// ImagePlatform is the platform query of history, save and load.
	ImagePlatform = Change{"1.48", "history, save, load: platform"}
	// Descriptors are the OCI descriptors of images and of containers' images.
	Descriptors = Change{"1.48", "images, containers: Descriptor, ImageManifestDescriptor"}
	// BuildPruneSpace are bounds in bytes of what a prune leaves; before, only keep-storage.
	BuildPruneSpace = Change{"1.48", "POST /build/prune: reserved-space, max-used-space, min-free-space"}
	// InspectPlatform is the platform query of image inspect.
	InspectPlatform = Change{"1.49", "GET /images/{name}/json: platform"}
	// FirewallBackend is the field of that name.
	FirewallBackend = Change{"1.49", "GET /info: FirewallBackend"}
	// NoExpectedCommits: from here Commit.Expected is left out.
	NoExpectedCommits = Change{"1.49", "GET /info: no Expected of commits"}
	// RemovePlatforms is the platforms query of image removal.
	RemovePlatforms = Change{"1.50", "DELETE /images/{name}: platforms"}
	// ImageConfigOnly: before, Config held the fields of a container's Config too.
	ImageConfigOnly = Change{"1.50", "GET /images/{name}/json: Config has the image's fields only"}
	// DiscoveredDevices is the field of that name.
	DiscoveredDevices = Change{"1.50", "GET /info: DiscoveredDevices"}
	// NoBridgeNf: from here BridgeNfIptables and BridgeNfIp6tables are left out.
	NoBridgeNf = Change{"1.50", "GET /info: no BridgeNfIptables, BridgeNfIp6tables"}
	// ImageContainers: before, Containers was always -1.
	ImageContainers = Change{"1.51", "GET /images/json: Containers is counted"}
)
