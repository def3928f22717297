package image

import (
	"strings"

	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Docker's media types, distribution's image manifest version 2, schema 2.
const (
	mediaDockerManifest = "application/vnd.docker.distribution.manifest.v2+json"
	mediaDockerList     = "application/vnd.docker.distribution.manifest.list.v2+json"
	mediaDockerLayer    = "application/vnd.docker.image.rootfs.diff.tar"
	mediaDockerForeign  = "application/vnd.docker.image.rootfs.foreign.diff.tar"
	mediaSchema1        = "application/vnd.docker.distribution.manifest.v1+" // + json or prettyjws
)

func isManifest(mt string) bool {
	return mt == ocispec.MediaTypeImageManifest || mt == mediaDockerManifest
}

func isIndex(mt string) bool { return mt == ocispec.MediaTypeImageIndex || mt == mediaDockerList }

func isConfig(mt string) bool {
	return mt == ocispec.MediaTypeImageConfig || mt == dockerspec.DockerOCIImageMediaType
}

func isLayer(mt string) bool {
	return strings.HasPrefix(mt, "application/vnd.oci.image.layer.") ||
		strings.HasPrefix(mt, mediaDockerLayer) || isForeign(mt)
}

// isForeign says whether the layer is not to be distributed with its image.
func isForeign(mt string) bool {
	return strings.HasPrefix(mt, mediaDockerForeign) ||
		strings.HasPrefix(mt, "application/vnd.oci.image.layer.nondistributable.")
}
