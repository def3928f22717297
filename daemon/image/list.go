package image

import (
	"context"
	"slices"

	"github.com/distribution/reference"
	imagetypes "github.com/docker/docker/api/types/image"
	"github.com/opencontainers/go-digest"

	"gantry/libctr/core/image"
)

// List answers docker images: one entry per target, newest first. Containers is the
// number of containers in every answer, as dockerd's containerd store has it, but -1
// where no platform of the image is here. SharedSize is -1 unless asked for.
func (s *Service) List(ctx context.Context, o imagetypes.ListOptions) ([]*imagetypes.Summary, error) {
	keep, err := s.filter(ctx, o.Filters, listFilters)
	if err != nil {
		return nil, err
	}
	recs, err := s.Images.List(ctx)
	if err != nil {
		return nil, err
	}
	inv, err := s.takeInventory(ctx)
	if err != nil {
		return nil, err
	}
	unique, tags := s.group(recs, keep, o.All)
	out := make([]*imagetypes.Summary, 0, len(unique))
	chains := make([][]digest.Digest, 0, len(unique))
	for _, img := range unique {
		sum, err := s.summarize(ctx, inv, img, s.matcher(nil))
		if err != nil {
			return nil, err
		}
		out = append(out, s.summaryOf(img, sum, tags[img.Target.Digest], o.Manifests))
		chains = append(chains, sum.chains)
	}
	if o.SharedSize {
		if err := s.addShared(ctx, inv, out, chains); err != nil {
			return nil, err
		}
	}
	slices.SortStableFunc(out, newestFirst)
	return out, nil
}

func newestFirst(a, b *imagetypes.Summary) int {
	switch {
	case a.Created > b.Created:
		return -1
	case a.Created < b.Created:
		return 1
	}
	return 0
}

// group leaves one record per target, a named one where there is one, and collects the
// names. Dangling records that a classic build has made a child of are hidden unless all.
func (s *Service) group(recs []image.Image, keep func(image.Image) bool, all bool) ([]image.Image, map[digest.Digest][]string) {
	parents := map[string]bool{}
	for _, r := range recs {
		if p := r.Labels[labelParent]; p != "" && !all {
			parents[p] = true
		}
	}
	var order []image.Image
	at := map[digest.Digest]int{}
	tags := map[digest.Digest][]string{}
	for _, r := range recs {
		d := r.Target.Digest
		if isDangling(r) && parents[d.String()] || !keep(r) {
			continue
		}
		i, known := at[d]
		switch {
		case !known:
			at[d] = len(order)
			order = append(order, r)
		case isDangling(order[i]):
			order[i] = r
		}
		if isDangling(r) {
			continue
		}
		if ref, err := reference.ParseNormalizedNamed(r.Name); err == nil {
			tags[d] = append(tags[d], reference.FamiliarString(ref))
		} else {
			tags[d] = append(tags[d], r.Name)
		}
	}
	return order, tags
}

func (s *Service) summaryOf(img image.Image, sum *summary, tags []string, manifests bool) *imagetypes.Summary {
	target := img.Target
	out := &imagetypes.Summary{
		ID: target.Digest.String(), RepoTags: tags, Size: sum.size,
		SharedSize: -1, Containers: -1, Descriptor: &target,
	}
	if manifests {
		out.Manifests = sum.manifests
	}
	if sum.best == nil {
		out.RepoDigests = []string{target.Digest.String()}
		return out
	}
	out.ParentID = img.Labels[labelParent]
	out.Labels = sum.best.config.Config.Labels
	out.Containers = sum.containers
	out.RepoDigests = repoDigests([]image.Image{img})
	if c := sum.best.config.Created; c != nil {
		out.Created = c.Unix()
	}
	return out
}

// addShared fills SharedSize: the snapshots that another image of the list has too.
func (s *Service) addShared(ctx context.Context, inv *inventory, out []*imagetypes.Summary, chains [][]digest.Digest) error {
	uses := map[digest.Digest]int{}
	for _, cs := range chains {
		for _, c := range cs {
			uses[c]++
		}
	}
	for i, cs := range chains {
		out[i].SharedSize = 0
		for _, c := range cs {
			if uses[c] < 2 {
				continue
			}
			size, err := s.usage(ctx, inv, c)
			if err != nil {
				return err
			}
			out[i].SharedSize += size
		}
	}
	return nil
}
