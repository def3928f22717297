package content

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"

	"gantry/api/errdefs"
	"gantry/api/failpoint"
	"gantry/libctr/core/content"
	"gantry/libctr/filter"
)

// Status implements content.Store.
func (s *Store) Status(_ context.Context, ref string) (content.Status, error) {
	if err := checkRef(ref); err != nil {
		return content.Status{}, err
	}
	return readStatus(s.ingestDir(ref), ref)
}

// ListStatuses implements content.Store.
func (s *Store) ListStatuses(ctx context.Context, filters ...string) ([]content.Status, error) {
	match, err := filter.Parse(filters...)
	if err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(filepath.Join(s.root, "ingest"))
	if err != nil {
		return nil, fmt.Errorf("list ingests: %w", err)
	}
	var out []content.Status
	for _, e := range entries {
		dir := filepath.Join(s.root, "ingest", e.Name())
		ref, err := os.ReadFile(filepath.Join(dir, "ref"))
		if err != nil || dir != s.ingestDir(string(ref)) {
			continue // gone meanwhile, or its writer is only just making it, or never came to write its name
		}
		st, err := readStatus(dir, string(ref))
		if err == nil && match.Match(statusFields(st)) {
			out = append(out, st)
		}
	}
	return out, ctx.Err()
}

// statusFields makes an ingest filterable: ref.
func statusFields(st content.Status) filter.Fields {
	return func(path []string) (string, bool) { return st.Ref, path[0] == "ref" }
}

// Abort implements content.Store. A writer that holds the ingest fails at its commit.
func (s *Store) Abort(_ context.Context, ref string) error {
	if err := checkRef(ref); err != nil {
		return err
	}
	dir := s.ingestDir(ref)
	if _, err := os.Lstat(dir); err != nil {
		return ingestErr(ref, err)
	}
	if err := discard(dir); err != nil {
		return fmt.Errorf("abort ingest %q: %w", ref, err)
	}
	return nil
}

// discard removes an ingest's directory; it needs no descriptor, of which there may be
// none left, unless somebody else has put something there.
func discard(dir string) error {
	for _, name := range []string{"data", "total", "updatedat", "startedat", "ref"} {
		os.Remove(filepath.Join(dir, name)) //nolint:errcheck // what stays is noticed below
	}
	if os.Remove(dir) == nil {
		return nil
	}
	return os.RemoveAll(dir)
}

// Writer implements content.Store.
func (s *Store) Writer(_ context.Context, o content.WriterOptions) (content.Writer, error) {
	if err := checkOptions(o); err != nil {
		return nil, err
	}
	if o.Desc.Digest != "" {
		path, err := s.blobPath(o.Desc.Digest)
		if err != nil {
			return nil, err
		}
		if _, err := os.Stat(path); err == nil {
			return nil, errdefs.AlreadyExists("content %v: already exists", o.Desc.Digest)
		}
	}
	if err := s.lock(o.Ref); err != nil {
		return nil, err
	}
	w, err := s.open(o)
	if err != nil {
		s.unlock(o.Ref)
		return nil, fmt.Errorf("open ingest %q: %w", o.Ref, err)
	}
	return w, nil
}

func checkOptions(o content.WriterOptions) error {
	if err := checkRef(o.Ref); err != nil {
		return err
	}
	if o.Desc.Size < 0 {
		return errdefs.InvalidArgument("ingest %q: size %d is negative", o.Ref, o.Desc.Size)
	}
	return nil
}

func checkRef(ref string) error {
	if ref == "" || len(ref) > maxRef {
		return errdefs.InvalidArgument("an ingest needs a reference of 1 to %d bytes, not %d", maxRef, len(ref))
	}
	return nil
}

func (s *Store) lock(ref string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if since, held := s.locked[ref]; held {
		return errdefs.Unavailable("ingest %q is being written since %s", ref, since.Format(time.RFC3339))
	}
	s.locked[ref] = time.Now()
	return nil
}

func (s *Store) unlock(ref string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.locked, ref)
}

// open resumes the ingest or makes it. The caller holds the ref. Of one that could not be
// made nothing is left.
func (s *Store) open(o content.WriterOptions) (_ *writer, err error) {
	w := &writer{store: s, dir: s.ingestDir(o.Ref), status: content.Status{
		Ref: o.Ref, Total: o.Desc.Size, Expected: o.Desc.Digest,
	}}
	w.algorithm = digest.Canonical
	if o.Desc.Digest != "" {
		w.algorithm = o.Desc.Digest.Algorithm()
	}
	w.hash = w.algorithm.Digester()
	made, err := w.describe()
	defer func() {
		if err != nil && made {
			err = errors.Join(err, discard(w.dir))
		}
	}()
	if err != nil {
		return nil, err
	}
	failpoint.Hit("libctr/content.ingest.described")
	f, err := os.OpenFile(filepath.Join(w.dir, "data"), os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, err
	}
	w.data = f
	if w.status.Offset, err = io.Copy(w.hash.Hash(), f); err != nil {
		f.Close()
		return nil, err
	}
	return w, nil
}

// describe reads the ingest's small files, or writes them for a new one; made says that
// it has begun with that.
func (w *writer) describe() (made bool, err error) {
	old, err := readStatus(w.dir, w.status.Ref)
	if pe := (*fs.PathError)(nil); errors.As(err, &pe) {
		return false, err // it may be whole
	}
	if other := w.status.Total > 0 && old.Total > 0 && w.status.Total != old.Total; err == nil && !other {
		w.status.StartedAt, w.status.UpdatedAt = old.StartedAt, old.UpdatedAt
		if w.status.Total == 0 {
			w.status.Total = old.Total
		}
		return false, nil
	}
	// New, of something else, or torn by a crash between these files: start afresh.
	if err := os.RemoveAll(w.dir); err != nil {
		return false, err
	}
	if err := os.Mkdir(w.dir, 0o755); err != nil {
		return false, err
	}
	failpoint.Hit("libctr/content.ingest.directory")
	now := time.Now().UTC()
	w.status.StartedAt, w.status.UpdatedAt = now, now
	files := map[string]string{"ref": w.status.Ref, "startedat": now.Format(time.RFC3339Nano)}
	if w.status.Total > 0 {
		files["total"] = strconv.FormatInt(w.status.Total, 10)
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(w.dir, name), []byte(text), 0o644); err != nil {
			return true, err
		}
	}
	return true, nil
}

func readStatus(dir, ref string) (content.Status, error) {
	st := content.Status{Ref: ref}
	kept, err := os.ReadFile(filepath.Join(dir, "ref"))
	if err != nil {
		return st, ingestErr(ref, err)
	}
	if string(kept) != ref {
		return st, errdefs.NotFound("ingest %q: not found", ref)
	}
	started, err := os.ReadFile(filepath.Join(dir, "startedat"))
	if err != nil {
		return st, ingestErr(ref, err)
	}
	if st.StartedAt, err = time.Parse(time.RFC3339Nano, string(started)); err != nil {
		return st, fmt.Errorf("ingest %q: %w", ref, err)
	}
	st.UpdatedAt = st.StartedAt
	if fi, err := os.Stat(filepath.Join(dir, "data")); err == nil {
		st.Offset, st.UpdatedAt = fi.Size(), fi.ModTime().UTC()
	}
	if updated, err := os.ReadFile(filepath.Join(dir, "updatedat")); err == nil {
		if t, err := time.Parse(time.RFC3339Nano, string(updated)); err == nil && t.After(st.UpdatedAt) {
			st.UpdatedAt = t
		}
	}
	if total, err := os.ReadFile(filepath.Join(dir, "total")); err == nil {
		st.Total, _ = strconv.ParseInt(strings.TrimSpace(string(total)), 10, 64)
	}
	return st, nil
}

func ingestErr(ref string, err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return errdefs.NotFound("ingest %q: not found", ref)
	}
	return fmt.Errorf("ingest %q: %w", ref, err)
}
