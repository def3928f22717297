package image

import (
	"context"
	"fmt"
	"io"
	"regexp"
	"strconv"

	"github.com/distribution/reference"
	"github.com/docker/docker/api/types/events"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"gantry/api/errdefs"
	"gantry/libctr/core/archive"
	"gantry/libctr/core/content"
	"gantry/libctr/core/image"
	coremanifest "gantry/libctr/core/manifest"
)

// Save writes images as one tar. A name without a tag means every tag of its
// repository; an id means the image without its names. All is looked up, and held
// against removal, before the first byte. With a platform only that one is written.
func (s *Service) Save(ctx context.Context, names []string, p *ocispec.Platform, w io.Writer) error {
	ctx, done, err := s.underLease(ctx, false)
	if err != nil {
		return err
	}
	defer done()
	var images []archive.Saved
	for _, name := range names {
		found, err := s.savedImages(ctx, name, p)
		if err != nil {
			return err
		}
		images = append(images, found...)
	}
	images = merge(images)
	blobs, err := s.savedBlobs(ctx, images)
	if err != nil {
		return err
	}
	for _, img := range images {
		id := img.Target.Digest
		s.publishLabelled(ctx, events.ActionSave, image.Image{Name: danglingName(id), Target: img.Target}, id.String(), id.String())
	}
	return archive.Write(ctx, w, savedSource{s}, images, blobs)
}

// savedImages are the images that one name means.
func (s *Service) savedImages(ctx context.Context, name string, p *ocispec.Platform) ([]archive.Saved, error) {
	img, findErr := s.find(ctx, name)
	ref, refErr := reference.ParseNormalizedNamed(name)
	byID := findErr == nil && isIDPrefix(img.Target.Digest, name)
	if refErr == nil {
		_, digested := ref.(reference.Digested)
		byID = byID || digested
	}
	if !byID && refErr == nil && reference.IsNameOnly(ref) {
		return s.savedRepository(ctx, ref, p)
	}
	switch {
	case findErr != nil:
		return nil, findErr
	case byID:
		ref = nil
	case refErr != nil:
		return nil, errdefs.WithClass(errdefs.ErrInvalidArgument, refErr)
	}
	saved, err := s.saved(ctx, img, ref, p)
	return []archive.Saved{saved}, err
}

func (s *Service) savedRepository(ctx context.Context, repo reference.Named, p *ocispec.Platform) ([]archive.Saved, error) {
	recs, err := s.ofRepository(ctx, repo)
	if err != nil {
		return nil, err
	}
	if len(recs) == 0 {
		return nil, noSuchImage(repo)
	}
	var out []archive.Saved
	for _, img := range recs {
		ref, err := reference.ParseNamed(img.Name)
		if err != nil {
			continue
		}
		saved, err := s.saved(ctx, img, ref, p)
		if err != nil {
			return nil, err
		}
		out = append(out, saved)
	}
	return out, nil
}

// ofRepository are the tagged records of a repository.
func (s *Service) ofRepository(ctx context.Context, repo reference.Named) ([]image.Image, error) {
	pattern := "^" + regexp.QuoteMeta(repo.Name()) + ":" + reference.TagRegexp.String() + "$"
	recs, err := s.Images.List(ctx, "name~="+strconv.Quote(pattern))
	if err != nil {
		return nil, fmt.Errorf("list images of %s: %w", repo.Name(), err)
	}
	return recs, nil
}

// saved describes one image; ref nil leaves it without a name.
func (s *Service) saved(ctx context.Context, img image.Image, ref reference.Named, p *ocispec.Platform) (archive.Saved, error) {
	out := archive.Saved{Target: img.Target}
	m, err := s.best(ctx, img, p)
	switch {
	case err == nil:
		out.Docker = &archive.Docker{Config: m.body.Config, Layers: m.body.Layers}
	case p != nil || !errdefs.IsNotFound(err):
		return out, err
	}
	if p != nil {
		out.Target = m.desc
	}
	if err := s.holdImage(ctx, out.Target); err != nil {
		return out, err
	}
	if ref != nil {
		out.Names = []archive.Name{{Full: ref.String(), Familiar: reference.FamiliarString(ref), Tag: tagOf(ref)}}
	}
	return out, nil
}

// merge joins images of the same target, in the order of their first name.
func merge(in []archive.Saved) []archive.Saved {
	var out []archive.Saved
	at := map[digest.Digest]int{}
	for _, img := range in {
		i, known := at[img.Target.Digest]
		if !known {
			at[img.Target.Digest] = len(out)
			out = append(out, img)
			continue
		}
		for _, n := range img.Names {
			if !hasSavedName(out[i].Names, n) {
				out[i].Names = append(out[i].Names, n)
			}
		}
	}
	return out
}

func hasSavedName(names []archive.Name, n archive.Name) bool {
	for _, have := range names {
		if have == n {
			return true
		}
	}
	return false
}

// savedBlobs are all blobs below the images that are here, once each. Layers that are
// not to be distributed stay out.
func (s *Service) savedBlobs(ctx context.Context, images []archive.Saved) ([]ocispec.Descriptor, error) {
	var out []ocispec.Descriptor
	seen := map[digest.Digest]bool{}
	for _, img := range images {
		err := s.walk(ctx, img.Target, func(d ocispec.Descriptor) error {
			if seen[d.Digest] || coremanifest.IsNonDistributable(d.MediaType) {
				return nil
			}
			seen[d.Digest] = true
			info, err := s.Content.Info(ctx, d.Digest)
			if errdefs.IsNotFound(err) {
				return nil // of a platform that was not fetched
			}
			d.Size = info.Size
			out = append(out, d)
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	return out, nil
}

type savedSource struct{ s *Service }

func (k savedSource) Open(ctx context.Context, desc ocispec.Descriptor) (io.ReadCloser, error) {
	return content.Open(ctx, k.s.Content, desc)
}
