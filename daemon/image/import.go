package image

import (
	"bufio"
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/containerd/platforms"
	"github.com/distribution/reference"
	"github.com/docker/docker/api/types/events"
	"github.com/klauspost/compress/gzip"
	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"gantry/api/compression"
	"gantry/api/errdefs"
	apiimage "gantry/api/image"
	"gantry/daemon/image/change"
	"gantry/libctr/core/content"
	"gantry/libctr/core/image"
	coremanifest "gantry/libctr/core/manifest"
)

// Import makes an image of one layer from a tar, packed or not, of the request's body or
// of a URL, configured by Dockerfile instructions. A gzip or zstd tar is kept as it is,
// any other is packed with gzip.
func (s *Service) Import(ctx context.Context, o apiimage.ImportOptions, out apiimage.Progress) error {
	name, err := importName(o.Ref)
	if err != nil {
		return err
	}
	config, err := change.Apply(dockerspec.DockerOCIImageConfig{}, o.Changes)
	if err != nil {
		return err
	}
	show := newProgress(out)
	id, err := s.importFrom(ctx, o, name, config, show)
	if err == nil {
		show.message("", id.String())
	}
	if gone := show.close(); err == nil {
		return gone
	}
	return err
}

// importName is "" for an image without a name.
func importName(ref string) (string, error) {
	if ref == "" {
		return "", nil
	}
	named, err := reference.ParseNormalizedNamed(ref)
	if err != nil {
		return "", errdefs.WithClass(errdefs.ErrInvalidArgument, err)
	}
	if _, ok := named.(reference.Digested); ok {
		return "", errdefs.InvalidArgument("cannot import digest reference")
	}
	return reference.TagNameOnly(named).String(), nil
}

func (s *Service) importFrom(ctx context.Context, o apiimage.ImportOptions, name string, config dockerspec.DockerOCIImageConfig, show *progress) (digest.Digest, error) {
	body, err := importSource(ctx, o, show)
	if err != nil {
		return "", err
	}
	defer body.Close()
	ctx, done, err := s.underLease(ctx, false)
	if err != nil {
		return "", err
	}
	defer done()
	desc, diff, err := s.importLayer(ctx, body)
	if err != nil {
		return "", err
	}
	m, err := s.importManifest(ctx, o, config, desc, diff)
	if err != nil {
		return "", err
	}
	if _, err := s.unpack(ctx, m, unpackHooks{}); err != nil {
		return "", err
	}
	return m.desc.Digest, s.importRecord(ctx, m, name)
}

// importSource opens what is to be imported.
func importSource(ctx context.Context, o apiimage.ImportOptions, show *progress) (io.ReadCloser, error) {
	if o.Source == "-" {
		return io.NopCloser(o.Body), nil
	}
	src := o.Source
	if !strings.Contains(src, "://") {
		src = "http://" + src
	}
	u, err := url.Parse(src)
	if err != nil {
		return nil, errdefs.WithClass(errdefs.ErrInvalidArgument, err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, errdefs.WithClass(errdefs.ErrInvalidArgument, err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode >= 400 {
		said, _ := io.ReadAll(io.LimitReader(resp.Body, 1024))
		resp.Body.Close()
		return nil, httpError(u, resp, said)
	}
	show.message("", "Downloading from "+u.String())
	counted := &countedReader{r: resp.Body, count: func(n int64) { show.count("", "Importing", n, resp.ContentLength, "") }}
	return struct {
		io.Reader
		io.Closer
	}{counted, resp.Body}, nil
}

// httpError gives a server's refusal the class that dockerd gives it.
func httpError(u *url.URL, resp *http.Response, said []byte) error {
	err := fmt.Errorf("failed to GET %s with status %s: %s", u, resp.Status, strings.TrimSpace(string(said)))
	switch resp.StatusCode {
	case http.StatusNotFound:
		return errdefs.WithClass(errdefs.ErrNotFound, err)
	case http.StatusBadRequest:
		return errdefs.WithClass(errdefs.ErrInvalidArgument, err)
	case http.StatusUnauthorized:
		return errdefs.WithClass(errdefs.ErrUnauthenticated, err)
	case http.StatusForbidden:
		return errdefs.WithClass(errdefs.ErrPermissionDenied, err)
	case http.StatusServiceUnavailable:
		return errdefs.WithClass(errdefs.ErrUnavailable, err)
	}
	return err
}

// importLayer stores the tar and returns its descriptor and diff id.
func (s *Service) importLayer(ctx context.Context, r io.Reader) (ocispec.Descriptor, digest.Digest, error) {
	br := bufio.NewReaderSize(r, 64<<10)
	kind, err := compression.Peek(br)
	if err != nil {
		return ocispec.Descriptor{}, "", fmt.Errorf("read tar: %w", err)
	}
	store := s.packLayer
	mediaType := ocispec.MediaTypeImageLayerGzip
	switch kind {
	case compression.Zstd:
		store, mediaType = s.keepLayer, ocispec.MediaTypeImageLayerZstd
	case compression.Gzip:
		store = s.keepLayer
	}
	desc, diff, err := store(ctx, "import-"+rand.Text(), br)
	if err != nil {
		return desc, "", fmt.Errorf("store layer: %w", err)
	}
	desc.MediaType = mediaType
	err = content.AddLabels(ctx, s.Content, desc.Digest, map[string]string{labelUncompressed: diff.String()})
	return desc, diff, err
}

// keepLayer stores a packed tar as it comes and unpacks it on the side for its diff id.
func (s *Service) keepLayer(ctx context.Context, ref string, r io.Reader) (ocispec.Descriptor, digest.Digest, error) {
	pr, pw := io.Pipe()
	diff := make(chan digest.Digest, 1)
	var unpackErr error
	go func() {
		defer close(diff)
		d, err := plainDigest(pr)
		unpackErr = err
		pr.CloseWithError(err) // the writer goes on only when all was read
		diff <- d
	}()
	desc, err := s.ingest(ctx, ref, io.TeeReader(r, pw), "")
	pw.CloseWithError(err)
	d := <-diff
	if unpackErr != nil {
		return desc, "", errdefs.InvalidArgument("unpack tar: %w", unpackErr)
	}
	return desc, d, err
}

// plainDigest is the digest of what a packed stream unpacks to; it reads all of it.
func plainDigest(r io.Reader) (digest.Digest, error) {
	plain, _, err := compression.Reader(r)
	if err != nil {
		return "", err
	}
	defer plain.Close()
	h := digest.Canonical.Digester()
	if _, err := io.Copy(h.Hash(), plain); err != nil {
		return "", err
	}
	_, err = io.Copy(io.Discard, r)
	return h.Digest(), err
}

// packLayer unpacks if need be, and packs with gzip.
func (s *Service) packLayer(ctx context.Context, ref string, r io.Reader) (ocispec.Descriptor, digest.Digest, error) {
	plain, _, err := compression.Reader(r)
	if err != nil {
		return ocispec.Descriptor{}, "", errdefs.WithClass(errdefs.ErrInvalidArgument, err)
	}
	defer plain.Close()
	h := digest.Canonical.Digester()
	pr, pw := io.Pipe()
	packed := make(chan error, 1)
	go func() {
		err := pack(pw, io.TeeReader(plain, h.Hash()))
		pw.CloseWithError(err)
		packed <- err
	}()
	desc, err := s.ingest(ctx, ref, pr, "")
	pr.CloseWithError(err)
	if packErr := <-packed; err == nil {
		err = packErr
	}
	return desc, h.Digest(), err
}

// pack writes r's gzip, in large pieces: gzip writes some hundred bytes at a time, and to
// another's content store each would be a call.
func pack(w io.Writer, r io.Reader) error {
	large := bufio.NewWriterSize(w, 256<<10)
	zw := gzip.NewWriter(large)
	if _, err := io.Copy(zw, r); err != nil {
		return err
	}
	if err := zw.Close(); err != nil {
		return err
	}
	return large.Flush()
}

func (s *Service) importManifest(ctx context.Context, o apiimage.ImportOptions, config dockerspec.DockerOCIImageConfig, l ocispec.Descriptor, diff digest.Digest) (*manifest, error) {
	platform := platforms.DefaultSpec()
	if o.Platform != nil {
		platform = *o.Platform
	}
	message := o.Message
	if message == "" {
		message = "Imported from " + o.Source
	}
	now := time.Now().UTC()
	m := &manifest{config: dockerspec.DockerOCIImage{
		Image: ocispec.Image{
			Platform: platform, Created: &now,
			RootFS:  ocispec.RootFS{Type: "layers", DiffIDs: []digest.Digest{diff}},
			History: []ocispec.History{{Created: &now, Comment: message}},
		},
		Config: config,
	}}
	configDesc, err := s.writeJSON(ctx, ocispec.MediaTypeImageConfig, m.config, nil)
	if err != nil {
		return nil, err
	}
	m.body = ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest,
		Config: configDesc, Layers: []ocispec.Descriptor{l},
	}
	m.desc, err = s.writeJSON(ctx, ocispec.MediaTypeImageManifest, m.body, coremanifest.Labels(manifestChildren(&m.body)))
	return m, err
}

func (s *Service) importRecord(ctx context.Context, m *manifest, name string) error {
	dangling := name == ""
	if dangling {
		name = danglingName(m.desc.Digest)
	}
	img, _, err := s.put(ctx, image.Image{Name: name, Target: m.desc})
	if err != nil {
		return err
	}
	id := m.desc.Digest.String()
	if !dangling {
		s.publishLabelled(ctx, events.ActionTag, img, id, familiarName(img))
	}
	s.publishLabelled(ctx, events.ActionImport, img, id, id)
	return nil
}
