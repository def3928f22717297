package image

import (
	"context"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/identity"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"gantry/api/errdefs"
	"gantry/api/failpoint"
	"gantry/libctr/core/unpack"
)

// layer is one of an image's.
type layer struct {
	desc   ocispec.Descriptor
	diffID digest.Digest
	chain  digest.Digest // of this layer on its parents: the snapshot's name
}

// layers pairs a manifest's layers with the diff ids of its config.
func layers(m *manifest) ([]layer, error) {
	diffs := m.config.RootFS.DiffIDs
	if len(diffs) != len(m.body.Layers) {
		return nil, errdefs.InvalidArgument("image %s has %d layers and %d diff ids", m.desc.Digest, len(m.body.Layers), len(diffs))
	}
	chains := identity.ChainIDs(append([]digest.Digest{}, diffs...))
	out := make([]layer, len(diffs))
	for i, d := range m.body.Layers {
		if err := diffs[i].Validate(); err != nil {
			return nil, errdefs.InvalidArgument("diff id %q: %w", diffs[i], err)
		}
		out[i] = layer{desc: d, diffID: diffs[i], chain: chains[i]}
	}
	return out, nil
}

// unpackHooks let a pull take part in an unpacking; all may be nil. Layers are unpacked at
// the same time.
type unpackHooks struct {
	ready func(i int) <-chan error // closed when the blob of layer i is there
	began func(i int)              // layer i is being applied
	done  func(i int)              // the snapshot of layer i is there
}

// unpack makes the snapshots of an image's layers, those that are missing, and ties the
// last to the image's config. ctx must be under a lease. It returns the last chain id,
// "" for an image without layers.
func (s *Service) unpack(ctx context.Context, m *manifest, h unpackHooks) (digest.Digest, error) {
	steps, err := layers(m)
	if err != nil || len(steps) == 0 {
		return "", err
	}
	work := make([]unpack.Layer, len(steps))
	for i, l := range steps {
		work[i] = unpack.Layer{Desc: l.desc, DiffID: l.diffID, Began: bind(h.began, i), Done: bind(h.done, i)}
		if h.ready != nil {
			work[i].Ready = h.ready(i)
		}
	}
	top, err := s.unpacker.Unpack(ctx, work, nil)
	if err != nil {
		return "", err
	}
	if err := s.unpacker.Tie(ctx, m.body.Config.Digest, top); err != nil {
		return "", err
	}
	failpoint.Hit("daemon/image.unpack.labelled")
	return top, nil
}

func bind(f func(int), i int) func() {
	if f == nil {
		return nil
	}
	return func() { f(i) }
}
