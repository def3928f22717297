package image

import (
	"context"
	"encoding/json"
	"fmt"
	"io"

	"github.com/distribution/reference"
	"github.com/docker/docker/api/types/auxprogress"
	"github.com/docker/docker/api/types/events"
	registrytypes "github.com/docker/docker/api/types/registry"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"gantry/api/errdefs"
	apiimage "gantry/api/image"
	"gantry/daemon/registry"
	"gantry/libctr/core/content"
	"gantry/libctr/core/image"
	coremanifest "gantry/libctr/core/manifest"
)

// maxAsked bounds the blobs of one push that a registry is asked about at the same time.
const maxAsked = 10

// Push sends an image to the registry that its name says; a name without a tag means
// every tag of the repository. Of an index whose platforms are not all here only the
// best one that is goes, as in Docker, which the stream tells.
func (s *Service) Push(ctx context.Context, ref string, p *ocispec.Platform, a *registrytypes.AuthConfig, out apiimage.Progress) error {
	named, err := reference.ParseNormalizedNamed(ref)
	if err != nil {
		return errdefs.WithClass(errdefs.ErrInvalidArgument, err)
	}
	repo, err := s.registries.Repository(named, registry.Auth{Credentials: a})
	if err != nil {
		return err
	}
	ctx, done, err := s.underLease(ctx, false)
	if err != nil {
		return err
	}
	defer done()
	show := newProgress(out)
	show.message("", fmt.Sprintf("The push refers to repository [%s]", named.Name()))
	err = s.pushAll(ctx, repo, named, p, show)
	if gone := show.close(); err == nil {
		return gone
	}
	return err
}

func (s *Service) pushAll(ctx context.Context, repo *registry.Repository, named reference.Named, p *ocispec.Platform, show *progress) error {
	imgs, err := s.pushed(ctx, named)
	if err != nil {
		return err
	}
	for _, img := range imgs {
		if err := s.pushOne(ctx, repo, img, p, show); err != nil {
			return err
		}
	}
	return nil
}

// pushed are the records that a reference means.
func (s *Service) pushed(ctx context.Context, named reference.Named) ([]image.Image, error) {
	if reference.IsNameOnly(named) {
		imgs, err := s.ofRepository(ctx, named)
		if err == nil && len(imgs) == 0 {
			err = fmt.Errorf("An image does not exist locally with the tag: %s", reference.FamiliarName(named)) //nolint:staticcheck // Docker's words
		}
		return imgs, err
	}
	img, err := s.Images.Get(ctx, named.String())
	if errdefs.IsNotFound(err) {
		return nil, errdefs.NotFound("tag does not exist: %s", reference.FamiliarString(named))
	}
	return []image.Image{img}, err
}

func (s *Service) pushOne(ctx context.Context, repo *registry.Repository, img image.Image, p *ocispec.Platform, show *progress) error {
	target, err := s.pushTarget(ctx, img, p)
	if err != nil {
		return err
	}
	if err := s.holdImage(ctx, target); err != nil {
		return err
	}
	named, err := reference.ParseNormalizedNamed(img.Name)
	if err != nil {
		return errdefs.WithClass(errdefs.ErrInvalidArgument, err)
	}
	x := &push{s: s, repo: repo, show: show, root: target.Digest, tag: tagOf(named)}
	if err := x.all(ctx, target); err != nil {
		return err
	}
	s.publishLabelled(ctx, events.ActionPush, img, reference.FamiliarString(named), reference.FamiliarName(named))
	if x.tag != "" {
		show.message("", fmt.Sprintf("%s: digest: %s size: %d", x.tag, target.Digest, target.Size))
	}
	if target.Digest != img.Target.Digest && p == nil {
		aux, err := json.Marshal(auxprogress.ManifestPushedInsteadOfIndex{
			ManifestPushedInsteadOfIndex: true, OriginalIndex: img.Target, SelectedManifest: target,
		})
		if err != nil {
			return err
		}
		show.aux(aux)
	}
	return nil
}

// pushTarget is what can be pushed of an image: the platform asked for, else all of it
// when it is all here, else the host's platform.
func (s *Service) pushTarget(ctx context.Context, img image.Image, p *ocispec.Platform) (ocispec.Descriptor, error) {
	if p == nil {
		whole := true
		err := s.walk(ctx, img.Target, func(d ocispec.Descriptor) error {
			ok, err := s.hasBlob(ctx, d.Digest)
			whole = whole && (ok || coremanifest.IsNonDistributable(d.MediaType))
			return err
		})
		if err != nil || whole {
			return img.Target, err
		}
	}
	m, err := s.best(ctx, img, p)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	return m.desc, s.complete(ctx, m)
}

// push is one target being pushed.
type push struct {
	s    *Service
	repo *registry.Repository
	show *progress
	root digest.Digest
	tag  string
}

// all pushes blobs side by side, then documents, each after what it names.
func (x *push) all(ctx context.Context, target ocispec.Descriptor) error {
	var blobs, documents []ocispec.Descriptor
	err := x.s.walk(ctx, target, func(d ocispec.Descriptor) error {
		switch {
		case coremanifest.IsManifest(d.MediaType), coremanifest.IsIndex(d.MediaType):
			documents = append(documents, d)
		case !coremanifest.IsNonDistributable(d.MediaType):
			blobs = append(blobs, d)
		}
		return nil
	})
	if err != nil {
		return err
	}
	g, run := errgroup.WithContext(ctx)
	g.SetLimit(maxAsked)
	for _, b := range blobs {
		g.Go(func() error { return x.blob(run, b) })
	}
	if err := g.Wait(); err != nil {
		return err
	}
	for i := len(documents) - 1; i >= 0; i-- { // the walk has parents first
		if err := x.document(ctx, documents[i]); err != nil {
			return err
		}
	}
	return nil
}

func (x *push) blob(ctx context.Context, desc ocispec.Descriptor) error {
	id, shown := shortID(desc.Digest.String()), !coremanifest.IsImageConfig(desc.MediaType)
	say := func(text string) {
		if shown {
			x.show.state(id, text)
		}
	}
	say("Preparing")
	have, err := x.repo.HasBlob(ctx, desc)
	if err != nil {
		return fmt.Errorf("look for %s: %w", desc.Digest, err)
	}
	if have {
		say("Layer already exists")
		return nil
	}
	if err := x.s.uploads.acquire(ctx); err != nil {
		return err
	}
	defer x.s.uploads.release()
	body, err := content.Open(ctx, x.s.Content, desc)
	if err != nil {
		return err
	}
	defer body.Close()
	counted := &countedReader{r: body, count: func(n int64) {
		if shown {
			x.show.count(id, "Pushing", n, desc.Size, "")
		}
	}}
	if err := x.repo.PushBlob(ctx, desc, io.LimitReader(counted, desc.Size)); err != nil {
		return fmt.Errorf("push %s: %w", desc.Digest, err)
	}
	say("Pushed")
	return nil
}

func (x *push) document(ctx context.Context, desc ocispec.Descriptor) error {
	body, err := x.s.readBlob(ctx, desc)
	if err != nil {
		return err
	}
	tag := ""
	if desc.Digest == x.root {
		tag = x.tag
	}
	if err := x.repo.PushManifest(ctx, desc, body, tag); err != nil {
		return fmt.Errorf("push manifest %s: %w", desc.Digest, err)
	}
	return nil
}
