// Package image holds the options that cross from router/image to the daemon
// where Docker's own types have none.
package image

import (
	"io"

	"github.com/docker/docker/api/types/registry"
	"github.com/docker/docker/pkg/jsonmessage"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Progress takes the objects of a progress stream, in order. The first call
// commits the answer's 200; an error returned before it becomes the answer's
// status, one returned after it becomes an errorDetail object (the router does
// both). An error of Progress itself means that the client has gone.
// It is safe for concurrent use.
type Progress func(jsonmessage.JSONMessage) error

// PullOptions is a decoded POST /images/create with fromImage.
type PullOptions struct {
	Ref      string // as given: fromImage and tag joined, not yet normalised
	All      bool   // every tag of the repository
	Platform *ocispec.Platform
	Auth     *registry.AuthConfig
	Headers  map[string][]string // X-Meta-*
}

// ImportOptions is a decoded POST /images/create with fromSrc.
type ImportOptions struct {
	Source   string    // "-" or a URL
	Body     io.Reader // the tar when Source is "-"
	Ref      string    // "" leaves the image untagged
	Message  string
	Changes  []string
	Platform *ocispec.Platform
}

// InspectOptions is a decoded GET /images/{name}/json.
type InspectOptions struct {
	Manifests bool
	Platform  *ocispec.Platform
}
