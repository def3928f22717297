// Package unpack makes the snapshots of an image's layers. It works on the core's nouns
// alone, so that a client of the core and the core itself use the same one.
//
// Names are those of containerd's clients: the snapshot of a layer is named by its chain
// id; while it is being made it has a key "extract-UNIQUE CHAINID" and the label
// containerd.io/snapshot.ref, by which the core answers AlreadyExists, and holds the
// snapshot under the lease of ctx, when it is there. What a crash leaves is an active
// snapshot of a lease, and goes with it.
//
// Layers are applied at the same time where the snapshotter can rebase: each into a
// snapshot without a parent, put in order when it is committed. A layer that turns out to
// need what is below it (a hard link to a lower layer's file) is applied again on its
// parent. Elsewhere a layer waits for the one below; either way a layer is committed
// only when the one below is.
//
// Locks: a chain id's lock is held while its layer is made. Who holds one waits for
// shorter chains only, so that images which share layers never wait for each other in a
// circle.
package unpack

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/identity"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"gantry/api/errdefs"
	"gantry/api/keylock"
	"gantry/libctr/core/content"
	"gantry/libctr/core/diff"
	"gantry/libctr/core/snapshot"
)

// Config says on what an Unpacker works.
type Config struct {
	Content     content.Store
	Snapshotter snapshot.Snapshotter
	Name        string // the snapshotter's, by which the core knows it
	Applier     diff.Applier
	Log         *slog.Logger // nil is none

	// Parallel is how many layers, of all images, are applied at the same time; 0 is 1.
	Parallel int
	// Rebase: the snapshotter is a snapshot.Rebaser that has snapshot.CapabilityRebase.
	// A core without it would ignore the parent, so it must be asked before.
	Rebase bool
}

// Layer is one layer of an image.
type Layer struct {
	Desc   ocispec.Descriptor
	DiffID digest.Digest
	// Ready yields an error, nil or by being closed, when the blob has been fetched. A nil
	// channel says that it is there. It is not asked when the snapshot is there.
	Ready <-chan error

	Began    func()           // if set: the layer is being applied
	Progress func(read int64) // if set: how much of the blob has been applied, see diff.ApplyOptions
	Done     func()           // if set: its snapshot is there
}

// Unpacker unpacks images. Safe for concurrent use: what several images have in common
// is unpacked once.
type Unpacker struct {
	cfg    Config
	chains keylock.Locks
	slots  chan struct{} // one token per layer that is being applied
}

// New returns an unpacker; it does no I/O.
func New(cfg Config) *Unpacker {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if _, ok := cfg.Snapshotter.(snapshot.Rebaser); !ok {
		cfg.Rebase = false
	}
	return &Unpacker{cfg: cfg, slots: make(chan struct{}, max(cfg.Parallel, 1))}
}

// undoTime bounds what is done after a failure.
const undoTime = 10 * time.Second

// Unpack makes the snapshots of the layers, base first in the slice, those that are
// missing, and returns the name of the last, "" when there are no layers. The labels are
// given to each snapshot that is made. ctx should be under a lease, else what is made may
// be collected before it is referred to.
func (u *Unpacker) Unpack(ctx context.Context, layers []Layer, labels map[string]string) (digest.Digest, error) {
	chains, err := chainsOf(layers)
	if err != nil || len(layers) == 0 {
		return "", err
	}
	there, err := u.there(ctx, chains)
	if err != nil {
		return "", err
	}
	g, ctx := errgroup.WithContext(ctx)
	below := closed()
	for i, l := range layers {
		s := &step{u: u, layer: l, chain: chains[i], labels: labels, below: below, done: make(chan struct{})}
		if i > 0 {
			s.parent = chains[i-1]
		}
		below = s.done
		if i < there {
			s.finish()
			continue
		}
		g.Go(func() error {
			if err := s.run(ctx); err != nil {
				return fmt.Errorf("unpack layer %s: %w", l.Desc.Digest, err)
			}
			s.finish()
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return "", err
	}
	return chains[len(chains)-1], nil
}

// chainsOf names the snapshots of layers.
func chainsOf(layers []Layer) ([]digest.Digest, error) {
	chains := make([]digest.Digest, len(layers))
	for i, l := range layers {
		if err := l.DiffID.Validate(); err != nil {
			return nil, errdefs.InvalidArgument("diff id %q of layer %s: %w", l.DiffID, l.Desc.Digest, err)
		}
		chains[i] = l.DiffID
	}
	return identity.ChainIDs(chains), nil
}

// there says how many layers, from the base, have their snapshot. The topmost of them is
// held under the lease of ctx, and holds those below.
func (u *Unpacker) there(ctx context.Context, chains []digest.Digest) (int, error) {
	for n := len(chains); n > 0; n-- {
		_, err := u.cfg.Snapshotter.Stat(ctx, chains[n-1].String())
		if errdefs.IsNotFound(err) {
			continue
		}
		if err != nil {
			return 0, fmt.Errorf("stat snapshot %s: %w", chains[n-1], err)
		}
		held, err := u.hold(ctx, chains[n-1])
		if err != nil || held {
			return n, err
		}
	}
	return 0, nil
}

// hold puts a snapshot under the lease of ctx; false when it has just been collected.
func (u *Unpacker) hold(ctx context.Context, chain digest.Digest) (bool, error) {
	key := newKey(chain)
	_, err := u.cfg.Snapshotter.Prepare(ctx, key, "", map[string]string{snapshot.LabelRef: chain.String()})
	if errdefs.IsAlreadyExists(err) {
		return true, nil
	}
	if err != nil {
		return false, fmt.Errorf("hold snapshot %s: %w", chain, err)
	}
	u.drop(ctx, key)
	return false, nil
}

// drop undoes a Prepare, even when ctx has ended.
func (u *Unpacker) drop(ctx context.Context, key string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoTime)
	defer cancel()
	if err := u.cfg.Snapshotter.Remove(ctx, key); err != nil && !errdefs.IsNotFound(err) {
		u.cfg.Log.WarnContext(ctx, "remove snapshot", "snapshot", key, "err", err)
	}
}

func closed() chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}
