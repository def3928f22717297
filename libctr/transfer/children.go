package transfer

import (
	"context"
	"fmt"
	"slices"

	"github.com/containerd/platforms"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"gantry/api/errdefs"
	"gantry/libctr/core/content"
	"gantry/libctr/core/manifest"
	"gantry/libctr/core/transfer"
)

// choice says what of an image is taken.
type choice struct {
	platforms   platforms.MatchComparer
	allMetadata bool
	limit       int
}

func choiceOf(s *transfer.ImageStore) choice {
	c := choice{platforms: platforms.All, allMetadata: s.AllMetadata, limit: s.ManifestLimit}
	if len(s.Platforms) > 0 {
		c.platforms = platforms.Ordered(s.Platforms...)
	}
	return c
}

// of are the children of d that are taken, of all that it has.
func (c choice) of(d ocispec.Descriptor, all []ocispec.Descriptor) ([]ocispec.Descriptor, error) {
	out := slices.Clone(all)
	switch {
	case !c.allMetadata:
		out = slices.DeleteFunc(out, func(child ocispec.Descriptor) bool {
			return child.Platform != nil && !c.platforms.Match(*child.Platform)
		})
	case manifest.IsManifest(d.MediaType) && d.Platform != nil && !c.platforms.Match(*d.Platform):
		out = slices.DeleteFunc(out, func(child ocispec.Descriptor) bool { return !manifest.IsImageConfig(child.MediaType) })
	}
	if c.limit <= 0 || !manifest.IsIndex(d.MediaType) {
		return out, nil
	}
	if len(out) == 0 {
		return nil, errdefs.NotFound("no match for platform in manifest")
	}
	slices.SortStableFunc(out, manifest.ByPlatform(c.platforms))
	return out[:min(c.limit, len(out))], nil
}

// children reads what d names, ties all of it to d, and returns what is taken.
func (s *Service) children(ctx context.Context, d ocispec.Descriptor, c choice) ([]ocispec.Descriptor, error) {
	all, err := manifest.ReadChildren(ctx, s.cfg.Content, d)
	if err != nil || len(all) == 0 {
		return nil, err
	}
	if len(all) > maxDescriptors {
		return nil, errdefs.ResourceExhausted("%s names %d descriptors (limit %d)", d.Digest, len(all), maxDescriptors)
	}
	for _, child := range all {
		if err := child.Digest.Validate(); err != nil {
			return nil, errdefs.InvalidArgument("%s: digest %q: %w", d.Digest, child.Digest, err)
		}
	}
	if err := s.label(ctx, d, manifest.Labels(all)); err != nil {
		return nil, err
	}
	return c.of(d, all)
}

// label adds labels to a blob, if any of them is new.
func (s *Service) label(ctx context.Context, d ocispec.Descriptor, labels map[string]string) error {
	if err := content.AddLabels(ctx, s.cfg.Content, d.Digest, labels); err != nil {
		return fmt.Errorf("label %s: %w", d.Digest, err)
	}
	return nil
}
