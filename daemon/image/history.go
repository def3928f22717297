package image

import (
	"context"

	imagetypes "github.com/docker/docker/api/types/image"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/identity"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"gantry/api/errdefs"
	"gantry/libctr/core/image"
)

const missingID = "<missing>"

// History lists an image's steps, newest first, with what each added on disk.
func (s *Service) History(ctx context.Context, ref string, p *ocispec.Platform) ([]*imagetypes.HistoryResponseItem, error) {
	img, err := s.find(ctx, ref)
	if err != nil {
		return nil, err
	}
	m, err := s.best(ctx, img, p)
	if err != nil {
		return nil, err
	}
	sizes, err := s.layerSizes(ctx, m.config.RootFS.DiffIDs)
	if err != nil {
		return nil, err
	}
	out := make([]*imagetypes.HistoryResponseItem, len(m.config.History))
	for i, h := range m.config.History {
		item := &imagetypes.HistoryResponseItem{ID: missingID, Comment: h.Comment, CreatedBy: h.CreatedBy}
		if h.Created != nil {
			item.Created = h.Created.Unix()
		}
		if !h.EmptyLayer {
			if len(sizes) == 0 {
				return nil, errdefs.Internal("unable to find the size of the layer")
			}
			item.Size, sizes = sizes[0], sizes[1:]
		}
		out[len(out)-1-i] = item
	}
	return out, s.nameSteps(ctx, img, out)
}

func (s *Service) layerSizes(ctx context.Context, diffs []digest.Digest) ([]int64, error) {
	sizes := make([]int64, len(diffs))
	for i, chain := range identity.ChainIDs(append([]digest.Digest{}, diffs...)) {
		u, err := s.Snapshots.Usage(ctx, chain.String())
		if err != nil && !errdefs.IsNotFound(err) {
			return nil, err
		}
		sizes[i] = u.Size
	}
	return sizes, nil
}

// nameSteps gives the first step the image's id, and the next ones those of the images
// that Docker's classic builder made it from, as long as they are here.
func (s *Service) nameSteps(ctx context.Context, img image.Image, steps []*imagetypes.HistoryResponseItem) error {
	for _, step := range steps {
		step.ID = img.Target.Digest.String()
		same, err := s.byTarget(ctx, img.Target.Digest)
		if err != nil {
			return err
		}
		step.Tags = append(step.Tags, repoTags(same)...)
		parent, err := digest.Parse(img.Labels[labelParent])
		if err != nil {
			return nil
		}
		parents, err := s.byTarget(ctx, parent)
		if err != nil || len(parents) == 0 {
			return err
		}
		img = parents[0]
	}
	return nil
}
