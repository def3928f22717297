package image

import (
	"context"
	"slices"
	"time"

	"github.com/distribution/reference"
	imagetypes "github.com/docker/docker/api/types/image"
	"github.com/docker/docker/api/types/storage"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	apiimage "gantry/api/image"
	"gantry/libctr/core/image"
)

// Inspect describes the image that ref means.
func (s *Service) Inspect(ctx context.Context, ref string, o apiimage.InspectOptions) (*imagetypes.InspectResponse, error) {
	img, err := s.find(ctx, ref)
	if err != nil {
		return nil, err
	}
	tagged, err := s.byTarget(ctx, img.Target.Digest)
	if err != nil {
		return nil, err
	}
	if len(tagged) == 0 {
		return nil, errChanged
	}
	inv, err := s.takeInventory(ctx)
	if err != nil {
		return nil, err
	}
	sum, err := s.summarize(ctx, inv, img, s.matcher(o.Platform))
	if err != nil {
		return nil, err
	}
	if sum.best == nil && o.Platform != nil {
		return nil, noPlatform(ref, o.Platform)
	}
	target := img.Target
	if o.Platform != nil {
		target = sum.best.desc
	}
	out := &imagetypes.InspectResponse{
		ID: target.Digest.String(), Descriptor: &target,
		RepoTags: repoTags(tagged), RepoDigests: repoDigests(tagged),
		Parent:      parentOf(tagged),
		Size:        documentSize(img.Target, sum.best),
		GraphDriver: storage.DriverData{Name: s.cfg.Snapshotter},
		Metadata:    imagetypes.Metadata{LastTagTime: lastUpdate(tagged)},
	}
	if o.Manifests {
		out.Manifests = sum.manifests
	}
	if sum.best != nil {
		describe(out, sum.best)
	}
	return out, nil
}

// describe copies what the config says.
func describe(out *imagetypes.InspectResponse, m *manifest) {
	c := m.config
	out.Author, out.Config = c.Author, &c.Config
	out.Architecture, out.Variant, out.Os, out.OsVersion = c.Architecture, c.Variant, c.OS, c.OSVersion
	if n := len(c.History); n > 0 {
		out.Comment = c.History[n-1].Comment
	}
	if c.Created != nil {
		out.Created = c.Created.Format(time.RFC3339Nano)
	}
	out.RootFS.Type = c.RootFS.Type
	for _, d := range c.RootFS.DiffIDs {
		out.RootFS.Layers = append(out.RootFS.Layers, d.String())
	}
}

// documentSize is Docker's Size of an inspected image: the blobs of one platform and
// the index above them, packed.
func documentSize(target ocispec.Descriptor, m *manifest) int64 {
	size := target.Size
	if m == nil {
		return size
	}
	if m.desc.Digest != target.Digest {
		size += m.desc.Size
	}
	for _, d := range manifestChildren(&m.body) {
		size += d.Size
	}
	return size
}

func lastUpdate(imgs []image.Image) time.Time {
	last := time.Unix(0, 0)
	for _, img := range imgs {
		if img.UpdatedAt.After(last) {
			last = img.UpdatedAt
		}
	}
	return last
}

func parentOf(imgs []image.Image) string {
	for _, img := range imgs {
		if p := img.Labels[labelParent]; p != "" {
			return p
		}
	}
	return ""
}

// repoTags are the familiar names of the records, never nil.
func repoTags(imgs []image.Image) []string {
	out := []string{}
	for _, img := range imgs {
		if !isDangling(img) {
			out = append(out, familiarName(img))
		}
	}
	return unique(out)
}

// repoDigests are the records' repositories with the digest of their target, never nil.
func repoDigests(imgs []image.Image) []string {
	out := []string{}
	for _, img := range imgs {
		named, err := reference.ParseNamed(img.Name)
		if err != nil || isDangling(img) {
			continue
		}
		if _, ok := named.(reference.Digested); !ok {
			if named, err = reference.WithDigest(reference.TrimNamed(named), img.Target.Digest); err != nil {
				continue
			}
		}
		out = append(out, reference.FamiliarString(named))
	}
	return unique(out)
}

// unique drops repetitions and keeps the order.
func unique(in []string) []string {
	out := in[:0]
	for _, v := range in {
		if !slices.Contains(out, v) {
			out = append(out, v)
		}
	}
	return out
}
