// Package content names the immutable, content-addressed blobs of the core and
// the store that keeps them. All methods work in the namespace of ctx
// (reqctx.Namespace); a store without namespaces ignores it.
package content

import (
	"context"
	"io"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Info describes a committed blob.
type Info struct {
	Digest    digest.Digest
	Size      int64 // bytes
	CreatedAt time.Time
	UpdatedAt time.Time
	Labels    map[string]string
}

// Status describes an ingest, a blob being written.
type Status struct {
	Ref       string
	Offset    int64 // bytes written so far
	Total     int64 // bytes expected, 0 when unknown
	Expected  digest.Digest
	StartedAt time.Time
	UpdatedAt time.Time
}

// ReaderAt reads a committed blob; the caller closes it.
type ReaderAt interface {
	io.ReaderAt
	io.Closer
	Size() int64
}

// Writer writes one ingest. Close without Commit keeps what was written, so that
// opening the same ref again resumes it; Store.Abort drops it. Not safe for
// concurrent use.
type Writer interface {
	io.WriteCloser
	// Digest of what was written so far.
	Digest() digest.Digest
	// Commit makes the blob visible, on disk when it returns. A size above 0 and a
	// non-empty expected digest are checked (FailedPrecondition). A blob that exists
	// already is AlreadyExists; the ingest is then gone too.
	Commit(ctx context.Context, size int64, expected digest.Digest, labels map[string]string) error
	Status() (Status, error)
	Truncate(size int64) error // only 0
}

// WriterOptions say what an ingest will become.
type WriterOptions struct {
	Ref  string             // names the ingest, required
	Desc ocispec.Descriptor // Size and Digest where known
}

// Store keeps blobs. Safe for concurrent use.
type Store interface {
	Info(ctx context.Context, d digest.Digest) (Info, error)
	// Update replaces the labels named by fieldpaths ("labels", "labels.KEY"), all when none are given.
	Update(ctx context.Context, info Info, fieldpaths ...string) (Info, error)
	// Walk calls fn for each blob that one of the filters matches (containerd's filter syntax), any when there are none.
	Walk(ctx context.Context, fn func(Info) error, filters ...string) error
	Delete(ctx context.Context, d digest.Digest) error
	// ReaderAt opens a blob; desc.Digest is what counts.
	ReaderAt(ctx context.Context, desc ocispec.Descriptor) (ReaderAt, error)
	// Writer opens or resumes an ingest; Unavailable when another holds it, AlreadyExists when the blob is there.
	Writer(ctx context.Context, o WriterOptions) (Writer, error)
	Status(ctx context.Context, ref string) (Status, error)
	ListStatuses(ctx context.Context, filters ...string) ([]Status, error)
	Abort(ctx context.Context, ref string) error
}
