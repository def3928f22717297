package image

import (
	"context"
	"errors"
	"fmt"

	"github.com/containerd/platforms"
	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"gantry/api/errdefs"
	"gantry/libctr/core/image"
	coremanifest "gantry/libctr/core/manifest"
)

// manifest is one platform of an image, read from the store.
type manifest struct {
	desc   ocispec.Descriptor
	body   ocispec.Manifest
	config dockerspec.DockerOCIImage
}

// platform prefers what the index says over what the config says.
func (m *manifest) platform() ocispec.Platform {
	if m.desc.Platform != nil {
		return *m.desc.Platform
	}
	return m.config.Platform
}

// isPseudo says whether a manifest describes something other than a file system: an
// attestation, or an artifact without a single layer.
func isPseudo(desc ocispec.Descriptor, body *ocispec.Manifest) bool {
	if isAttestation(desc) {
		return true
	}
	if p := desc.Platform; p != nil && p.OS == "unknown" && p.Architecture == "unknown" {
		return true
	}
	if body == nil || len(body.Layers) == 0 {
		return false
	}
	for _, l := range body.Layers {
		if coremanifest.IsLayer(l.MediaType) {
			return false
		}
	}
	return true
}

func isAttestation(desc ocispec.Descriptor) bool {
	_, ok := desc.Annotations[annotationReferenceType]
	return ok
}

// readManifest reads a manifest without its config.
func (s *Service) readManifest(ctx context.Context, desc ocispec.Descriptor) (*ocispec.Manifest, error) {
	var body ocispec.Manifest
	if err := s.readJSON(ctx, desc, &body); err != nil {
		return nil, fmt.Errorf("read manifest %s: %w", desc.Digest, err)
	}
	return &body, nil
}

// readImage reads a manifest and its config.
func (s *Service) readImage(ctx context.Context, desc ocispec.Descriptor) (*manifest, error) {
	body, err := s.readManifest(ctx, desc)
	if err != nil {
		return nil, err
	}
	m := &manifest{desc: desc, body: *body}
	if err := s.readJSON(ctx, body.Config, &m.config); err != nil {
		return nil, fmt.Errorf("read config of %s: %w", desc.Digest, err)
	}
	return m, nil
}

// children are what a manifest or index points to; other blobs have none.
func (s *Service) children(ctx context.Context, desc ocispec.Descriptor) ([]ocispec.Descriptor, error) {
	switch {
	case coremanifest.IsIndex(desc.MediaType):
		var index ocispec.Index
		err := s.readJSON(ctx, desc, &index)
		return index.Manifests, err
	case coremanifest.IsManifest(desc.MediaType):
		body, err := s.readManifest(ctx, desc)
		if err != nil {
			return nil, err
		}
		return manifestChildren(body), nil
	}
	return nil, nil
}

func manifestChildren(body *ocispec.Manifest) []ocispec.Descriptor {
	return append([]ocispec.Descriptor{body.Config}, body.Layers...)
}

// maxDepth bounds indexes in indexes.
const maxDepth = 8

// walk calls fn once for every descriptor below and including root, parents first. A
// document that is not in the store has no children. errStop ends the walk early.
func (s *Service) walk(ctx context.Context, root ocispec.Descriptor, fn func(ocispec.Descriptor) error) error {
	seen := map[digest.Digest]bool{}
	var visit func(ocispec.Descriptor, int) error
	visit = func(desc ocispec.Descriptor, depth int) error {
		if seen[desc.Digest] {
			return nil
		}
		if depth > maxDepth {
			return errdefs.InvalidArgument("image %s is nested deeper than %d", root.Digest, maxDepth)
		}
		seen[desc.Digest] = true
		if err := fn(desc); err != nil {
			return err
		}
		children, err := s.children(ctx, desc)
		if err != nil && !errdefs.IsNotFound(err) {
			return err
		}
		for _, c := range children {
			if err := visit(c, depth+1); err != nil {
				return err
			}
		}
		return nil
	}
	if err := visit(root, 0); !errors.Is(err, errStop) {
		return err
	}
	return nil
}

// manifests lists the image manifests that target leads to, present or not.
func (s *Service) manifests(ctx context.Context, target ocispec.Descriptor) ([]ocispec.Descriptor, error) {
	if !coremanifest.IsManifest(target.MediaType) && !coremanifest.IsIndex(target.MediaType) {
		return nil, errdefs.InvalidArgument("%s is neither a manifest nor an index: %s", target.Digest, target.MediaType)
	}
	var out []ocispec.Descriptor
	err := s.walk(ctx, target, func(d ocispec.Descriptor) error {
		if coremanifest.IsManifest(d.MediaType) {
			out = append(out, d)
		}
		return nil
	})
	return out, err
}

// best returns the platform of the image that the request means, among those present.
func (s *Service) best(ctx context.Context, img image.Image, p *ocispec.Platform) (*manifest, error) {
	descs, err := s.manifests(ctx, img.Target)
	if err != nil {
		return nil, err
	}
	pm := s.matcher(p)
	var best *manifest
	for _, d := range descs {
		if isPseudo(d, nil) || d.Platform != nil && !pm.Match(*d.Platform) {
			continue
		}
		m, err := s.readImage(ctx, d)
		if errdefs.IsNotFound(err) {
			continue // another platform, never fetched
		}
		if err != nil {
			return nil, err
		}
		if !isPseudo(d, &m.body) && better(pm, m, best) {
			best = m
		}
	}
	if best == nil {
		return nil, noPlatform(familiarName(img), p)
	}
	return best, nil
}

func better(pm platforms.MatchComparer, m, than *manifest) bool {
	return pm.Match(m.platform()) && (than == nil || pm.Less(m.platform(), than.platform()))
}
