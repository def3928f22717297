package unpack

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"

	"gantry/api/errdefs"
	"gantry/api/failpoint"
	"gantry/libctr/core/content"
	"gantry/libctr/core/diff"
	"gantry/libctr/core/mount"
	"gantry/libctr/core/snapshot"
)

// step makes the snapshot of one layer.
type step struct {
	u      *Unpacker
	layer  Layer
	chain  digest.Digest
	parent digest.Digest // "" for the base
	labels map[string]string
	below  <-chan struct{} // closed when the parent is committed
	done   chan struct{}   // closed when this layer is
}

// finish says that the snapshot is there.
func (s *step) finish() {
	close(s.done)
	if s.layer.Done != nil {
		s.layer.Done()
	}
}

// run makes the snapshot unless it is there; who comes second waits for the first and
// finds it made.
func (s *step) run(ctx context.Context) error {
	unlock, err := s.u.chains.Lock(ctx, s.chain.String())
	if err != nil {
		return err
	}
	defer unlock()
	if s.parent != "" && s.u.cfg.Rebase {
		err := s.make(ctx, true)
		if !errors.Is(err, errNeedsParent) {
			return err
		}
		s.u.cfg.Log.DebugContext(ctx, "layer is applied again on its parent", "layer", s.layer.Desc.Digest, "err", err)
	}
	return s.make(ctx, false)
}

// errNeedsParent is of a layer that could not be applied without its parent.
var errNeedsParent = errors.New("without its parent")

// make prepares, applies and commits: alone, without the parent until the commit, or on
// the parent.
func (s *step) make(ctx context.Context, alone bool) error {
	parent := s.parent.String()
	if alone {
		parent = ""
	} else if err := wait(ctx, s.below); err != nil {
		return err
	}
	key := newKey(s.chain)
	preparing := ctx
	if alone { // short, and the failure of another layer is not to leave in doubt what it has made
		preparing = context.WithoutCancel(ctx)
	}
	mounts, err := s.u.cfg.Snapshotter.Prepare(preparing, key, parent, s.snapshotLabels())
	if errdefs.IsAlreadyExists(err) {
		return nil // and held
	}
	if err != nil && ctx.Err() != nil {
		s.u.drop(ctx, key) // it may have been made
	}
	if err != nil {
		return fmt.Errorf("prepare snapshot %s: %w", s.chain, err)
	}
	failpoint.Hit("libctr/core/unpack.layer.prepared")
	if alone {
		mounts = marking(mounts)
	}
	if err := s.fill(ctx, mounts, alone); err != nil {
		s.u.drop(ctx, key)
		return err
	}
	err = s.commit(ctx, key, alone)
	if err != nil {
		s.u.drop(ctx, key)
	}
	if errdefs.IsAlreadyExists(err) { // by another client of the core
		var held bool
		if held, err = s.u.hold(ctx, s.chain); err == nil && !held {
			err = errdefs.Unavailable("snapshot %s was collected meanwhile", s.chain)
		}
	}
	return err
}

// marking makes of the bind mount of a snapshot without a parent an overlay's upper
// directory, in which deletions are marked.
func marking(mounts []mount.Mount) []mount.Mount {
	if len(mounts) != 1 || mounts[0].Type != "bind" {
		return mounts
	}
	return []mount.Mount{{Type: "overlay", Source: "overlay", Options: []string{"upperdir=" + mounts[0].Source}}}
}

// fill applies the layer once it is there, and checks what it was.
func (s *step) fill(ctx context.Context, mounts []mount.Mount, alone bool) error {
	if err := s.ready(ctx); err != nil {
		return err
	}
	select {
	case s.u.slots <- struct{}{}:
		defer func() { <-s.u.slots }()
	case <-ctx.Done():
		return ctx.Err()
	}
	if s.layer.Began != nil {
		s.layer.Began()
	}
	applied, err := s.u.cfg.Applier.Apply(ctx, s.layer.Desc, mounts, diff.ApplyOptions{Progress: s.layer.Progress})
	if err != nil {
		if alone && ctx.Err() == nil && errdefs.IsFailedPrecondition(err) {
			err = errors.Join(errNeedsParent, err)
		}
		return err
	}
	failpoint.Hit("libctr/core/unpack.layer.applied")
	if applied.Digest != s.layer.DiffID {
		return errdefs.InvalidArgument("wrong diff id %s, the config says %s", applied.Digest, s.layer.DiffID)
	}
	return nil
}

func (s *step) ready(ctx context.Context) error {
	if s.layer.Ready == nil {
		return nil
	}
	select {
	case err := <-s.layer.Ready:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

func wait(ctx context.Context, c <-chan struct{}) error {
	select {
	case <-c:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// commit puts the snapshot onto its parent when that is there.
func (s *step) commit(ctx context.Context, key string, alone bool) error {
	if err := s.labelBlob(ctx); err != nil {
		return err
	}
	failpoint.Hit("libctr/core/unpack.layer.labelled")
	if err := wait(ctx, s.below); err != nil {
		return err
	}
	var err error
	if rebaser, ok := s.u.cfg.Snapshotter.(snapshot.Rebaser); ok && alone {
		err = rebaser.CommitOnto(ctx, s.chain.String(), key, s.parent.String(), s.snapshotLabels())
	} else {
		err = s.u.cfg.Snapshotter.Commit(ctx, s.chain.String(), key, s.snapshotLabels())
	}
	failpoint.Hit("libctr/core/unpack.layer.committed")
	if err != nil {
		return fmt.Errorf("commit snapshot %s: %w", s.chain, err)
	}
	return nil
}

// labelUncompressed is a layer blob's diff id.
const labelUncompressed = "containerd.io/uncompressed"

// labelBlob writes down the diff id that was just seen.
func (s *step) labelBlob(ctx context.Context) error {
	return s.u.label(ctx, s.layer.Desc.Digest, labelUncompressed, s.layer.DiffID.String())
}

// Tie makes the image's config keep the snapshot of its layers.
func (u *Unpacker) Tie(ctx context.Context, config, chain digest.Digest) error {
	if chain == "" {
		return nil
	}
	err := u.label(ctx, config, "containerd.io/gc.ref.snapshot."+u.cfg.Name, chain.String())
	if err != nil {
		return fmt.Errorf("label config %s: %w", config, err)
	}
	return nil
}

// label sets a label of a blob unless it has it.
func (u *Unpacker) label(ctx context.Context, blob digest.Digest, name, value string) error {
	return content.AddLabels(ctx, u.cfg.Content, blob, map[string]string{name: value})
}

// snapshotLabels are what the caller wants, what the manifest says of the layer to
// snapshotters, and the layer's own. Ids are not a manifest's to map.
func (s *step) snapshotLabels() map[string]string {
	labels := make(map[string]string)
	for k, v := range s.layer.Desc.Annotations {
		if strings.HasPrefix(k, snapshot.PrefixInherited) && k != snapshot.LabelUIDMapping && k != snapshot.LabelGIDMapping {
			labels[k] = v
		}
	}
	maps.Copy(labels, s.labels)
	labels[snapshot.LabelRef] = s.chain.String()
	labels[snapshot.LabelDiffID] = s.layer.DiffID.String()
	if s.parent != "" {
		labels[snapshot.LabelParentChain] = s.parent.String()
	}
	return labels
}

func newKey(chain digest.Digest) string {
	return fmt.Sprintf("extract-%d-%s %s", time.Now().Nanosecond(), rand.Text()[:4], chain)
}
