package image

import (
	"context"
	"fmt"
	"maps"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"gantry/api/errdefs"
	"gantry/api/failpoint"
	"gantry/libctr/core/image"
)

// put names a target. The image that had the name stays, dangling when that was its
// last one; it is returned when it was another. The dangling record of the new target
// goes, since it has a name now.
func (s *Service) put(ctx context.Context, img image.Image) (now image.Image, replaced *image.Image, err error) {
	unlock, err := s.records.Lock(ctx, "")
	if err != nil {
		return img, nil, err
	}
	defer unlock()
	// From here on a client that leaves must not leave half of it done.
	ctx = context.WithoutCancel(ctx)
	now, err = s.Images.Create(ctx, img)
	failpoint.Hit("daemon/image.put.tried")
	if errdefs.IsAlreadyExists(err) {
		now, replaced, err = s.replace(ctx, img)
	}
	if err != nil {
		return img, nil, fmt.Errorf("name image %s: %w", img.Name, err)
	}
	if !isDangling(now) {
		s.dropDangling(ctx, now.Target)
		failpoint.Hit("daemon/image.put.dangling-dropped")
	}
	return now, replaced, nil
}

func (s *Service) replace(ctx context.Context, img image.Image) (image.Image, *image.Image, error) {
	old, err := s.Images.Get(ctx, img.Name)
	if err != nil {
		return img, nil, err
	}
	if old.Target.Digest == img.Target.Digest {
		return old, nil, nil
	}
	if err := s.keepDangling(ctx, old); err != nil {
		return img, nil, err
	}
	failpoint.Hit("daemon/image.put.dangling-kept")
	now, err := s.Images.Update(ctx, img, "target", "labels")
	failpoint.Hit("daemon/image.put.replaced")
	return now, &old, err
}

// keepDangling makes a record without a name for an image that is about to lose its
// last one. The caller holds the records lock.
func (s *Service) keepDangling(ctx context.Context, img image.Image) error {
	others, err := s.byTarget(ctx, img.Target.Digest)
	if err != nil {
		return err
	}
	if len(others) > 1 || isDangling(img) {
		return nil
	}
	labels := maps.Clone(img.Labels)
	delete(labels, annotationName)
	delete(labels, ocispec.AnnotationRefName)
	_, err = s.Images.Create(ctx, image.Image{
		Name: danglingName(img.Target.Digest), Target: img.Target, Labels: labels,
	})
	if err != nil && !errdefs.IsAlreadyExists(err) {
		return fmt.Errorf("keep image %s, which had the name %s: %w", img.Target.Digest, img.Name, err)
	}
	return nil
}

func (s *Service) dropDangling(ctx context.Context, target ocispec.Descriptor) {
	err := s.Images.Delete(ctx, danglingName(target.Digest), false, nil)
	if err != nil && !errdefs.IsNotFound(err) {
		s.log.WarnContext(ctx, "drop dangling record", "image", target.Digest, "err", err)
	}
}
