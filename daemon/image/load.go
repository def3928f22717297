package image

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/containerd/platforms"
	"github.com/distribution/reference"
	"github.com/docker/docker/api/types/events"
	"github.com/docker/docker/pkg/jsonmessage"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"gantry/api/errdefs"
	"gantry/api/failpoint"
	apiimage "gantry/api/image"
	"gantry/libctr/core/archive"
	"gantry/libctr/core/content"
	"gantry/libctr/core/image"
	"gantry/libctr/core/lease"
	coremanifest "gantry/libctr/core/manifest"
)

// Load takes the images of a tar: an OCI layout or Docker's archive, packed or not. An
// image without a name is kept under its id. What can't be unpacked stays loaded and is
// told in the stream. quiet has nothing to silence: there is no progress yet.
func (s *Service) Load(ctx context.Context, tar io.Reader, p *ocispec.Platform, _ bool, out apiimage.Progress) error {
	ctx, done, err := s.underLease(ctx, false)
	if err != nil {
		return err
	}
	defer done()
	found, err := archive.Read(ctx, tar, &loadSink{s: s, prefix: "load-" + rand.Text()})
	if err != nil {
		return fmt.Errorf("load: %w", err)
	}
	failpoint.Hit("daemon/image.load.read")
	recs, err := s.loadRecords(ctx, found)
	if err != nil {
		return err
	}
	failpoint.Hit("daemon/image.load.named")
	if p != nil {
		if err := s.verifyLoaded(ctx, recs, p); err != nil {
			return err
		}
	}
	for _, img := range recs {
		if err := s.finishLoad(ctx, img, p, out); err != nil {
			return err
		}
	}
	return nil
}

// loadSink puts an archive's files into the content store.
type loadSink struct {
	s      *Service
	prefix string
	n      int
}

func (k *loadSink) Put(ctx context.Context, r io.Reader, expected digest.Digest) (ocispec.Descriptor, error) {
	if expected != "" {
		// Held first, so that it can't be collected between the look and the use.
		if err := k.s.hold(ctx, lease.From(ctx), "content", expected.String()); err != nil {
			return ocispec.Descriptor{}, err
		}
		info, err := k.s.Content.Info(ctx, expected)
		if !errdefs.IsNotFound(err) {
			return ocispec.Descriptor{Digest: expected, Size: info.Size}, err
		}
	}
	k.n++
	return k.s.ingest(ctx, fmt.Sprintf("%s-%d", k.prefix, k.n), r, expected)
}

// ingest stores a stream of unknown size; expected may be "". It begins anew what was
// cut off.
func (s *Service) ingest(ctx context.Context, ref string, r io.Reader, expected digest.Digest) (_ ocispec.Descriptor, err error) {
	ref = oncePrefix + ref
	w, err := s.Content.Writer(ctx, content.WriterOptions{Ref: ref, Desc: ocispec.Descriptor{Digest: expected}})
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	failpoint.Hit("daemon/image.ingest.opened")
	defer func() {
		w.Close()
		if err != nil {
			s.abort(ctx, ref)
		}
	}()
	size, err := io.Copy(w, r)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	failpoint.Hit("daemon/image.ingest.written")
	d := expected
	if d == "" {
		d = w.Digest()
	}
	err = w.Commit(ctx, size, d, nil)
	failpoint.Hit("daemon/image.ingest.committed")
	if errdefs.IsAlreadyExists(err) {
		err = s.hold(ctx, lease.From(ctx), "content", d.String())
	}
	return ocispec.Descriptor{Digest: d, Size: size}, err
}

// abort drops an ingest, even when ctx has ended.
func (s *Service) abort(ctx context.Context, ref string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoTime)
	defer cancel()
	if err := s.Content.Abort(ctx, ref); err != nil && !errdefs.IsNotFound(err) {
		s.log.WarnContext(ctx, "abort ingest", "ref", ref, "err", err)
	}
}

// loadRecords checks and ties each image together and names it.
func (s *Service) loadRecords(ctx context.Context, found []archive.Image) ([]image.Image, error) {
	var out []image.Image
	for _, f := range found {
		target, err := s.tie(ctx, f.Target)
		if err != nil {
			return nil, fmt.Errorf("load image %s: %w", f.Target.Digest, err)
		}
		failpoint.Hit("daemon/image.load.tied")
		name := danglingName(target.Digest)
		if ref, err := reference.ParseNormalizedNamed(f.Name); err == nil && f.Name != "" {
			name = reference.TagNameOnly(ref).String()
		}
		img, _, err := s.put(ctx, image.Image{Name: name, Target: target})
		if err != nil {
			return nil, err
		}
		out = append(out, img)
	}
	return out, nil
}

// tie sets the labels by which a manifest or index keeps what is below it. The target
// itself and the configs of manifests that are here must be in the store. It returns
// the target with its size as it is.
func (s *Service) tie(ctx context.Context, target ocispec.Descriptor) (ocispec.Descriptor, error) {
	info, err := s.Content.Info(ctx, target.Digest)
	if err != nil {
		return target, err
	}
	target.Size = info.Size
	if _, err := s.manifests(ctx, target); err != nil {
		return target, err
	}
	return target, s.walk(ctx, target, func(d ocispec.Descriptor) error {
		children, err := s.children(ctx, d)
		if errdefs.IsNotFound(err) || err == nil && len(children) == 0 {
			return nil
		}
		if err != nil {
			return err
		}
		for _, c := range children {
			if err := c.Digest.Validate(); err != nil {
				return errdefs.InvalidArgument("%s names digest %q: %w", d.Digest, c.Digest, err)
			}
		}
		return content.AddLabels(ctx, s.Content, d.Digest, coremanifest.Labels(children))
	})
}

// verifyLoaded fails when the platform asked for is not complete in every image.
func (s *Service) verifyLoaded(ctx context.Context, imgs []image.Image, p *ocispec.Platform) error {
	name := platforms.FormatAll(*p)
	var without []string
	for _, img := range imgs {
		m, err := s.best(ctx, img, p)
		if err == nil {
			err = s.complete(ctx, m)
		}
		switch {
		case errdefs.IsNotFound(err):
			without = append(without, familiarName(img))
		case err != nil:
			return err
		}
	}
	switch {
	case len(imgs) == 0:
		return errdefs.NotFound("no images providing the requested platform %s found", name)
	case len(without) == 1:
		return errdefs.NotFound("image %s was loaded, but doesn't provide the requested platform (%s)", without[0], name)
	case len(without) > 1:
		return errdefs.NotFound("images [%s] were loaded, but don't provide the requested platform (%s)", strings.Join(without, ", "), name)
	}
	return nil
}

// complete is NotFound when a layer is missing.
func (s *Service) complete(ctx context.Context, m *manifest) error {
	for _, l := range m.body.Layers {
		if _, err := s.Content.Info(ctx, l.Digest); err != nil {
			return err
		}
	}
	return nil
}

// finishLoad unpacks the platforms that can run here, or the one asked for, and tells.
func (s *Service) finishLoad(ctx context.Context, img image.Image, p *ocispec.Platform, out apiimage.Progress) error {
	name, words := familiarName(img), "Loaded image"
	if isDangling(img) {
		words = "Loaded image ID"
	}
	unpackErr := s.unpackImage(ctx, img, p)
	if unpackErr != nil && ctx.Err() != nil {
		return ctx.Err()
	}
	id := img.Target.Digest.String()
	s.publishLabelled(ctx, events.ActionLoad, img, id, id)
	if err := out(jsonmessage.JSONMessage{Stream: fmt.Sprintf("%s: %s\n", words, name)}); err != nil {
		return err
	}
	if unpackErr != nil {
		return out(jsonmessage.JSONMessage{Stream: fmt.Sprintf("Error unpacking image %s: %v\n", name, unpackErr)})
	}
	return nil
}

// unpackImage unpacks every platform of img that matches p, or the host when p is nil.
func (s *Service) unpackImage(ctx context.Context, img image.Image, p *ocispec.Platform) error {
	pm := s.host
	if p != nil {
		pm = platforms.OnlyStrict(*p)
	}
	descs, err := s.manifests(ctx, img.Target)
	if err != nil {
		return err
	}
	var errs []error
	for _, d := range descs {
		m, err := s.readImage(ctx, d)
		if err != nil || isPseudo(d, &m.body) || !pm.Match(m.platform()) {
			continue
		}
		_, err = s.unpack(ctx, m, unpackHooks{})
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}
