package archive

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"

	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"gantry/api/compression"
)

const (
	mediaManifest = "application/vnd.docker.distribution.manifest.v2+json"
	mediaLayer    = "application/vnd.docker.image.rootfs.diff.tar"
)

// entry is one image of manifest.json.
type entry struct {
	Config   string
	RepoTags []string
	Layers   []string
}

// dockerManifest has its fields in the order in which containerd writes them, so that
// the same archive gets the same image id everywhere.
type dockerManifest struct {
	SchemaVersion int                  `json:"schemaVersion"`
	MediaType     string               `json:"mediaType"`
	Config        ocispec.Descriptor   `json:"config"`
	Layers        []ocispec.Descriptor `json:"layers"`
}

// docker makes a manifest for each image of manifest.json.
func (a *reader) docker(ctx context.Context) ([]Image, error) {
	var entries []entry
	if err := json.Unmarshal(a.documents[fileManifest], &entries); err != nil {
		return nil, fmt.Errorf("read manifest.json: %w", err)
	}
	var out []Image
	for _, e := range entries {
		img, err := a.dockerImage(ctx, e)
		if err != nil {
			return nil, fmt.Errorf("read manifest.json: %w", err)
		}
		if len(e.RepoTags) == 0 {
			out = append(out, img)
		}
		for _, tag := range e.RepoTags {
			img.Name = tag
			out = append(out, img)
		}
	}
	return out, nil
}

func (a *reader) dockerImage(ctx context.Context, e entry) (Image, error) {
	var none Image
	config, ok := a.find(e.Config)
	if !ok {
		return none, fmt.Errorf("config %q is not in the archive", e.Config)
	}
	m := dockerManifest{SchemaVersion: 2, MediaType: mediaManifest, Config: config.desc, Layers: []ocispec.Descriptor{}}
	m.Config.MediaType = dockerspec.DockerOCIImageMediaType
	for _, name := range e.Layers {
		l, ok := a.find(name)
		if !ok {
			return none, fmt.Errorf("layer %q is not in the archive", name)
		}
		l.desc.MediaType = mediaLayer
		switch l.kind {
		case compression.Gzip:
			l.desc.MediaType += ".gzip"
		case compression.Zstd:
			l.desc.MediaType += ".zstd"
		case compression.None:
			if err := a.pack(ctx, &l.desc); err != nil {
				return none, fmt.Errorf("compress layer %q: %w", name, err)
			}
		default:
			return none, fmt.Errorf("layer %q is packed with %s", name, l.kind)
		}
		m.Layers = append(m.Layers, l.desc)
	}
	p, err := json.Marshal(m)
	if err != nil {
		return none, err
	}
	desc, err := a.sink.Put(ctx, bytes.NewReader(p), "")
	desc.MediaType = mediaManifest
	return Image{Target: desc, config: m.Config}, err
}

// pack compresses a plain layer where that is wanted.
func (a *reader) pack(ctx context.Context, layer *ocispec.Descriptor) error {
	if a.compress == nil {
		return nil
	}
	packed, err := a.compress(ctx, *layer)
	packed.MediaType = mediaLayer + ".gzip"
	*layer = packed
	return err
}
