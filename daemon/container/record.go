package container

import (
	"time"

	containertypes "github.com/docker/docker/api/types/container"
	networktypes "github.com/docker/docker/api/types/network"
	"github.com/docker/go-connections/nat"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"gantry/daemon/health"
	"gantry/daemon/link"
	"gantry/daemon/mountpoint"
	"gantry/daemon/userns"
)

// Record is what a container is, apart from what it does. It is never changed in
// place: rename and update put a copy in its stead.
type Record struct {
	ID       string
	Name     string // without the leading slash
	Created  time.Time
	Path     string
	Args     []string
	Config   *containertypes.Config     // merged with the image's
	Host     *containertypes.HostConfig // with its defaults
	Image    digest.Digest              // "" without one
	Manifest *ocispec.Descriptor        `json:",omitempty"`
	Platform ocispec.Platform
	// IDs are those of its user namespace; the zero value is in the host's. They are the
	// container's for good, whatever the configuration becomes.
	IDs userns.Mapping `json:",omitzero"`
	// Endpoints are the networks asked for, by name.
	Endpoints map[string]*networktypes.EndpointSettings
	Mounts    []mountpoint.Point
	Links     []link.Link `json:",omitempty"` // to others on the default bridge
	LogPath   string      `json:",omitempty"` // "" with driver none
}

// State is what a container does. It is copied as a whole.
type State struct {
	Status       Status
	Pid          int
	ExitCode     int
	OOMKilled    bool
	Error        string // of the last start, stop or removal that failed
	StartedAt    time.Time
	FinishedAt   time.Time
	RestartCount int
	RestartWait  time.Duration // before the last restart
	// Stopped: a user stopped it, so the next daemon start leaves unless-stopped alone.
	Stopped bool
	// Started: it has run at least once.
	Started bool
	// RemoveVolumes: the removal that has begun takes the anonymous volumes along.
	RemoveVolumes bool `json:",omitempty"`
	Network       Network
	// Health is nil without a check, and before the first start. What is saved is what it
	// was at the last change of something else.
	Health *health.Health `json:",omitempty"`
	// Exit is of a run that has ended and is being released; nil before and after.
	Exit *Ended `json:",omitempty"`
}

// Ended is how a run ended, kept for a daemon that is cut off between the release of
// its task and the change of Status.
type Ended struct {
	Code uint32
	At   time.Time
	OOM  bool
}

// Network is what the network gave to the last or present run.
type Network struct {
	NetnsPath  string                                    `json:",omitempty"`
	Ports      nat.PortMap                               `json:",omitempty"`
	Networks   map[string]*networktypes.EndpointSettings `json:",omitempty"`
	HostsPath  string                                    `json:",omitempty"`
	NamePath   string                                    `json:",omitempty"`
	ResolvPath string                                    `json:",omitempty"`
}

// Snapshot is a container at one moment: what list and inspect read. Nothing in it is
// ever changed.
type Snapshot struct {
	*Record
	State
}
