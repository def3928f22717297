package image

import (
	"context"
	"encoding/json"
	"fmt"
	"io"

	"github.com/distribution/reference"
	registrytypes "github.com/docker/docker/api/types/registry"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"gantry/api/errdefs"
	"gantry/daemon/registry"
	coremanifest "gantry/libctr/core/manifest"
)

// maxConfig bounds an image's config that is read from a registry, in bytes.
const maxConfig = 8 << 20

// Distribution tells what a registry has under a name, without pulling it: the
// descriptor of the manifest or index, and its platforms.
func (s *Service) Distribution(ctx context.Context, ref string, a *registrytypes.AuthConfig) (out registrytypes.DistributionInspect, err error) {
	named, err := reference.ParseNormalizedNamed(ref)
	if err != nil {
		return out, errdefs.WithClass(errdefs.ErrInvalidArgument, err)
	}
	repo, err := s.registries.Repository(named, registry.Auth{Credentials: a})
	if err != nil {
		return out, err
	}
	at := "latest"
	switch r := named.(type) {
	case reference.Canonical:
		at = r.Digest().String()
	case reference.NamedTagged:
		at = r.Tag()
	}
	desc, body, err := repo.Read(ctx, at)
	if err != nil {
		return out, err
	}
	out.Descriptor = ocispec.Descriptor{MediaType: desc.MediaType, Digest: desc.Digest, Size: desc.Size}
	out.Platforms, err = platformsIn(ctx, repo, desc.MediaType, body)
	return out, err
}

// platformsIn are those that an index lists, or the one that a manifest's config tells.
// A config that can't be had tells none.
func platformsIn(ctx context.Context, repo *registry.Repository, mediaType string, body []byte) ([]ocispec.Platform, error) {
	if coremanifest.IsIndex(mediaType) {
		var index ocispec.Index
		if err := json.Unmarshal(body, &index); err != nil {
			return nil, fmt.Errorf("read index: %w", err)
		}
		var all []ocispec.Platform
		for _, m := range index.Manifests {
			if m.Platform != nil {
				all = append(all, *m.Platform)
			}
		}
		return all, nil
	}
	if !coremanifest.IsManifest(mediaType) {
		return nil, nil
	}
	var m ocispec.Manifest
	if err := json.Unmarshal(body, &m); err != nil {
		return nil, fmt.Errorf("read manifest: %w", err)
	}
	p, err := configPlatform(ctx, repo, m.Config)
	if err != nil || p.OS == "" && p.Architecture == "" {
		return nil, ctx.Err()
	}
	return []ocispec.Platform{p}, nil
}

func configPlatform(ctx context.Context, repo *registry.Repository, desc ocispec.Descriptor) (p ocispec.Platform, err error) {
	rc, _, err := repo.Blob(ctx, desc, 0)
	if err != nil {
		return p, err
	}
	defer rc.Close()
	raw, err := io.ReadAll(io.LimitReader(rc, maxConfig))
	if err != nil {
		return p, err
	}
	if desc.Digest.Validate() != nil || desc.Digest.Algorithm().FromBytes(raw) != desc.Digest {
		return p, errdefs.InvalidArgument("config is not %s", desc.Digest)
	}
	return p, json.Unmarshal(raw, &p)
}
