package image

import (
	"context"

	"github.com/distribution/reference"
	"github.com/docker/docker/api/types/events"

	"gantry/api/errdefs"
	"gantry/libctr/core/image"
)

// Tag gives the image that ref means the name repo:tag, "latest" when tag is empty.
func (s *Service) Tag(ctx context.Context, ref, repo, tag string) error {
	name, err := tagReference(repo, tag)
	if err != nil {
		return err
	}
	img, err := s.find(ctx, ref)
	if err != nil {
		return err
	}
	now, _, err := s.put(ctx, image.Image{Name: name.String(), Target: img.Target, Labels: img.Labels})
	if err != nil {
		return err
	}
	s.publishLabelled(ctx, events.ActionTag, now, now.Target.Digest.String(), familiarName(now))
	return nil
}

// tagReference is Docker's rule for a new name: a repository with an optional tag, no
// digest, and not a bare id.
func tagReference(repo, tag string) (reference.Named, error) {
	ref, err := reference.ParseNormalizedNamed(repo)
	if err != nil {
		return nil, errdefs.WithClass(errdefs.ErrInvalidArgument, err)
	}
	if _, ok := ref.(reference.Digested); ok {
		return nil, errdefs.InvalidArgument("refusing to create a tag with a digest reference")
	}
	if tag != "" {
		tagged, err := reference.WithTag(reference.TrimNamed(ref), tag)
		if err != nil {
			return nil, errdefs.WithClass(errdefs.ErrInvalidArgument, err)
		}
		return checkName(tagged)
	}
	return checkName(reference.TagNameOnly(ref))
}

func checkName(ref reference.Named) (reference.Named, error) {
	if reference.FamiliarName(ref) == string("sha256") {
		return nil, errdefs.InvalidArgument("refusing to create an ambiguous tag using digest algorithm as name")
	}
	return ref, nil
}
