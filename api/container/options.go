// Package container holds the options that cross from router/container and
// router/exec to the daemon where Docker's own types have none.
package container

import (
	"io"

	containertypes "github.com/docker/docker/api/types/container"
	networktypes "github.com/docker/docker/api/types/network"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"gantry/api/stream"
)

// CreateOptions is a decoded POST /containers/create.
type CreateOptions struct {
	Name             string // "" asks for a random one
	Platform         *ocispec.Platform
	Config           *containertypes.Config
	HostConfig       *containertypes.HostConfig
	NetworkingConfig *networktypes.NetworkingConfig
	// Version is the API version of the request, for rules that follow it.
	Version string
	// TopReadOnly makes read-only binds read-only at their top alone.
	TopReadOnly bool
	// Warnings found while decoding, to be put before the daemon's own.
	Warnings []string
}

// AttachOptions is a decoded POST /containers/{id}/attach.
type AttachOptions struct {
	Stdin, Stdout, Stderr bool
	Logs                  bool   // replay what was logged so far
	Stream                bool   // then stay attached
	DetachKeys            string // "" is the daemon's default, ctrl-p ctrl-q
	Open                  stream.Opener
}

// LogsOptions is a decoded GET /containers/{id}/logs.
type LogsOptions struct {
	containertypes.LogsOptions
	// Open commits the answer; both writers end up in the response body, framed unless tty.
	Open func(tty bool) (stdout, stderr io.Writer, err error)
}

// ExecStartOptions is a decoded POST /exec/{id}/start.
type ExecStartOptions struct {
	Detach      bool
	Tty         bool
	ConsoleSize *[2]uint      // height, width
	Open        stream.Opener // nil when Detach
}

// Archive is a file or directory of a container's, to be read once. Close frees what it
// is read from.
type Archive interface {
	// Pack writes it as a tar.
	Pack(w io.Writer) error
	io.Closer
}
