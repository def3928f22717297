// Package manifest reads what images are made of: manifests, indexes and the media types
// of OCI and Docker.
package manifest

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"github.com/containerd/platforms"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"gantry/api/errdefs"
	"gantry/libctr/core/content"
)

// MaxSize bounds a manifest, an index or a config, in bytes.
const MaxSize = 8 << 20

// Docker's media types, distribution's image manifest version 2, schema 2.
const (
	DockerManifest = "application/vnd.docker.distribution.manifest.v2+json"
	DockerList     = "application/vnd.docker.distribution.manifest.list.v2+json"
	DockerConfig   = "application/vnd.docker.container.image.v1+json"
	DockerSchema1  = "application/vnd.docker.distribution.manifest.v1+prettyjws"

	dockerLayer   = "application/vnd.docker.image.rootfs.diff.tar"
	dockerForeign = "application/vnd.docker.image.rootfs.foreign.diff.tar"
	erofsLayer    = "application/vnd.erofs.layer.v1"
	inToto        = "application/vnd.in-toto+json"
	checkpoint    = "application/vnd.containerd.container.criu.checkpoint.criu.tar"
	checkpointCfg = "application/vnd.containerd.container.checkpoint.config.v1+proto"
)

// IsManifest and the rest say what a media type is.
func IsManifest(mt string) bool { return mt == ocispec.MediaTypeImageManifest || mt == DockerManifest }

func IsIndex(mt string) bool { return mt == ocispec.MediaTypeImageIndex || mt == DockerList }

func IsImageConfig(mt string) bool { return mt == ocispec.MediaTypeImageConfig || mt == DockerConfig }

// isConfig also knows the configs of containerd's checkpoints.
func isConfig(mt string) bool { return IsImageConfig(mt) || mt == checkpoint || mt == checkpointCfg }

func IsLayer(mt string) bool {
	if strings.HasPrefix(mt, "application/vnd.oci.image.layer.") {
		return true
	}
	base, _, _ := strings.Cut(mt, "+")
	switch strings.TrimSuffix(strings.TrimSuffix(base, ".gzip"), ".zstd") {
	case dockerLayer, dockerForeign, erofsLayer:
		return true
	}
	return false
}

// IsSchema1 tells the manifests of distribution's first schema, which nothing here reads.
func IsSchema1(mt string) bool {
	return strings.HasPrefix(mt, "application/vnd.docker.distribution.manifest.v1+") // json or prettyjws
}

func isAttestation(mt string) bool { return mt == inToto }

// IsNonDistributable says whether the layer is not to be moved with its image.
func IsNonDistributable(mt string) bool {
	return strings.HasPrefix(mt, "application/vnd.oci.image.layer.nondistributable.") ||
		strings.HasPrefix(mt, "application/vnd.docker.image.rootfs.foreign.")
}

// Ref is the name of an ingest of the descriptor's blob, containerd's: clients find what
// they started by it.
func Ref(d ocispec.Descriptor) string {
	key := d.Digest.String()
	if name, ok := d.Annotations[ocispec.AnnotationRefName]; ok {
		key = name + "@" + key
	}
	switch mt := d.MediaType; {
	case IsManifest(mt):
		return "manifest-" + key
	case IsIndex(mt):
		return "index-" + key
	case IsLayer(mt):
		return "layer-" + key
	case isConfig(mt):
		return "config-" + key
	case isAttestation(mt):
		return "attestation-" + key
	}
	return "unknown-" + key
}

// Children are what a manifest or an index of that media type names, in its order; of
// anything else there are none. A document that is not what its media type says is
// InvalidArgument.
func Children(mediaType string, document []byte) ([]ocispec.Descriptor, error) {
	if !IsManifest(mediaType) && !IsIndex(mediaType) {
		return nil, nil
	}
	var doc struct {
		MediaType string               `json:"mediaType"`
		FSLayers  json.RawMessage      `json:"fsLayers"`
		Config    *ocispec.Descriptor  `json:"config"`
		Layers    []ocispec.Descriptor `json:"layers"`
		Manifests []ocispec.Descriptor `json:"manifests"`
	}
	if err := json.Unmarshal(document, &doc); err != nil {
		return nil, errdefs.InvalidArgument("parse %s: %w", mediaType, err)
	}
	switch {
	case len(doc.FSLayers) > 0:
		return nil, errdefs.InvalidArgument("media-type: schema 1 not supported")
	case IsManifest(mediaType) && (len(doc.Manifests) > 0 || IsIndex(doc.MediaType)):
		return nil, errdefs.InvalidArgument("media-type: expected manifest but found index (%s)", mediaType)
	case IsIndex(mediaType) && (doc.Config != nil || len(doc.Layers) > 0 || IsManifest(doc.MediaType)):
		return nil, errdefs.InvalidArgument("media-type: expected index but found manifest (%s)", mediaType)
	case IsIndex(mediaType):
		return doc.Manifests, nil
	case doc.Config == nil:
		return nil, errdefs.InvalidArgument("manifest without a config (%s)", mediaType)
	}
	return append([]ocispec.Descriptor{*doc.Config}, doc.Layers...), nil
}

// ByPlatform orders descriptors: what fits best first, what has no platform last.
func ByPlatform(m platforms.MatchComparer) func(a, b ocispec.Descriptor) int {
	return func(a, b ocispec.Descriptor) int {
		switch {
		case a.Platform == nil && b.Platform == nil:
			return 0
		case a.Platform == nil:
			return 1
		case b.Platform == nil:
			return -1
		case m.Less(*a.Platform, *b.Platform):
			return -1
		case m.Less(*b.Platform, *a.Platform):
			return 1
		}
		return 0
	}
}

// Labels are what keeps the children of a manifest or an index from being collected,
// numbered as containerd does.
func Labels(children []ocispec.Descriptor) map[string]string {
	const ref = "containerd.io/gc.ref.content."
	labels, counts := map[string]string{}, map[string]int{}
	for _, c := range children {
		key, plain := ref, false
		switch {
		case isConfig(c.MediaType):
			key, plain = ref+"config", true
		case IsManifest(c.MediaType):
			key = ref + "m."
		case IsLayer(c.MediaType):
			key = ref + "l."
		}
		n := counts[key]
		counts[key]++
		if !plain || n > 0 {
			labels[fmt.Sprintf("%s%d", key, n)] = c.Digest.String()
			continue
		}
		labels[key] = c.Digest.String()
	}
	return labels
}

// Read reads the whole blob of a manifest, an index or a config; one above MaxSize is
// ResourceExhausted.
func Read(ctx context.Context, store content.Store, d ocispec.Descriptor) ([]byte, error) {
	r, err := store.ReaderAt(ctx, d)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	if r.Size() > MaxSize {
		return nil, errdefs.ResourceExhausted("%s %s has %d bytes, more than %d", d.MediaType, d.Digest, r.Size(), MaxSize)
	}
	body := make([]byte, r.Size())
	if n, err := r.ReadAt(body, 0); n < len(body) {
		return nil, fmt.Errorf("read content %s: %w", d.Digest, unexpected(err))
	}
	return body, nil
}

func unexpected(err error) error {
	if err == io.EOF { //nolint:errorlint // io.ReaderAt's own word
		return io.ErrUnexpectedEOF
	}
	return err
}

// ReadChildren is Children of the blob in the store.
func ReadChildren(ctx context.Context, store content.Store, d ocispec.Descriptor) ([]ocispec.Descriptor, error) {
	if !IsManifest(d.MediaType) && !IsIndex(d.MediaType) {
		return nil, nil
	}
	body, err := Read(ctx, store, d)
	if err != nil {
		return nil, err
	}
	children, err := Children(d.MediaType, body)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", d.Digest, err)
	}
	return children, nil
}
