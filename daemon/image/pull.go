package image

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/containerd/platforms"
	"github.com/distribution/reference"
	"github.com/docker/docker/api/types/events"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"gantry/api/errdefs"
	"gantry/api/failpoint"
	apiimage "gantry/api/image"
	"gantry/daemon/registry"
	"gantry/libctr/core/image"
	coremanifest "gantry/libctr/core/manifest"
)

// Pull fetches an image, or with o.All every tag of its repository, unpacks it and
// names it. Layers come side by side and are unpacked in their order while later ones
// still come. What was fetched before a client left is kept for its next try.
func (s *Service) Pull(ctx context.Context, o apiimage.PullOptions, out apiimage.Progress) error {
	ref, err := parsePullReference(o.Ref)
	if err != nil {
		return err
	}
	repo, err := s.registries.Repository(ref, registry.Auth{Credentials: o.Auth, Headers: o.Headers})
	if err != nil {
		return err
	}
	ctx, done, err := s.underLease(ctx, true)
	if err != nil {
		return err
	}
	defer done()
	if !o.All || !reference.IsNameOnly(ref) {
		return s.pullOne(ctx, repo, reference.TagNameOnly(ref), o.Platform, out)
	}
	tags, err := repo.Tags(ctx)
	if err != nil {
		return pullError(ref, o.Platform, err)
	}
	for _, tag := range tags {
		tagged, err := reference.WithTag(ref, tag)
		if err != nil {
			s.log.WarnContext(ctx, "registry lists an invalid tag", "repository", ref.Name(), "err", err)
			continue
		}
		if err := s.pullOne(ctx, repo, tagged, o.Platform, out); err != nil {
			return fmt.Errorf("error pulling %s: %w", tagged, err)
		}
	}
	return nil
}

func parsePullReference(name string) (reference.Named, error) {
	ref, err := reference.ParseNormalizedNamed(name)
	if err != nil {
		return nil, errdefs.WithClass(errdefs.ErrInvalidArgument, err)
	}
	if reference.FamiliarName(ref) == "scratch" {
		return nil, errdefs.PermissionDenied("'scratch' is a reserved name")
	}
	return ref, nil
}

// pull is one reference being pulled.
type pull struct {
	s        *Service
	repo     *registry.Repository
	ref      reference.Named
	platform *ocispec.Platform
	show     *progress
	source   map[string]string // the label that says where blobs came from
}

func (s *Service) pullOne(ctx context.Context, repo *registry.Repository, ref reference.Named, p *ocispec.Platform, out apiimage.Progress) error {
	x := &pull{s: s, repo: repo, ref: ref, platform: p, show: newProgress(out), source: map[string]string{
		labelSource + reference.Domain(ref): reference.Path(ref),
	}}
	err := x.run(ctx)
	if gone := x.show.close(); err == nil {
		return gone
	}
	return pullError(ref, p, err)
}

func (x *pull) run(ctx context.Context) error {
	old, err := x.s.find(ctx, x.ref.String())
	if err != nil && !errdefs.IsNotFound(err) {
		return err
	}
	target, err := x.fetch(ctx)
	if err != nil {
		return err
	}
	failpoint.Hit("daemon/image.pull.fetched")
	img, _, err := x.s.put(ctx, image.Image{Name: x.ref.String(), Target: target})
	if err != nil {
		return err
	}
	failpoint.Hit("daemon/image.pull.named")
	name := reference.FamiliarString(x.ref)
	x.s.publishLabelled(ctx, events.ActionPull, img, name, reference.FamiliarName(x.ref))
	x.show.message("", "Digest: "+target.Digest.String())
	if old.Target.Digest == target.Digest {
		x.show.message("", "Status: Image is up to date for "+name)
	} else {
		x.show.message("", "Status: Downloaded newer image for "+name)
	}
	return nil
}

// fetch brings the target with one platform below it into the store, unpacked.
func (x *pull) fetch(ctx context.Context) (ocispec.Descriptor, error) {
	target, err := x.repo.Resolve(ctx, refPart(x.ref))
	if err != nil {
		return target, fmt.Errorf("failed to resolve reference %q: %w", x.ref, named(x.ref, err))
	}
	if coremanifest.IsSchema1(target.MediaType) {
		return target, errdefs.InvalidArgument("Docker Image Format v1 and Docker Image manifest version 2, schema 1 support has been removed. "+
			"Suggest the author of %s to upgrade the image to the OCI Format or Docker Image manifest v2, schema 2. "+
			"More information at https://docs.docker.com/go/deprecated-image-specs/", x.ref)
	}
	desc, err := x.document(ctx, target, 0)
	if err != nil {
		return target, err
	}
	return ocispec.Descriptor{MediaType: target.MediaType, Digest: target.Digest, Size: target.Size}, x.image(ctx, desc)
}

// refPart is the tag or digest that a registry is asked for.
func refPart(ref reference.Named) string {
	if d, ok := ref.(reference.Digested); ok {
		return d.Digest().String()
	}
	return tagOf(ref)
}

// named puts the reference before a bare "not found", as containerd does.
func named(ref reference.Named, err error) error {
	if errdefs.IsNotFound(err) {
		return fmt.Errorf("%s: %w", ref, err)
	}
	return err
}

// document fetches an index and those below it that lead to the platform, and returns
// the platform's manifest.
func (x *pull) document(ctx context.Context, desc ocispec.Descriptor, depth int) (ocispec.Descriptor, error) {
	if depth > maxDepth {
		return desc, errdefs.InvalidArgument("image %s is nested deeper than %d", x.ref, maxDepth)
	}
	if coremanifest.IsManifest(desc.MediaType) {
		return desc, nil
	}
	if !coremanifest.IsIndex(desc.MediaType) {
		return desc, errdefs.InvalidArgument("unsupported media type %s of %s", desc.MediaType, x.ref)
	}
	body, err := x.read(ctx, desc)
	if err != nil {
		return desc, err
	}
	var index ocispec.Index
	if err := json.Unmarshal(body, &index); err != nil {
		return desc, errdefs.InvalidArgument("decode index %s: %w", desc.Digest, err)
	}
	child, err := x.choose(index.Manifests)
	if err != nil {
		return desc, err
	}
	found, err := x.document(ctx, child, depth+1)
	if err != nil {
		return desc, err
	}
	return found, x.store(ctx, desc, body, index.Manifests)
}

var errNoMatch = errdefs.NotFound("no match for platform in manifest: not found")

// choose picks the manifest for the platform; an index in an index has none, it is
// tried when nothing else fits.
func (x *pull) choose(children []ocispec.Descriptor) (ocispec.Descriptor, error) {
	pm := x.s.host
	if x.platform != nil {
		pm = platforms.Only(*x.platform)
	}
	var fits, nested []ocispec.Descriptor
	for _, d := range children {
		switch {
		case isPseudo(d, nil) || !coremanifest.IsManifest(d.MediaType) && !coremanifest.IsIndex(d.MediaType):
		case d.Platform == nil:
			nested = append(nested, d)
		case pm.Match(*d.Platform):
			fits = append(fits, d)
		}
	}
	if len(fits) > 0 {
		return slices.MinFunc(fits, func(a, b ocispec.Descriptor) int {
			switch {
			case pm.Less(*a.Platform, *b.Platform):
				return -1
			case pm.Less(*b.Platform, *a.Platform):
				return 1
			}
			return 0
		}), nil
	}
	if len(nested) > 0 {
		return nested[0], nil
	}
	return ocispec.Descriptor{}, errNoMatch
}

// read returns a document from the store, else from the registry.
func (x *pull) read(ctx context.Context, desc ocispec.Descriptor) ([]byte, error) {
	if ok, err := x.s.hasBlob(ctx, desc.Digest); err != nil {
		return nil, err
	} else if ok {
		return x.s.readBlob(ctx, desc)
	}
	var body []byte
	var err error
	pause := x.s.cfg.RetryDelay
	for attempt := 1; ; attempt++ {
		body, err = x.repo.Manifest(ctx, desc)
		if err == nil || attempt >= int(x.s.attempts.Load()) || !registry.Temporary(err) || ctx.Err() != nil {
			break
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		pause *= 2
	}
	if err != nil {
		return nil, fmt.Errorf("fetch manifest %s: %w", desc.Digest, err)
	}
	return body, nil
}

// store keeps a document with the labels that hold its children.
func (x *pull) store(ctx context.Context, desc ocispec.Descriptor, body []byte, children []ocispec.Descriptor) error {
	labels := coremanifest.Labels(children)
	for k, v := range x.source {
		labels[k] = v
	}
	return x.s.writeBlob(ctx, desc, body, labels)
}

// image fetches one platform: manifest, config, layers, and unpacks it.
func (x *pull) image(ctx context.Context, desc ocispec.Descriptor) error {
	body, err := x.read(ctx, desc)
	if err != nil {
		return err
	}
	m := &manifest{desc: desc}
	if err := json.Unmarshal(body, &m.body); err != nil {
		return errdefs.InvalidArgument("decode manifest %s: %w", desc.Digest, err)
	}
	tag := tagOf(x.ref)
	if tag == "" {
		tag = x.ref.String()
	}
	x.show.message(tag, "Pulling from "+reference.Path(x.ref))
	wanted, quiet, err := x.prepare(ctx, m)
	if err != nil {
		return err
	}
	g, run := errgroup.WithContext(ctx)
	for _, b := range wanted.order {
		g.Go(func() error { return x.blob(run, b, quiet) })
	}
	g.Go(func() error { return x.unpack(run, m, wanted, quiet) })
	if err := g.Wait(); err != nil {
		return err
	}
	failpoint.Hit("daemon/image.pull.unpacked")
	return x.store(ctx, desc, body, manifestChildren(&m.body))
}

// blobState is one blob of the image; ready is closed when it is in the store.
type blobState struct {
	desc  ocispec.Descriptor
	have  bool
	ready chan error
}

type wantedBlobs struct {
	order []*blobState // the config first
	by    map[digest.Digest]*blobState
}

// prepare checks the manifest's descriptors and which blobs are here already. quiet is
// said when all are: Docker then shows no layers.
func (x *pull) prepare(ctx context.Context, m *manifest) (*wantedBlobs, bool, error) {
	w := &wantedBlobs{by: map[digest.Digest]*blobState{}}
	quiet := true
	for _, d := range manifestChildren(&m.body) {
		if err := checkDescriptor(d); err != nil {
			return nil, false, err
		}
		if w.by[d.Digest] != nil {
			continue
		}
		have, err := x.s.hasBlob(ctx, d.Digest)
		if err != nil {
			return nil, false, err
		}
		b := &blobState{desc: d, have: have, ready: make(chan error)}
		w.order, w.by[d.Digest] = append(w.order, b), b
		quiet = quiet && have
	}
	return w, quiet, nil
}

func checkDescriptor(d ocispec.Descriptor) error {
	if err := d.Digest.Validate(); err != nil {
		return errdefs.InvalidArgument("descriptor with digest %q: %w", d.Digest, err)
	}
	if d.Size < 0 || coremanifest.IsImageConfig(d.MediaType) && d.Size > coremanifest.MaxSize {
		return errdefs.InvalidArgument("descriptor %s with size %d", d.Digest, d.Size)
	}
	return nil
}

// blob brings one blob here.
func (x *pull) blob(ctx context.Context, b *blobState, quiet bool) error {
	id := shortID(b.desc.Digest.String())
	shown := !quiet && !coremanifest.IsImageConfig(b.desc.MediaType)
	say := func(text string) {
		if shown {
			x.show.state(id, text)
		}
	}
	if b.have {
		err := x.s.adopt(ctx, b.desc.Digest, x.source)
		if err == nil {
			say("Already exists")
			close(b.ready)
		}
		if !errdefs.IsNotFound(err) { // not found: collected while we looked
			return err
		}
	}
	say("Pulling fs layer")
	err := x.s.transfers.fetch(ctx, x.repo, b.desc, x.source, func(current, total int64) {
		if shown {
			x.show.count(id, "Downloading", current, total, "")
		}
	})
	if err != nil {
		return err
	}
	failpoint.Hit("daemon/image.pull.blob")
	say("Download complete")
	close(b.ready)
	return nil
}

// unpack waits for the config, then applies each layer once it is here.
func (x *pull) unpack(ctx context.Context, m *manifest, w *wantedBlobs, quiet bool) error {
	wait := func(ctx context.Context, d digest.Digest) error {
		select {
		case <-w.by[d].ready:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	if err := wait(ctx, m.body.Config.Digest); err != nil {
		return err
	}
	if isPseudo(m.desc, &m.body) || !coremanifest.IsImageConfig(m.body.Config.MediaType) {
		return nil // an artifact: kept, never run
	}
	if err := x.s.readJSON(ctx, m.body.Config, &m.config); err != nil {
		return err
	}
	stops := make([]func(), len(m.body.Layers)) // each is one layer's
	id := func(i int) string { return shortID(m.body.Layers[i].Digest.String()) }
	end := func(i int) {
		if stops[i] != nil {
			stops[i]()
			stops[i] = nil
		}
	}
	_, err := x.s.unpack(ctx, m, unpackHooks{
		ready: func(i int) <-chan error { return w.by[m.body.Layers[i].Digest].ready },
		began: func(i int) { end(i); stops[i] = x.extracting(id(i), quiet) },
		done: func(i int) {
			end(i)
			if !quiet {
				x.show.state(id(i), "Pull complete")
			}
		},
	})
	for i := range stops {
		end(i)
	}
	return err
}

// extracting shows that a layer is being unpacked, in seconds, until stop is called.
func (x *pull) extracting(id string, quiet bool) (stop func()) {
	if quiet {
		return func() {}
	}
	ended := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		for n := int64(1); ; n++ {
			x.show.count(id, "Extracting", n, 0, "s")
			select {
			case <-tick.C:
			case <-ended:
				return
			}
		}
	})
	return func() { close(ended); wg.Wait() }
}

// pullError gives a failure the words that Docker has for it.
func pullError(ref reference.Named, p *ocispec.Platform, err error) error {
	switch {
	case registry.NoCredentials(err):
		return err
	case errors.Is(err, registry.ErrAuthorization):
		return errdefs.NotFound("pull access denied for %s, repository does not exist or may require 'docker login'", reference.FamiliarName(ref))
	case errors.Is(err, errNoMatch):
		name := platforms.DefaultString()
		if p != nil {
			name = platforms.FormatAll(*p)
		}
		return errdefs.NotFound("no matching manifest for %s in the manifest list entries: %w", name, errNoMatch)
	}
	return err
}
