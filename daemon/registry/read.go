package registry

import (
	"context"
	"errors"
	"fmt"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	orascontent "oras.land/oras-go/v2/content"
	"oras.land/oras-go/v2/errdef"
	"oras.land/oras-go/v2/registry/remote/errcode"

	"gantry/api/errdefs"
)

// Read returns the manifest or index of a tag or digest with its descriptor, by one
// request. Its errors have the words that a registry writes, as Docker shows them where
// nothing is pulled.
func (r *Repository) Read(ctx context.Context, ref string) (desc ocispec.Descriptor, body []byte, err error) {
	var bare error
	err = r.try(ctx, func(e *endpoint) error {
		desc, body, bare = e.read(ctx, ref)
		return bare
	})
	if err == nil {
		return desc, body, nil
	}
	return desc, nil, plainly(bare, err)
}

func (e *endpoint) read(ctx context.Context, ref string) (ocispec.Descriptor, []byte, error) {
	desc, rc, err := e.remote(ctx).Manifests().FetchReference(ctx, ref)
	if err != nil {
		return desc, nil, err
	}
	defer rc.Close()
	if desc.Size > MaxManifest {
		return desc, nil, errdefs.ResourceExhausted("manifest %s has %d bytes, at most %d are allowed", desc.Digest, desc.Size, MaxManifest)
	}
	body, err := orascontent.ReadAll(rc, desc)
	return desc, body, err
}

// plainly is a failure in the registry's own words, with the class that it has anyway.
func plainly(bare, classified error) error {
	var resp *errcode.ErrorResponse
	switch {
	case errors.Is(bare, errdef.ErrNotFound):
		return errdefs.NotFound("manifest unknown: manifest unknown") // oras keeps the status only
	case NoCredentials(classified):
		return errdefs.Unauthenticated("no basic auth credentials")
	case errors.As(bare, &resp) && len(resp.Errors) > 0 && errdefs.Class(classified) != nil:
		return errdefs.WithClass(errdefs.Class(classified), words(resp.Errors))
	}
	return classified
}

func words(errs errcode.Errors) error {
	var lines []string
	for _, e := range errs {
		code := strings.ToLower(strings.ReplaceAll(e.Code, "_", " "))
		lines = append(lines, fmt.Sprintf("%s: %s", code, e.Message))
	}
	if len(lines) == 1 {
		return errors.New(lines[0])
	}
	return errors.New("errors:\n" + strings.Join(lines, "\n") + "\n")
}
