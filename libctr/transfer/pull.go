package transfer

import (
	"context"
	"fmt"
	"sync"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"gantry/api/errdefs"
	"gantry/api/failpoint"
	"gantry/libctr/core/manifest"
	"gantry/libctr/core/transfer"
	"gantry/libctr/registry"
)

// pull brings an image from a registry.
func (s *Service) pull(ctx context.Context, src *transfer.Registry, dst *transfer.ImageStore, report report) error {
	report(transfer.Progress{Event: fmt.Sprintf("Resolving from %s", src)})
	remote, err := s.cfg.Registries.Open(ctx, src)
	if err != nil {
		return err
	}
	defer remote.Close()
	name, target, err := remote.Resolve(ctx)
	if err != nil {
		return fmt.Errorf("failed to resolve image: %w", err)
	}
	report(transfer.Progress{Event: fmt.Sprintf("Pulling from %s", src)})
	report(transfer.Progress{Event: "fetching image content", Name: name, Desc: &target})
	fetcher, err := remote.Fetcher(ctx, name)
	if err != nil {
		return err
	}
	track := follow(name, "downloading", report)
	err = s.fetchTree(ctx, &bringing{service: s, fetcher: fetcher, name: name, choice: choiceOf(dst), track: track,
		targets: s.targets(dst.Unpacks), blobs: map[digest.Digest]*blob{}}, target)
	track.stop()
	if err != nil {
		return err
	}
	failpoint.Hit("libctr/transfer.pull.fetched")
	images, err := s.save(ctx, names(dst, target, false))
	if err != nil {
		return err
	}
	for _, img := range images {
		report(transfer.Progress{Event: "saved", Name: img.Name, Desc: &img.Target})
	}
	report(transfer.Progress{Event: fmt.Sprintf("Completed pull from %s", src)})
	return nil
}

func (s *Service) fetchTree(ctx context.Context, b *bringing, target ocispec.Descriptor) error {
	b.slots = make(chan struct{}, maxAtOnce)
	b.group, ctx = errgroup.WithContext(ctx)
	if _, err := b.start(ctx, target); err != nil {
		return err
	}
	return b.group.Wait()
}

// Bounds of one transfer.
const (
	maxAtOnce      = 32     // blobs
	maxDescriptors = 10_000 // in all
)

// bringing is one pull under way: each blob is a goroutine of the group.
type bringing struct {
	service *Service
	fetcher *registry.Fetcher
	name    string
	choice  choice
	track   *tracker
	targets []Target
	group   *errgroup.Group
	slots   chan struct{} // one token per blob that is being fetched

	mu    sync.Mutex
	blobs map[digest.Digest]*blob // guarded by mu
}

// blob is one that is wanted; there is closed when the store has it. When it can't be
// had the group's context ends.
type blob struct{ there chan error }

// start brings d and all below it, once.
func (b *bringing) start(ctx context.Context, d ocispec.Descriptor) (*blob, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if known := b.blobs[d.Digest]; known != nil {
		return known, nil
	}
	if len(b.blobs) >= maxDescriptors {
		return nil, errdefs.ResourceExhausted("too many descriptors (limit %d)", maxDescriptors)
	}
	one := &blob{there: make(chan error)}
	b.blobs[d.Digest] = one
	b.track.add(d)
	b.group.Go(func() error {
		if err := b.bring(ctx, d); err != nil {
			return err
		}
		close(one.there)
		return b.below(ctx, d)
	})
	return one, nil
}

// bring fetches one blob, labelled with where it is from.
func (b *bringing) bring(ctx context.Context, d ocispec.Descriptor) error {
	select {
	case b.slots <- struct{}{}:
		defer func() { <-b.slots }()
	case <-ctx.Done():
		return ctx.Err()
	}
	labels := map[string]string{}
	if key, value, ok := registry.Source(b.name, nil); ok {
		labels[key] = value
	}
	err := b.fetcher.Fetch(ctx, b.service.cfg.Content, d, labels, func(offset int64) { b.track.moved(d, offset) })
	if !errdefs.IsAlreadyExists(err) {
		if err == nil {
			b.track.complete(d)
		}
		return err
	}
	b.track.exists(d)
	info, err := b.service.cfg.Content.Info(ctx, d.Digest)
	if err != nil {
		return err
	}
	if key, value, ok := registry.Source(b.name, info.Labels); ok {
		return b.service.label(ctx, d, map[string]string{key: value})
	}
	return nil
}

// below brings what d names.
func (b *bringing) below(ctx context.Context, d ocispec.Descriptor) error {
	children, err := b.service.children(ctx, d, b.choice)
	if err != nil {
		return err
	}
	b.track.children(d, children)
	started := make([]*blob, len(children))
	for i, c := range children {
		if started[i], err = b.start(ctx, c); err != nil {
			return err
		}
	}
	if !manifest.IsManifest(d.MediaType) || len(b.targets) == 0 {
		return nil
	}
	ready := make([]<-chan error, len(children))
	for i, one := range started {
		ready[i] = one.there
	}
	return b.service.unpackManifest(ctx, unpacking{children: children, ready: ready, targets: b.targets, track: b.track})
}
