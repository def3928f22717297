package transfer

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/containerd/platforms"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"gantry/api/errdefs"
	"gantry/libctr/core/manifest"
	"gantry/libctr/core/transfer"
	"gantry/libctr/core/unpack"
)

// targets are those that do what is asked for; what nobody does is logged.
func (s *Service) targets(wanted []transfer.Unpack) []Target {
	var out []Target
	for _, w := range wanted {
		if t, ok := s.target(w); ok {
			out = append(out, t)
			continue
		}
		s.cfg.Log.Warn("unpack configuration not supported, skipping",
			"platform", platforms.FormatAll(w.Platform), "snapshotter", w.Snapshotter)
	}
	return out
}

func (s *Service) target(w transfer.Unpack) (found Target, ok bool) {
	for _, t := range s.cfg.Targets {
		switch {
		case !t.Platform.Match(w.Platform):
		case w.Snapshotter == t.Snapshotter, w.Snapshotter == "" && t.Snapshotter == s.cfg.DefaultSnapshotter:
			return t, true
		case w.Snapshotter == "" && !ok:
			found, ok = t, true
		}
	}
	return found, ok
}

// unpacking is one manifest whose layers are to become snapshots.
type unpacking struct {
	children []ocispec.Descriptor // the config, then the layers
	ready    []<-chan error       // closed when the child is there; nil elements when it is
	targets  []Target
	track    *tracker
}

// unpackManifest unpacks where the image's platform fits. What is no image, and what was
// taken without its layers, is passed over.
func (s *Service) unpackManifest(ctx context.Context, u unpacking) error {
	if len(u.children) < 2 || !isConfig(u.children[0].MediaType) {
		return nil
	}
	config, layers := u.children[0], u.children[1:]
	if u.ready[0] != nil {
		select {
		case <-u.ready[0]:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	img, err := s.readConfig(ctx, config)
	if err != nil {
		return err
	}
	for _, t := range u.targets {
		if !t.Platform.Match(platforms.Normalize(img.Platform)) {
			continue
		}
		if len(img.RootFS.DiffIDs) != len(layers) {
			return errdefs.InvalidArgument("number of layers and diffIDs don't match: %d != %d", len(layers), len(img.RootFS.DiffIDs))
		}
		chain, err := t.Unpacker.Unpack(ctx, u.layers(layers, img), nil)
		if err != nil {
			return fmt.Errorf("unpack into %s: %w", t.Snapshotter, err)
		}
		if err := t.Unpacker.Tie(ctx, config.Digest, chain); err != nil {
			return err
		}
	}
	return nil
}

// isConfig also takes what old registries wrongly call it.
func isConfig(mt string) bool { return manifest.IsImageConfig(mt) || mt == "application/octet-stream" }

func (s *Service) readConfig(ctx context.Context, d ocispec.Descriptor) (img ocispec.Image, err error) {
	body, err := manifest.Read(ctx, s.cfg.Content, d)
	if err != nil {
		return img, err
	}
	if err := json.Unmarshal(body, &img); err != nil {
		return img, errdefs.InvalidArgument("decode config %s: %w", d.Digest, err)
	}
	return img, nil
}

func (u unpacking) layers(descs []ocispec.Descriptor, img ocispec.Image) []unpack.Layer {
	out := make([]unpack.Layer, len(descs))
	for i, d := range descs {
		out[i] = unpack.Layer{Desc: d, DiffID: img.RootFS.DiffIDs[i], Ready: u.ready[i+1],
			Began: func() { u.track.extracting(d) },
			Done:  func() { u.track.extracted(d) },
		}
	}
	return out
}
