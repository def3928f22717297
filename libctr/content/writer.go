package content

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"

	"gantry/api/errdefs"
	"gantry/api/failpoint"
	"gantry/libctr/core/content"
)

// writer holds its ref from Store.Writer to Close.
type writer struct {
	store     *Store
	dir       string
	algorithm digest.Algorithm
	hash      digest.Digester
	data      *os.File // nil once committed or closed
	status    content.Status
	flushed   int64 // how far the kernel was asked to write to the disk already
	closed    bool
}

// flushEvery is how much is written before the kernel is asked to begin with it, in
// bytes: what the commit's sync then waits for is the last piece only.
const flushEvery = 16 << 20

var errWriterClosed = errdefs.FailedPrecondition("the ingest's writer is closed")

// Write implements content.Writer. More than the announced size is FailedPrecondition.
func (w *writer) Write(p []byte) (int, error) {
	if w.data == nil {
		return 0, errWriterClosed
	}
	if w.status.Total > 0 && w.status.Offset+int64(len(p)) > w.status.Total {
		return 0, errdefs.FailedPrecondition("ingest %q: %d bytes are more than the %d announced",
			w.status.Ref, w.status.Offset+int64(len(p)), w.status.Total)
	}
	n, err := w.data.Write(p)
	w.hash.Hash().Write(p[:n])
	w.status.Offset += int64(n)
	w.status.UpdatedAt = time.Now().UTC()
	if ahead := w.status.Offset - w.flushed; ahead >= flushEvery && err == nil {
		// A hint: the sync at commit is what counts.
		_ = unix.SyncFileRange(int(w.data.Fd()), w.flushed, ahead, unix.SYNC_FILE_RANGE_WRITE)
		w.flushed = w.status.Offset
	}
	if err != nil {
		return n, fmt.Errorf("write ingest %q: %w", w.status.Ref, err)
	}
	return n, nil
}

// Digest implements content.Writer.
func (w *writer) Digest() digest.Digest { return w.hash.Digest() }

// Status implements content.Writer.
func (w *writer) Status() (content.Status, error) { return w.status, nil }

// Truncate implements content.Writer.
func (w *writer) Truncate(size int64) error {
	if size != 0 {
		return errdefs.InvalidArgument("truncate ingest %q to %d: only to 0 is possible", w.status.Ref, size)
	}
	if w.data == nil {
		return errWriterClosed
	}
	if _, err := w.data.Seek(0, io.SeekStart); err != nil {
		return fmt.Errorf("truncate ingest %q: %w", w.status.Ref, err)
	}
	if err := w.data.Truncate(0); err != nil {
		return fmt.Errorf("truncate ingest %q: %w", w.status.Ref, err)
	}
	w.hash = w.algorithm.Digester()
	w.status.Offset, w.flushed = 0, 0
	return nil
}

// Close implements content.Writer; a second one does nothing.
func (w *writer) Close() error {
	if w.closed {
		return nil
	}
	w.closed = true
	defer w.store.unlock(w.status.Ref)
	if w.data == nil {
		return nil
	}
	err := w.data.Close()
	w.data = nil
	stamp := w.status.UpdatedAt.Format(time.RFC3339Nano)
	werr := os.WriteFile(filepath.Join(w.dir, "updatedat"), []byte(stamp), 0o644)
	if errors.Is(werr, fs.ErrNotExist) {
		werr = nil // aborted meanwhile
	}
	if err = errors.Join(err, werr); err != nil {
		return fmt.Errorf("close ingest %q: %w", w.status.Ref, err)
	}
	return nil
}

// Commit implements content.Writer; labels are not kept here. After a failed check
// the ingest stays as it was and the writer can go on.
func (w *writer) Commit(_ context.Context, size int64, expected digest.Digest, _ map[string]string) error {
	if w.data == nil {
		return errWriterClosed
	}
	d, err := w.verify(size, expected)
	if err != nil {
		return err
	}
	target, err := w.store.blobPath(d)
	if err != nil {
		return err
	}
	if _, err := os.Stat(target); err == nil {
		w.drop()
		return errdefs.AlreadyExists("content %v: already exists", d)
	}
	if err := w.publish(target); errors.Is(err, fs.ErrNotExist) {
		return errdefs.NotFound("ingest %q: aborted meanwhile", w.status.Ref)
	} else if err != nil {
		return fmt.Errorf("commit ingest %q: %w", w.status.Ref, err)
	}
	w.drop()
	return nil
}

// verify checks size and digest and returns the digest the blob gets.
func (w *writer) verify(size int64, expected digest.Digest) (digest.Digest, error) {
	if size > 0 && size != w.status.Offset {
		return "", errdefs.FailedPrecondition("%q failed size validation: %d != %d: failed precondition", w.status.Ref, w.status.Offset, size)
	}
	if expected == "" {
		expected = w.status.Expected
	}
	if expected == "" {
		return w.Digest(), nil
	}
	if err := expected.Validate(); err != nil {
		return "", errdefs.InvalidArgument("digest %q: %w", expected, err)
	}
	if expected.Algorithm() != w.algorithm {
		if err := w.rehash(expected.Algorithm()); err != nil {
			return "", err
		}
	}
	if d := w.Digest(); d != expected {
		return "", errdefs.FailedPrecondition("unexpected commit digest %v, expected %v: failed precondition", d, expected)
	}
	return expected, nil
}

// rehash reads the data again for a digest of another algorithm.
func (w *writer) rehash(alg digest.Algorithm) error {
	h := alg.Digester()
	if _, err := io.Copy(h.Hash(), io.NewSectionReader(w.data, 0, w.status.Offset)); err != nil {
		return fmt.Errorf("hash ingest %q: %w", w.status.Ref, err)
	}
	w.algorithm, w.hash = alg, h
	return nil
}

// publish makes the data the blob target, on disk when it returns.
func (w *writer) publish(target string) error {
	disk := w.store.disk
	if err := w.data.Chmod(0o444); err != nil {
		return err
	}
	if err := disk.sync(w.data); err != nil {
		return err
	}
	dir := filepath.Dir(target)
	if err := makeDir(dir, disk); err != nil {
		return err
	}
	failpoint.Hit("libctr/content.commit.synced")
	if err := disk.rename(filepath.Join(w.dir, "data"), target); err != nil {
		return err
	}
	failpoint.Hit("libctr/content.commit.renamed")
	return disk.syncDir(dir)
}

// makeDir makes dir, and its entry durable when it is new.
func makeDir(dir string, disk disk) error {
	switch err := os.Mkdir(dir, 0o755); {
	case errors.Is(err, fs.ErrExist):
		return nil
	case err != nil:
		return err
	}
	return disk.syncDir(filepath.Dir(dir))
}

// drop ends the ingest after its data has become a blob or is not needed. What
// cannot be removed is an ingest without data, which the next writer replaces.
func (w *writer) drop() {
	w.data.Close()
	w.data = nil
	failpoint.Hit("libctr/content.commit.published")
	os.RemoveAll(w.dir)
}
