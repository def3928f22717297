package transfer

import (
	"context"
	"maps"
	"strings"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"gantry/api/errdefs"
	"gantry/api/failpoint"
	"gantry/libctr/core/archive"
	"gantry/libctr/core/image"
	"gantry/libctr/core/transfer"
)

// labelParent names the image with which one goes.
const labelParent = "containerd.io/gc.bref.image"

// names are the images that dst makes of a target. Those of an archive's entry are found
// by its annotations.
func names(dst *transfer.ImageStore, target ocispec.Descriptor, entry bool) []image.Image {
	var out []image.Image
	add := func(name string, labels map[string]string) {
		out = append(out, image.Image{Name: name, Target: target, Labels: labels})
	}
	if !entry && dst.Name != "" {
		add(dst.Name, dst.Labels)
	}
	for _, ref := range dst.ExtraReferences {
		digested := ref.Name + "@" + target.Digest.String()
		if entry {
			if !ref.IsPrefix {
				continue
			}
			name := annotated(target.Annotations, ref)
			if name != "" {
				add(name, extraLabels(dst))
			}
			if ref.AddDigest && (name == "" || !ref.SkipNamedDigest) {
				add(digested, extraLabels(dst))
			}
			continue
		}
		switch {
		case ref.AddDigest:
			add(digested, extraLabels(dst))
		case !ref.IsPrefix:
			add(ref.Name, extraLabels(dst))
		}
	}
	return out
}

// extraLabels let a further name go with the main one, when there is one.
func extraLabels(dst *transfer.ImageStore) map[string]string {
	if dst.Name == "" {
		return dst.Labels
	}
	labels := maps.Clone(dst.Labels)
	if labels == nil {
		labels = map[string]string{}
	}
	labels[labelParent] = dst.Name
	labels[labelExpire] = time.Now().UTC().Format(time.RFC3339)
	return labels
}

// annotated is the name that an archive's entry has and that ref lets through, or "".
func annotated(annotations map[string]string, ref transfer.Reference) string {
	if name := annotations[archive.AnnotationName]; name != "" {
		if prefixed(name, ref) == name { // a whole name is taken as it is or not at all
			return name
		}
		return ""
	}
	if name := annotations[ocispec.AnnotationRefName]; name != "" {
		return prefixed(name, ref)
	}
	return ""
}

// prefixed makes a tag a name; a whole name must begin with the prefix unless it may
// overwrite it.
func prefixed(name string, ref transfer.Reference) string {
	switch {
	case ref.Name == "":
		return ""
	case !strings.ContainsAny(name, "/:@"):
		return ref.Name + ":" + name
	case ref.AllowOverwrite:
		return name
	}
	rest, ok := strings.CutPrefix(name, ref.Name)
	if !ok || rest != "" && !strings.ContainsRune("/:@", rune(rest[0])) {
		return ""
	}
	return name
}

// save creates or replaces the records. None is NotFound.
func (s *Service) save(ctx context.Context, images []image.Image) ([]image.Image, error) {
	if len(images) == 0 {
		return nil, errdefs.NotFound("no image name found")
	}
	for i, img := range images {
		saved, err := s.saveOne(ctx, img)
		if err != nil {
			return nil, err
		}
		images[i] = saved
		failpoint.Hit("libctr/transfer.save.one")
	}
	return images, nil
}

func (s *Service) saveOne(ctx context.Context, img image.Image) (image.Image, error) {
	for {
		saved, err := s.cfg.Images.Create(ctx, img)
		if !errdefs.IsAlreadyExists(err) {
			return saved, err
		}
		saved, err = s.cfg.Images.Update(ctx, img)
		if !errdefs.IsNotFound(err) || ctx.Err() != nil { // removed meanwhile: once more
			return saved, err
		}
	}
}
