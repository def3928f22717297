// Package content keeps blobs in a directory tree of the local filesystem.
//
//	<root>/blobs/<algorithm>/<hex>     a committed blob, mode 0444, named by its digest
//	<root>/ingest/<sha256 of ref>/
//	        data       what was written so far
//	        ref        the ingest's name
//	        startedat  RFC 3339 time, UTC
//	        updatedat  the same; written when a writer closes
//	        total      expected size in bytes, decimal; absent when unknown
//
// A blob appears whole: its data is hashed while it is written, synced, renamed
// into blobs, and the directory is synced before Commit returns. A crash before
// the rename leaves an ingest that can be resumed (its data is hashed again), one
// after it leaves the blob and an empty ingest that the next writer takes away.
// Commit costs one fsync of the data and one of the directory.
//
// The store knows no namespaces and no labels; libctr/metadata adds both.
//
// Lock order: Store.mu only; it is held over no I/O.
package content

import (
	"context"
	"crypto/sha256"
	_ "crypto/sha512" // digests may be of it
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"gantry/api/errdefs"
	"gantry/api/failpoint"
	"gantry/libctr/core/content"
	"gantry/libctr/filter"
)

// maxRef bounds the name of an ingest in bytes.
const maxRef = 4096

// Store is a content.Store on a directory. Safe for concurrent use; at most one
// process may use a root.
type Store struct {
	root string
	disk disk

	mu     sync.Mutex
	locked map[string]time.Time // ref → since when a writer holds it; guarded by mu
}

var _ content.Store = (*Store)(nil)

// New opens or makes a store at root, of which others see nothing: images may be private.
// Ingests that nobody sees go: a crash came before they had all their files.
func New(root string) (*Store, error) {
	for _, name := range []string{"blobs", "ingest"} {
		dir := filepath.Join(root, name)
		err := os.MkdirAll(dir, 0o755)
		if err == nil {
			err = os.Chmod(dir, 0o700)
		}
		if err != nil {
			return nil, fmt.Errorf("open content store: %w", err)
		}
	}
	if err := dropTorn(filepath.Join(root, "ingest")); err != nil {
		return nil, fmt.Errorf("open content store: %w", err)
	}
	return &Store{root: root, disk: realDisk, locked: make(map[string]time.Time)}, nil
}

// torn says whether an ingest lacks a file, or what is to be in it.
func torn(dir string) bool {
	ref, err := os.ReadFile(filepath.Join(dir, "ref"))
	if err == nil && len(ref) > 0 {
		_, err = readStatus(dir, string(ref))
	} else if err == nil {
		return true
	}
	var date *time.ParseError
	return errors.Is(err, fs.ErrNotExist) || errdefs.IsNotFound(err) || errors.As(err, &date)
}

func dropTorn(ingests string) error {
	entries, err := os.ReadDir(ingests)
	if err != nil {
		return err
	}
	for _, e := range entries {
		dir := filepath.Join(ingests, e.Name())
		if !torn(dir) {
			continue
		}
		if err := os.RemoveAll(dir); err != nil {
			return err
		}
	}
	return nil
}

// Info implements content.Store.
func (s *Store) Info(_ context.Context, d digest.Digest) (content.Info, error) {
	path, err := s.blobPath(d)
	if err != nil {
		return content.Info{}, err
	}
	fi, err := os.Stat(path)
	if err != nil {
		return content.Info{}, blobErr(d, err)
	}
	return blobInfo(d, fi), nil
}

// Update implements content.Store: there are no labels here to update.
func (s *Store) Update(context.Context, content.Info, ...string) (content.Info, error) {
	return content.Info{}, errdefs.FailedPrecondition("this content store keeps no labels")
}

// Walk implements content.Store. Blobs that come or go meanwhile may be missed.
func (s *Store) Walk(ctx context.Context, fn func(content.Info) error, filters ...string) error {
	match, err := filter.Parse(filters...)
	if err != nil {
		return err
	}
	algorithms, err := os.ReadDir(filepath.Join(s.root, "blobs"))
	if err != nil {
		return fmt.Errorf("walk blobs: %w", err)
	}
	for _, alg := range algorithms {
		if err := s.walkAlgorithm(ctx, digest.Algorithm(alg.Name()), match, fn); err != nil {
			return err
		}
	}
	return nil
}

func (s *Store) walkAlgorithm(ctx context.Context, alg digest.Algorithm, match filter.Filter, fn func(content.Info) error) error {
	if !alg.Available() {
		return nil // not ours
	}
	entries, err := os.ReadDir(filepath.Join(s.root, "blobs", alg.String()))
	if err != nil {
		return fmt.Errorf("walk blobs: %w", err)
	}
	for _, e := range entries {
		if err := ctx.Err(); err != nil {
			return err
		}
		d := digest.NewDigestFromEncoded(alg, e.Name())
		fi, err := e.Info()
		if err != nil || d.Validate() != nil {
			continue // gone meanwhile, or not a blob
		}
		if info := blobInfo(d, fi); match.Match(filter.Blob(info)) {
			if err := fn(info); err != nil {
				return err
			}
		}
	}
	return nil
}

// Delete implements content.Store. Open readers go on.
func (s *Store) Delete(_ context.Context, d digest.Digest) error {
	path, err := s.blobPath(d)
	if err != nil {
		return err
	}
	if err := os.Remove(path); err != nil {
		return blobErr(d, err)
	}
	failpoint.Hit("libctr/content.delete.blob")
	return nil
}

// ReaderAt implements content.Store.
func (s *Store) ReaderAt(_ context.Context, desc ocispec.Descriptor) (content.ReaderAt, error) {
	path, err := s.blobPath(desc.Digest)
	if err != nil {
		return nil, err
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, blobErr(desc.Digest, err)
	}
	fi, err := f.Stat()
	if err != nil {
		f.Close()
		return nil, blobErr(desc.Digest, err)
	}
	return reader{File: f, size: fi.Size()}, nil
}

type reader struct {
	*os.File
	size int64
}

func (r reader) Size() int64 { return r.size }

var _ io.ReaderAt = reader{}

func (s *Store) blobPath(d digest.Digest) (string, error) {
	if err := d.Validate(); err != nil {
		return "", errdefs.InvalidArgument("digest %q: %w", d, err)
	}
	return filepath.Join(s.root, "blobs", d.Algorithm().String(), d.Encoded()), nil
}

func (s *Store) ingestDir(ref string) string {
	sum := sha256.Sum256([]byte(ref))
	return filepath.Join(s.root, "ingest", hex.EncodeToString(sum[:]))
}

func blobInfo(d digest.Digest, fi fs.FileInfo) content.Info {
	t := fi.ModTime().UTC()
	return content.Info{Digest: d, Size: fi.Size(), CreatedAt: t, UpdatedAt: t}
}

func blobErr(d digest.Digest, err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return errdefs.NotFound("content %v: not found", d)
	}
	return fmt.Errorf("content %v: %w", d, err)
}
