// Package transfer moves images between the core's store, registries and tar streams; the
// table of what goes where is in libctr/core/transfer.
//
// A transfer works under the lease of its context, or under one of its own that lasts a
// day and goes with it, so that nothing of it is collected before its image refers to it.
// What a crash leaves is the lease's, and goes when that expires; a pull that is begun
// again within it goes on where it was.
package transfer

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"

	"github.com/containerd/platforms"
	"github.com/opencontainers/go-digest"

	"gantry/api/errdefs"
	"gantry/api/failpoint"
	"gantry/libctr/core/content"
	"gantry/libctr/core/image"
	"gantry/libctr/core/lease"
	"gantry/libctr/core/transfer"
	"gantry/libctr/core/unpack"
	"gantry/libctr/registry"
)

// Config says on what a Service works.
type Config struct {
	Content    content.Store
	Images     image.Store
	Leases     lease.Manager
	Registries *registry.Client
	// Targets are what can be unpacked, in order of preference.
	Targets []Target
	// DefaultSnapshotter is preferred where a transfer names none.
	DefaultSnapshotter string
	MaxUploads         int // blobs at a time, of all pushes; 0 for the bound of one push
	Log                *slog.Logger
}

// Target unpacks images of some platforms into one snapshotter.
type Target struct {
	Platform    platforms.Matcher
	Snapshotter string
	Unpacker    Unpacker
}

// Unpacker makes snapshots of layers; see unpack.Unpacker.
type Unpacker interface {
	Unpack(ctx context.Context, layers []unpack.Layer, labels map[string]string) (digest.Digest, error)
	Tie(ctx context.Context, config, chain digest.Digest) error
}

// Service is the core's Transferrer.
type Service struct {
	cfg     Config
	uploads chan struct{} // one token per upload; nil for no bound
}

var _ transfer.Transferrer = (*Service)(nil)

// New returns a service; it does no I/O.
func New(cfg Config) *Service {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	s := &Service{cfg: cfg}
	if cfg.MaxUploads > 0 {
		s.uploads = make(chan struct{}, cfg.MaxUploads)
	}
	return s
}

// Transfer implements transfer.Transferrer.
func (s *Service) Transfer(ctx context.Context, source, destination transfer.End, o transfer.Options) error {
	if e, ok := destination.(*transfer.Export); ok {
		return s.to(ctx, source, e, o)
	}
	report := reporter(o.Progress)
	switch src := source.(type) {
	case *transfer.Registry:
		if dst, ok := destination.(*transfer.ImageStore); ok {
			return s.leased(ctx, func(ctx context.Context) error { return s.pull(ctx, src, dst, report) })
		}
	case *transfer.ImageStore:
		switch dst := destination.(type) {
		case *transfer.Registry:
			return s.push(ctx, src, dst, report)
		case *transfer.ImageStore:
			return s.leased(ctx, func(ctx context.Context) error { return s.tag(ctx, src, dst) })
		}
	case *transfer.Import:
		if dst, ok := destination.(*transfer.ImageStore); ok {
			return s.leased(ctx, func(ctx context.Context) error { return s.importTar(ctx, src, dst, report) })
		}
	}
	return unable(source, destination)
}

func unable(source, destination transfer.End) error {
	return errdefs.NotImplemented("unable to transfer from %s to %s", source, destination)
}

// to writes into a stream and closes it.
func (s *Service) to(ctx context.Context, source transfer.End, dst *transfer.Export, o transfer.Options) (err error) {
	defer func() {
		if cerr := dst.Stream.Close(); cerr != nil && err == nil {
			err = fmt.Errorf("close export stream: %w", cerr)
		}
	}()
	switch src := source.(type) {
	case *transfer.ImageStore:
		return s.leased(ctx, func(ctx context.Context) error { return s.exportTar(ctx, src, dst, reporter(o.Progress)) })
	case *transfer.Import:
		_, err := io.Copy(dst.Stream, src.Stream)
		return err
	}
	return unable(source, dst)
}

const (
	leaseLife   = 24 * time.Hour
	labelExpire = "containerd.io/gc.expire"
	undoTime    = 10 * time.Second
)

// leased runs fn under the lease of ctx or one that is made for it.
func (s *Service) leased(ctx context.Context, fn func(ctx context.Context) error) error {
	if lease.From(ctx) != "" {
		return fn(ctx)
	}
	id := "transfer-" + rand.Text()
	expire := map[string]string{labelExpire: time.Now().Add(leaseLife).UTC().Format(time.RFC3339)}
	if _, err := s.cfg.Leases.Create(ctx, id, expire); err != nil {
		return fmt.Errorf("create lease: %w", err)
	}
	failpoint.Hit("libctr/transfer.lease.made")
	err := fn(lease.With(ctx, id))
	failpoint.Hit("libctr/transfer.lease.used")
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoTime)
	defer cancel()
	if derr := s.cfg.Leases.Delete(ctx, id, false); derr != nil && !errdefs.IsNotFound(derr) {
		err = errors.Join(err, fmt.Errorf("delete lease %s: %w", id, derr))
	}
	return err
}

// tag gives an image further names.
func (s *Service) tag(ctx context.Context, src, dst *transfer.ImageStore) error {
	img, err := s.cfg.Images.Get(ctx, src.Name)
	if err != nil {
		return err
	}
	_, err = s.save(ctx, names(dst, img.Target, false))
	return err
}
