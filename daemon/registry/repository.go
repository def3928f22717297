package registry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"

	"github.com/distribution/reference"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	orascontent "oras.land/oras-go/v2/content"
	orasregistry "oras.land/oras-go/v2/registry"
	"oras.land/oras-go/v2/registry/remote"
	"oras.land/oras-go/v2/registry/remote/auth"
	"oras.land/oras-go/v2/registry/remote/errcode"

	"gantry/api/errdefs"
)

// MaxManifest bounds a manifest or index, in bytes; the specification asks for 4 MiB.
const MaxManifest = 8 << 20

// maxTagPages bounds how long a registry may make us list tags.
const maxTagPages = 1000

var manifestTypes = []string{
	ocispec.MediaTypeImageManifest, ocispec.MediaTypeImageIndex,
	"application/vnd.docker.distribution.manifest.v2+json",
	"application/vnd.docker.distribution.manifest.list.v2+json",
	"*/*",
}

// Repository is one repository at the endpoints that may have it. Safe for concurrent use.
type Repository struct {
	name      reference.Named
	endpoints []*endpoint // mirrors, then the own host
}

// endpoint is a repository at one host.
type endpoint struct {
	host   *host
	path   string
	client *auth.Client
	mirror bool
	plain  bool // a mirror given as http://
}

func (e *endpoint) remote(ctx context.Context) *remote.Repository {
	return &remote.Repository{
		Client:             e.client,
		Reference:          e.reference(""),
		PlainHTTP:          e.plain || e.host.plainHTTP(ctx),
		ManifestMediaTypes: manifestTypes,
		TagListMaxPages:    maxTagPages,
		MaxMetadataBytes:   MaxManifest,
	}
}

func (e *endpoint) reference(ref string) orasregistry.Reference {
	return orasregistry.Reference{Registry: e.host.name, Repository: e.path, Reference: ref}
}

// Host is where the repository's own copy is.
func (r *Repository) Host() string { return r.endpoints[len(r.endpoints)-1].host.name }

// try asks one endpoint after another until one answers; the own host's error counts.
func (r *Repository) try(ctx context.Context, ask func(*endpoint) error) error {
	var err error
	for _, e := range r.endpoints {
		if err = ask(e); err == nil || ctx.Err() != nil {
			return err
		}
	}
	return classify(err)
}

// Resolve returns the descriptor of a tag or digest: media type, digest, size.
// NotFound when there is none.
func (r *Repository) Resolve(ctx context.Context, ref string) (desc ocispec.Descriptor, err error) {
	err = r.try(ctx, func(e *endpoint) (err error) {
		desc, err = e.remote(ctx).Resolve(ctx, ref)
		return err
	})
	return desc, err
}

// Manifest returns a manifest or index, its size and digest verified.
func (r *Repository) Manifest(ctx context.Context, desc ocispec.Descriptor) (body []byte, err error) {
	if desc.Size > MaxManifest {
		return nil, errdefs.ResourceExhausted("manifest %s has %d bytes, at most %d are allowed", desc.Digest, desc.Size, MaxManifest)
	}
	err = r.try(ctx, func(e *endpoint) error {
		rc, err := e.remote(ctx).Manifests().Fetch(ctx, desc)
		if err != nil {
			return err
		}
		defer rc.Close()
		body, err = orascontent.ReadAll(rc, desc)
		return err
	})
	return body, err
}

// maxTags bounds what a registry may list of one repository.
const maxTags = 100_000

// Tags lists all tags of the repository.
func (r *Repository) Tags(ctx context.Context) (tags []string, err error) {
	err = r.try(ctx, func(e *endpoint) error {
		tags = nil
		return e.remote(ctx).Tags(ctx, "", func(page []string) error {
			if len(tags)+len(page) > maxTags {
				return errdefs.ResourceExhausted("more than %d tags", maxTags)
			}
			tags = append(tags, page...)
			return nil
		})
	})
	return tags, err
}

// Blob opens a blob from offset on. Where the server knows no ranges it begins at 0;
// start says where. The content is not verified.
func (r *Repository) Blob(ctx context.Context, desc ocispec.Descriptor, offset int64) (body io.ReadCloser, start int64, err error) {
	err = r.try(ctx, func(e *endpoint) error {
		body, start, err = e.blob(ctx, desc, offset)
		return err
	})
	return body, start, err
}

func (e *endpoint) blob(ctx context.Context, desc ocispec.Descriptor, offset int64) (io.ReadCloser, int64, error) {
	scheme := "https"
	if e.plain || e.host.plainHTTP(ctx) {
		scheme = "http"
	}
	ctx = auth.AppendRepositoryScope(ctx, e.reference(""), auth.ActionPull)
	url := fmt.Sprintf("%s://%s/v2/%s/blobs/%s", scheme, e.host.name, e.path, desc.Digest)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, 0, err
	}
	req.Header.Set("Accept-Encoding", "identity") // a layer is not to be unpacked on the way
	if offset > 0 {
		req.Header.Set("Range", fmt.Sprintf("bytes=%d-", offset))
	}
	resp, err := e.client.Do(req)
	if err != nil {
		return nil, 0, err
	}
	switch resp.StatusCode {
	case http.StatusOK:
		return resp.Body, 0, nil
	case http.StatusPartialContent:
		var from int64
		if _, err := fmt.Sscanf(resp.Header.Get("Content-Range"), "bytes %d-", &from); err == nil && from == offset {
			return resp.Body, offset, nil
		}
		err = fmt.Errorf("%s %q: wrong Content-Range %q", req.Method, req.URL, resp.Header.Get("Content-Range"))
	default:
		err = parseError(resp)
	}
	resp.Body.Close()
	return nil, 0, err
}

// parseError reads the error body of the distribution specification.
func parseError(resp *http.Response) error {
	out := &errcode.ErrorResponse{Method: resp.Request.Method, URL: resp.Request.URL, StatusCode: resp.StatusCode}
	var body struct {
		Errors errcode.Errors `json:"errors"`
	}
	p, err := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	if err == nil && json.Unmarshal(p, &body) == nil {
		out.Errors = body.Errors
	}
	return out
}

// Temporary says whether trying again may help: the network, a busy or broken server.
func Temporary(err error) bool {
	if err == nil || errors.Is(err, context.Canceled) {
		return false
	}
	var resp *errcode.ErrorResponse
	if errors.As(err, &resp) {
		again := []int{http.StatusRequestTimeout, http.StatusTooManyRequests, http.StatusInternalServerError,
			http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout,
			http.StatusRequestedRangeNotSatisfiable}
		return slices.Contains(again, resp.StatusCode)
	}
	return errdefs.Class(err) == nil
}
