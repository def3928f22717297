package transfer

import (
	"context"
	"fmt"
	"io"

	"github.com/containerd/platforms"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"gantry/api/errdefs"
	"gantry/api/failpoint"
	"gantry/libctr/core/archive"
	"gantry/libctr/core/image"
	"gantry/libctr/core/manifest"
	"gantry/libctr/core/transfer"
)

// padding is how much of a stream may follow the end of its tar, in bytes.
const padding = 1 << 20

// importTar makes images of a tar.
func (s *Service) importTar(ctx context.Context, src *transfer.Import, dst *transfer.ImageStore, report report) error {
	report(transfer.Progress{Event: "Importing"})
	index, err := archive.Import(ctx, s.cfg.Content, src.Stream, archive.ImportOptions{Compress: src.ForceCompress})
	if err != nil {
		return err
	}
	// The sender is not to fail with what is left of the last block.
	if _, err := io.CopyN(io.Discard, src.Stream, padding); err != nil && err != io.EOF { //nolint:errorlint // CopyN's own word
		return fmt.Errorf("import: %w", err)
	}
	entries, err := s.importTree(ctx, index, dst)
	if err != nil {
		return err
	}
	failpoint.Hit("libctr/transfer.import.stored")
	if err := s.saveImported(ctx, names(dst, index, false), index, report); err != nil {
		return err
	}
	for _, e := range entries {
		if err := s.saveImported(ctx, names(dst, e, true), e, report); err != nil {
			return err
		}
	}
	report(transfer.Progress{Event: "Completed import"})
	return nil
}

// saveImported saves what has a name.
func (s *Service) saveImported(ctx context.Context, images []image.Image, d ocispec.Descriptor, report report) error {
	if len(images) == 0 {
		s.cfg.Log.InfoContext(ctx, "no image name for content of archive", "digest", d.Digest)
		return nil
	}
	saved, err := s.save(ctx, images)
	if err != nil {
		return err
	}
	for _, img := range saved {
		report(transfer.Progress{Event: "saved", Name: img.Name, Desc: &d})
	}
	return nil
}

// importTree ties together what an index names, unpacks what is wanted, and returns the
// index's entries, all of them.
func (s *Service) importTree(ctx context.Context, index ocispec.Descriptor, dst *transfer.ImageStore) ([]ocispec.Descriptor, error) {
	entries, err := manifest.ReadChildren(ctx, s.cfg.Content, index)
	if err != nil {
		return nil, err
	}
	t := tying{service: s, choice: choiceOf(dst), targets: s.targets(dst.Unpacks), seen: map[tied]bool{}}
	if err := t.tie(ctx, index, 0); err != nil {
		return nil, err
	}
	if len(t.seen) < 2 {
		return nil, errdefs.NotFound("image might be filtered out")
	}
	return entries, nil
}

// tying is one import under way.
type tying struct {
	service *Service
	choice  choice
	targets []Target
	seen    map[tied]bool
}

// tied is a blob as it was taken for.
type tied struct {
	digest    digest.Digest
	mediaType string
}

func (t *tying) tie(ctx context.Context, d ocispec.Descriptor, depth int) error {
	k := tied{d.Digest, d.MediaType}
	if t.seen[k] {
		return nil
	}
	if t.seen[k] = true; len(t.seen) > maxDescriptors || depth > maxNested {
		return errdefs.ResourceExhausted("too many descriptors (limit %d), or nested deeper than %d", maxDescriptors, maxNested)
	}
	children, err := t.service.children(ctx, d, t.choice)
	if err != nil {
		return err
	}
	for _, c := range children {
		if err := t.tie(ctx, c, depth+1); err != nil {
			return err
		}
	}
	if !manifest.IsManifest(d.MediaType) || len(t.targets) == 0 {
		return nil
	}
	return t.service.unpackManifest(ctx, unpacking{children: children, ready: make([]<-chan error, len(children)), targets: t.targets})
}

// exportTar writes images into a stream.
func (s *Service) exportTar(ctx context.Context, src *transfer.ImageStore, dst *transfer.Export, report report) error {
	report(transfer.Progress{Event: "Exporting"})
	images, err := s.lookup(ctx, src)
	if err != nil {
		return err
	}
	o := archive.ExportOptions{Images: images, Platform: platforms.DefaultStrict(), AllPlatforms: dst.AllPlatforms,
		SkipDockerManifest: dst.SkipDockerManifest, SkipNonDistributable: dst.SkipNonDistributable}
	if len(dst.Platforms) > 0 {
		o.Platform = platforms.Ordered(dst.Platforms...)
	}
	if err := archive.Export(ctx, s.cfg.Content, dst.Stream, o); err != nil {
		return err
	}
	report(transfer.Progress{Event: "Completed export"})
	return nil
}

// lookup finds the images that src names.
func (s *Service) lookup(ctx context.Context, src *transfer.ImageStore) ([]image.Image, error) {
	var wanted []string
	if src.Name != "" {
		wanted = append(wanted, src.Name)
	}
	for _, ref := range src.ExtraReferences {
		if ref.IsPrefix {
			return nil, errdefs.NotImplemented("prefix lookup on export not implemented")
		}
		wanted = append(wanted, ref.Name)
	}
	var out []image.Image
	for _, name := range wanted {
		img, err := s.cfg.Images.Get(ctx, name)
		if err != nil {
			return nil, err
		}
		out = append(out, img)
	}
	return out, nil
}
