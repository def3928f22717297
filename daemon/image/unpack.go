package image

import (
	"context"
	"crypto/rand"
	"fmt"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/identity"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"gantry/api/errdefs"
	"gantry/api/failpoint"
	"gantry/libctr/core/mount"
	"gantry/libctr/core/snapshot"
)

// layer is one step of an unpacking.
type layer struct {
	desc   ocispec.Descriptor
	diffID digest.Digest
	chain  digest.Digest // of this layer on its parents: the snapshot's name
	parent digest.Digest // chain id of the parents, "" for the base
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
		if i > 0 {
			out[i].parent = chains[i-1]
		}
	}
	return out, nil
}

// unpackHooks let a pull take part in an unpacking; both may be nil.
type unpackHooks struct {
	ready func(ctx context.Context, i int) error // returns when the blob of layer i is there
	began func(i int)                            // layer i is being applied
	done  func(i int)                            // the snapshot of layer i is there
}

// unpack makes the snapshots of an image's layers, those that are missing, and ties the
// last to the image's config. ctx must be under a lease. It returns the last chain id,
// "" for an image without layers.
func (s *Service) unpack(ctx context.Context, m *manifest, h unpackHooks) (digest.Digest, error) {
	steps, err := layers(m)
	if err != nil || len(steps) == 0 {
		return "", err
	}
	for i, l := range steps {
		if h.ready != nil {
			if err := h.ready(ctx, i); err != nil {
				return "", err
			}
		}
		if err := s.unpackLayer(ctx, l, func() { call(h.began, i) }); err != nil {
			return "", err
		}
		call(h.done, i)
	}
	top := steps[len(steps)-1].chain
	err = s.addBlobLabels(ctx, m.body.Config.Digest, map[string]string{
		labelRefSnapshot + s.cfg.Snapshotter: top.String(),
	})
	if err != nil {
		return "", fmt.Errorf("label config %s: %w", m.body.Config.Digest, err)
	}
	failpoint.Hit("daemon/image.unpack.labelled")
	return top, nil
}

func call(f func(int), i int) {
	if f != nil {
		f(i)
	}
}

// unpackLayer makes one snapshot unless it is there; whoever comes second waits for the
// first and finds it made.
func (s *Service) unpackLayer(ctx context.Context, l layer, began func()) error {
	unlock, err := s.chains.Lock(ctx, l.chain.String())
	if err != nil {
		return err
	}
	defer unlock()

	if there, err := s.takeSnapshot(ctx, l.chain.String()); there || err != nil {
		return err
	}
	began()
	key := fmt.Sprintf(extractPrefix+"%d-%s %s", time.Now().Nanosecond(), rand.Text()[:4], l.chain)
	labels := map[string]string{snapshot.LabelRef: l.chain.String()}
	mounts, err := s.Snapshots.Prepare(ctx, key, l.parent.String(), labels)
	if errdefs.IsAlreadyExists(err) { // another client of the core made it
		return s.holdSnapshot(ctx, l.chain.String())
	}
	if err != nil {
		return fmt.Errorf("prepare snapshot of layer %s: %w", l.desc.Digest, err)
	}
	failpoint.Hit("daemon/image.unpack.prepared")
	if err := s.applyLayer(ctx, l, key, mounts); err != nil {
		s.dropSnapshot(ctx, key)
		return fmt.Errorf("unpack layer %s: %w", l.desc.Digest, err)
	}
	return nil
}

// takeSnapshot holds a snapshot under the lease of ctx and says whether it is there. It
// looks twice: only what is there once it is held can't be collected any more.
func (s *Service) takeSnapshot(ctx context.Context, name string) (bool, error) {
	for range 2 {
		_, err := s.Snapshots.Stat(ctx, name)
		if errdefs.IsNotFound(err) {
			return false, nil
		}
		if err != nil {
			return false, fmt.Errorf("stat snapshot %s: %w", name, err)
		}
		if err := s.holdSnapshot(ctx, name); err != nil {
			return false, err
		}
	}
	return true, nil
}

func (s *Service) applyLayer(ctx context.Context, l layer, key string, mounts []mount.Mount) error {
	applied, err := s.Applier.Apply(ctx, l.desc, mounts)
	if err != nil {
		return err
	}
	failpoint.Hit("daemon/image.unpack.applied")
	if applied.Digest != l.diffID {
		return errdefs.InvalidArgument("wrong diff id %s, the config says %s", applied.Digest, l.diffID)
	}
	err = s.Snapshots.Commit(ctx, l.chain.String(), key, map[string]string{snapshot.LabelRef: l.chain.String()})
	failpoint.Hit("daemon/image.unpack.committed")
	if errdefs.IsAlreadyExists(err) {
		s.dropSnapshot(ctx, key)
		return s.holdSnapshot(ctx, l.chain.String())
	}
	return err
}

// dropSnapshot undoes a Prepare, even when ctx has ended.
func (s *Service) dropSnapshot(ctx context.Context, key string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoTime)
	defer cancel()
	if err := s.Snapshots.Remove(ctx, key); err != nil && !errdefs.IsNotFound(err) {
		s.log.WarnContext(ctx, "remove snapshot", "snapshot", key, "err", err)
	}
}
