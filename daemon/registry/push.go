package registry

import (
	"bytes"
	"context"
	"fmt"
	"io"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/registry/remote/auth"
)

// own is the repository at its own host: nothing is ever pushed to a mirror.
func (r *Repository) own() *endpoint { return r.endpoints[len(r.endpoints)-1] }

// pushing asks for one token that is good for looking and for writing.
func (e *endpoint) pushing(ctx context.Context) context.Context {
	return auth.AppendRepositoryScope(ctx, e.reference(""), auth.ActionPull, auth.ActionPush)
}

// HasBlob says whether the repository has a blob.
func (r *Repository) HasBlob(ctx context.Context, desc ocispec.Descriptor) (bool, error) {
	e := r.own()
	ctx = e.pushing(ctx)
	ok, err := e.remote(ctx).Blobs().Exists(ctx, desc)
	return ok, classifyPush(err)
}

// PushBlob uploads a blob; body is read once, to its end.
func (r *Repository) PushBlob(ctx context.Context, desc ocispec.Descriptor, body io.Reader) error {
	e := r.own()
	ctx = e.pushing(ctx)
	return classifyPush(e.remote(ctx).Blobs().Push(ctx, desc, body))
}

// PushManifest uploads a manifest or index, under a tag or, when that is "", by digest.
func (r *Repository) PushManifest(ctx context.Context, desc ocispec.Descriptor, body []byte, tag string) error {
	if tag == "" {
		tag = desc.Digest.String()
	}
	e := r.own()
	ctx = e.pushing(ctx)
	repo := e.remote(ctx)
	// The referrers index is for artifacts of our own making; a registry without the
	// referrers API keeps what it is given.
	if err := repo.SetReferrersCapability(true); err != nil {
		return fmt.Errorf("push manifest %s: %w", desc.Digest, err)
	}
	return classifyPush(repo.Manifests().PushReference(ctx, desc, bytes.NewReader(body), tag))
}
