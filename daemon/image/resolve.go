package image

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/distribution/reference"
	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/identity"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"gantry/api/errdefs"
	"gantry/libctr/core/image"
)

// Image is one platform of an image, ready to make a container of.
type Image struct {
	ID       digest.Digest // of Target
	Name     string        // of the record
	Target   ocispec.Descriptor
	Manifest ocispec.Descriptor
	Config   dockerspec.DockerOCIImage
	ChainID  digest.Digest // "" for an image without layers
}

// Resolve finds an image by name, tag, digest, id or short id, and the platform in it:
// p, or when that is nil the best for the host. NotFound when there is none,
// InvalidArgument when ref is no reference.
func (s *Service) Resolve(ctx context.Context, ref string, p *ocispec.Platform) (*Image, error) {
	rec, err := s.find(ctx, ref)
	if err != nil {
		return nil, err
	}
	m, err := s.best(ctx, rec, p)
	if err != nil {
		return nil, err
	}
	return &Image{
		ID: rec.Target.Digest, Name: rec.Name, Target: rec.Target,
		Manifest: m.desc, Config: m.config, ChainID: identity.ChainID(m.config.RootFS.DiffIDs),
	}, nil
}

// find returns the record that ref means. A name wins over the beginning of an id.
func (s *Service) find(ctx context.Context, ref string) (image.Image, error) {
	parsed, err := reference.ParseAnyReference(ref)
	if err != nil {
		return image.Image{}, errdefs.WithClass(errdefs.ErrInvalidArgument, err)
	}
	if digested, ok := parsed.(reference.Digested); ok {
		return s.findDigest(ctx, parsed, digested.Digest())
	}
	name := reference.TagNameOnly(parsed.(reference.Named)).String()
	img, err := s.Images.Get(ctx, name)
	if err == nil || !errdefs.IsNotFound(err) {
		return img, err
	}
	if hex := truncatedID(ref); hex != "" {
		return s.findPrefix(ctx, parsed, hex)
	}
	return image.Image{}, noSuchImage(parsed)
}

// findDigest takes any record of that target, of the same repository if ref names one.
func (s *Service) findDigest(ctx context.Context, ref reference.Reference, d digest.Digest) (image.Image, error) {
	imgs, err := s.byTarget(ctx, d)
	if err != nil {
		return image.Image{}, err
	}
	named, isNamed := ref.(reference.Named)
	for _, img := range imgs {
		if !isNamed {
			return img, nil
		}
		if other, err := reference.ParseNormalizedNamed(img.Name); err == nil && other.Name() == named.Name() {
			return img, nil
		}
	}
	return image.Image{}, noSuchImage(ref)
}

func (s *Service) findPrefix(ctx context.Context, ref reference.Reference, hex string) (image.Image, error) {
	imgs, err := s.byPrefix(ctx, hex)
	if err != nil {
		return image.Image{}, err
	}
	if len(imgs) == 0 {
		return image.Image{}, noSuchImage(ref)
	}
	for _, img := range imgs[1:] {
		if img.Target.Digest != imgs[0].Target.Digest {
			return image.Image{}, errAmbiguous()
		}
	}
	return imgs[0], nil
}

func errAmbiguous() error { return errdefs.NotFound("ambiguous reference") }

func (s *Service) byTarget(ctx context.Context, d digest.Digest) ([]image.Image, error) {
	imgs, err := s.Images.List(ctx, "target.digest=="+d.String())
	if err != nil {
		return nil, fmt.Errorf("list images of %s: %w", d, err)
	}
	return imgs, nil
}

func (s *Service) byPrefix(ctx context.Context, hex string, more ...string) ([]image.Image, error) {
	pattern := fmt.Sprintf("^sha256:%s[0-9a-f]{%d}$", hex, 64-len(hex))
	imgs, err := s.Images.List(ctx, append(more, "target.digest~="+strconv.Quote(pattern))...)
	if err != nil {
		return nil, fmt.Errorf("list images of %s: %w", hex, err)
	}
	return imgs, nil
}

var errChanged = errors.New("consistency error: data changed during operation, retry")

// findAll returns the record that ref names, nil when ref is a digest or an id that no
// record has as its name, and all records of the same target.
func (s *Service) findAll(ctx context.Context, ref string) (*image.Image, []image.Image, error) {
	for range 3 {
		img, all, err := s.findAllOnce(ctx, ref)
		if !errors.Is(err, errChanged) {
			return img, all, err
		}
	}
	return nil, nil, errChanged
}

func (s *Service) findAllOnce(ctx context.Context, ref string) (*image.Image, []image.Image, error) {
	parsed, err := reference.ParseAnyReference(ref)
	if err != nil {
		return nil, nil, errdefs.WithClass(errdefs.ErrInvalidArgument, err)
	}
	img, target, err := s.findTarget(ctx, parsed, ref)
	if err != nil {
		return nil, nil, err
	}
	all, err := s.byTarget(ctx, target)
	if err != nil {
		return nil, nil, err
	}
	switch {
	case img == nil && len(all) == 0:
		return nil, nil, noSuchImage(parsed)
	case img != nil && !hasName(all, img.Name):
		return nil, nil, errChanged // removed or moved between the two reads
	}
	return img, all, nil
}

func hasName(imgs []image.Image, name string) bool {
	for _, img := range imgs {
		if img.Name == name {
			return true
		}
	}
	return false
}

// findTarget returns the record that ref names exactly, if any, and the digest it means.
func (s *Service) findTarget(ctx context.Context, parsed reference.Reference, ref string) (*image.Image, digest.Digest, error) {
	digested, isDigested := parsed.(reference.Digested)
	named, isNamed := parsed.(reference.Named)
	if !isNamed {
		return nil, digested.Digest(), nil
	}
	name := reference.TagNameOnly(named).String()
	img, err := s.Images.Get(ctx, name)
	switch {
	case err == nil:
		return &img, img.Target.Digest, nil
	case !errdefs.IsNotFound(err):
		return nil, "", err
	case isDigested:
		return nil, digested.Digest(), nil
	}
	if hex := truncatedID(ref); hex != "" {
		found, err := s.findPrefix(ctx, parsed, hex)
		return nil, found.Target.Digest, err
	}
	return nil, "", noSuchImage(parsed)
}
