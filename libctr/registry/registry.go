// Package registry brings blobs from image registries into a content store and back. The
// protocol, its authorization and hosts.toml are containerd's own client
// (core/remotes/docker); this package bounds what a registry may do, resumes what was cut
// off, and checks what came.
//
// A registry is not trusted: a manifest has at most manifest.MaxSize bytes, a blob exactly
// the size that its descriptor says, and what does not have its digest is dropped. A host
// that sends nothing for stallTime is given up.
package registry

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/containerd/containerd/v2/core/remotes"
	"github.com/containerd/containerd/v2/core/remotes/docker"
	"github.com/containerd/containerd/v2/core/remotes/docker/config"
	containerdtransfer "github.com/containerd/containerd/v2/core/transfer" // names the resolver's options
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/semaphore"

	"gantry/api/errdefs"
	"gantry/libctr/core/manifest"
	"gantry/libctr/core/transfer"
)

// Config is of all registries.
type Config struct {
	HostDir   string // of hosts.toml files where a transfer names none
	UserAgent string
	// MaxDownloads is how many requests fetch blobs at a time, 0 for any number.
	MaxDownloads int
	// Chunk, from 512 bytes on, lets one layer be fetched by several requests at once, each
	// of that size; they count as downloads and are held in memory.
	Chunk int
	Log   *slog.Logger // nil is none
}

// Client reaches registries. Safe for concurrent use.
type Client struct {
	cfg       Config
	downloads *semaphore.Weighted // nil for any number
}

// New returns a client; it does no I/O.
func New(cfg Config) *Client {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	c := &Client{cfg: cfg}
	if cfg.MaxDownloads > 0 {
		c.downloads = semaphore.NewWeighted(int64(cfg.MaxDownloads))
	}
	return c
}

// Remote is one image's repository. Close it.
type Remote struct {
	reference string
	resolver  remotes.Resolver
	transport *transport
	log       *slog.Logger
}

// Open prepares to reach r; nothing is asked yet. ctx is for what is asked of
// r.Credentials.
func (c *Client) Open(ctx context.Context, r *transfer.Registry) (*Remote, error) {
	ctx = quiet(ctx, c.cfg.Log)
	t := &transport{debug: r.Debug, out: r.DebugLog, log: c.cfg.Log}
	secrets := &secrets{ctx: ctx, reference: r.Reference, from: r.Credentials}
	options := config.HostOptions{DefaultScheme: r.DefaultScheme, UpdateClient: t.wrap}
	if r.Credentials != nil {
		options.Credentials = secrets.credentials
	}
	dir := r.HostDir
	if dir == "" {
		dir = c.cfg.HostDir
	}
	if dir != "" {
		options.HostDir = config.HostDirFromRoot(dir)
	}
	resolver := docker.NewResolver(docker.ResolverOptions{
		Hosts: secrets.hosts(config.ConfigureHosts(ctx, options)), Headers: c.headers(r.Headers)})
	if s, ok := resolver.(remotes.ResolverWithOptions); ok {
		s.SetOptions(c.limits()...)
	}
	return &Remote{reference: r.Reference, resolver: resolver, transport: t, log: c.cfg.Log}, nil
}

func (c *Client) limits() []containerdtransfer.ImageResolverOption {
	out := []containerdtransfer.ImageResolverOption{
		containerdtransfer.WithConcurrentLayerFetchBuffer(c.cfg.Chunk),
		containerdtransfer.WithMaxConcurrentDownloads(c.cfg.MaxDownloads),
	}
	if c.downloads != nil {
		out = append(out, containerdtransfer.WithDownloadLimiter(c.downloads))
	}
	return out
}

func (c *Client) headers(set map[string]string) http.Header {
	h := http.Header{}
	for k, v := range set {
		h.Set(k, v)
	}
	if h.Get("User-Agent") == "" && c.cfg.UserAgent != "" {
		h.Set("User-Agent", c.cfg.UserAgent)
	}
	return h
}

// Close lets go of idle connections.
func (r *Remote) Close() { r.transport.close() }

// Resolve asks what the reference stands for.
func (r *Remote) Resolve(ctx context.Context) (name string, desc ocispec.Descriptor, err error) {
	name, desc, err = r.resolver.Resolve(quiet(ctx, r.log), r.reference)
	if err != nil {
		return "", desc, err
	}
	if err := desc.Digest.Validate(); err != nil {
		return "", desc, errdefs.InvalidArgument("registry's digest %q: %w", desc.Digest, err)
	}
	return name, desc, nil
}

// Fetcher opens blobs of the repository that name, as Resolve has returned it, is in.
func (r *Remote) Fetcher(ctx context.Context, name string) (*Fetcher, error) {
	f, err := r.resolver.Fetcher(quiet(ctx, r.log), name)
	if err != nil {
		return nil, fmt.Errorf("failed to get fetcher for %q: %w", name, err)
	}
	return &Fetcher{remote: f, log: r.log}, nil
}

// Pusher takes blobs for the repository, and the target's under the reference's tag.
func (r *Remote) Pusher(ctx context.Context, target ocispec.Descriptor) (*Pusher, error) {
	ref := r.reference
	if !strings.Contains(ref, "@") {
		ref += "@" + target.Digest.String()
	}
	p, err := r.resolver.Pusher(quiet(ctx, r.log), ref)
	if err != nil {
		return nil, err
	}
	return &Pusher{remote: p, log: r.log}, nil
}

// check refuses what cannot be fetched.
func check(d ocispec.Descriptor) error {
	if err := d.Digest.Validate(); err != nil {
		return errdefs.InvalidArgument("digest %q: %w", d.Digest, err)
	}
	switch {
	case manifest.IsSchema1(d.MediaType):
		return errdefs.InvalidArgument("%s: schema 1 image manifests are no longer supported", d.Digest)
	case d.Size == 0:
		return errdefs.InvalidArgument("unable to fetch descriptor (%s) which reports content size of zero", d.Digest)
	case d.Size < 0:
		return errdefs.InvalidArgument("unable to fetch descriptor (%s) which reports negative content size (%d)", d.Digest, d.Size)
	case bounded(d.MediaType) && d.Size > manifest.MaxSize:
		return errdefs.ResourceExhausted("%s %s has %d bytes, more than %d", d.MediaType, d.Digest, d.Size, manifest.MaxSize)
	}
	return nil
}

// bounded media types are read into memory.
func bounded(mt string) bool {
	return manifest.IsManifest(mt) || manifest.IsIndex(mt) || manifest.IsImageConfig(mt)
}

// pause waits, unless ctx ends.
func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
