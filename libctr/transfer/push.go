package transfer

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"

	"github.com/containerd/platforms"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"gantry/api/errdefs"
	"gantry/libctr/core/manifest"
	"gantry/libctr/core/transfer"
	"gantry/libctr/registry"
)

// push sends an image to a registry: blobs, then manifests, then indexes, each after what
// it names.
func (s *Service) push(ctx context.Context, src *transfer.ImageStore, dst *transfer.Registry, report report) error {
	img, err := s.cfg.Images.Get(ctx, src.Name)
	if err != nil {
		return err
	}
	report(transfer.Progress{Event: fmt.Sprintf("Pushing to %s", dst)})
	report(transfer.Progress{Event: "pushing content", Name: img.Name, Desc: &img.Target})
	remote, err := s.cfg.Registries.Open(ctx, dst)
	if err != nil {
		return err
	}
	defer remote.Close()
	pusher, err := remote.Pusher(ctx, img.Target)
	if err != nil {
		return err
	}
	track := follow(img.Name, "uploading", report)
	p := &pushing{service: s, pusher: pusher, track: track, matcher: platforms.All, seen: map[digest.Digest]bool{}}
	if len(src.Platforms) > 0 {
		p.matcher = platforms.Any(src.Platforms...)
	}
	err = p.all(ctx, img.Target)
	track.stop()
	if err != nil {
		return err
	}
	report(transfer.Progress{Event: "pushed content", Name: img.Name, Desc: &img.Target})
	report(transfer.Progress{Event: fmt.Sprintf("Completed push to %s", dst), Desc: &img.Target})
	return nil
}

// pushing is one push under way.
type pushing struct {
	service *Service
	pusher  *registry.Pusher
	track   *tracker
	matcher platforms.Matcher

	seen                      map[digest.Digest]bool
	blobs, manifests, indexes []ocispec.Descriptor
}

func (p *pushing) all(ctx context.Context, target ocispec.Descriptor) error {
	if err := p.collect(ctx, target, 0); err != nil {
		return err
	}
	if err := p.send(ctx, p.blobs); err != nil {
		return err
	}
	if err := p.send(ctx, p.manifests); err != nil {
		return err
	}
	for _, d := range slices.Backward(p.indexes) { // a parent was seen before what it names
		if err := p.one(ctx, d); err != nil {
			if status, ok := registry.Status(err); ok && status == http.StatusBadRequest {
				return fmt.Errorf("manifest list/index references to blobs and/or manifests are missing in your target registry: %w", err)
			}
			return err
		}
	}
	return nil
}

// maxNested bounds indexes in indexes.
const maxNested = 8

// collect sorts what is to be sent.
func (p *pushing) collect(ctx context.Context, d ocispec.Descriptor, depth int) error {
	if p.seen[d.Digest] {
		return nil
	}
	if len(p.seen) >= maxDescriptors || depth > maxNested {
		return errdefs.ResourceExhausted("too many descriptors (limit %d), or nested deeper than %d", maxDescriptors, maxNested)
	}
	p.seen[d.Digest] = true
	p.track.add(d)
	switch {
	case manifest.IsIndex(d.MediaType):
		p.indexes = append(p.indexes, d)
	case manifest.IsManifest(d.MediaType):
		p.manifests = append(p.manifests, d)
	default:
		p.blobs = append(p.blobs, d)
		return nil
	}
	children, err := manifest.ReadChildren(ctx, p.service.cfg.Content, d)
	if err != nil {
		return err
	}
	children = slices.DeleteFunc(children, func(c ocispec.Descriptor) bool {
		return c.Platform != nil && !p.matcher.Match(*c.Platform)
	})
	if children, err = p.sources(ctx, d, children); err != nil {
		return err
	}
	p.track.children(d, children)
	for _, c := range children {
		if err := p.collect(ctx, c, depth+1); err != nil {
			return err
		}
	}
	return nil
}

// sources notes from which repositories the children can be taken.
func (p *pushing) sources(ctx context.Context, parent ocispec.Descriptor, children []ocispec.Descriptor) ([]ocispec.Descriptor, error) {
	labels := func(d ocispec.Descriptor) (map[string]string, error) {
		info, err := p.service.cfg.Content.Info(ctx, d.Digest)
		if errdefs.IsNotFound(err) {
			return nil, nil
		}
		return info.Labels, err
	}
	above, err := labels(parent)
	if err != nil {
		return nil, err
	}
	for i, c := range children {
		own, err := labels(c)
		if err != nil {
			return nil, err
		}
		children[i] = registry.WithSources(c, own, parent.Annotations, above)
	}
	return children, nil
}

// send sends blobs side by side.
func (p *pushing) send(ctx context.Context, blobs []ocispec.Descriptor) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(maxAtOnce)
	for _, d := range blobs {
		g.Go(func() error { return p.one(ctx, d) })
	}
	return g.Wait()
}

func (p *pushing) one(ctx context.Context, d ocispec.Descriptor) error {
	if p.service.uploads != nil {
		select {
		case p.service.uploads <- struct{}{}:
			defer func() { <-p.service.uploads }()
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	err := p.pusher.Push(ctx, p.service.cfg.Content, d, func(offset int64) { p.track.moved(d, offset) })
	switch {
	case errors.Is(err, registry.ErrExists):
		p.track.exists(d)
	case err != nil:
		return err
	default:
		p.track.complete(d)
	}
	return nil
}
