package metadata

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"

	contentapi "github.com/containerd/containerd/api/services/content/v1"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"go.etcd.io/bbolt"
	"google.golang.org/protobuf/proto"

	"gantry/api/errdefs"
	"gantry/api/failpoint"
	"gantry/libctr/core/content"
	"gantry/libctr/core/wire"
	"gantry/libctr/filter"
	"gantry/libctr/label"
)

const bucketContent = "content"

// contentStore gives each namespace its own view of one backend: a blob is there
// once, and in each namespace that has a record of it.
type contentStore struct {
	db       *DB
	backend  content.Store
	isolated bool        // Options.Isolated
	dirty    atomic.Bool // the backend may have blobs without a record

	mu     sync.Mutex
	open   map[string]int        // writers by the backend's ref; guarded by mu
	shared map[digest.Digest]int // writers that share, see shared.go; guarded by mu
}

var _ content.Store = (*contentStore)(nil)

// backendRef names an ingest of a namespace; namespaces have no slash.
func backendRef(ns, ref string) string { return ns + "/" + ref }

func (s *contentStore) Info(ctx context.Context, d digest.Digest) (info content.Info, err error) {
	ns, err := namespaceOf(ctx)
	if err != nil {
		return info, err
	}
	err = s.db.view(func(tx *bbolt.Tx) error {
		info, err = getBlob(tx, ns, d)
		return err
	})
	return info, err
}

func getBlob(tx *bbolt.Tx, ns string, d digest.Digest) (content.Info, error) {
	if err := d.Validate(); err != nil {
		return content.Info{}, errdefs.InvalidArgument("digest %q: %w: invalid argument", d, err)
	}
	var m contentapi.Info
	found, err := get(bucket(tx, ns, bucketContent), d.String(), &m)
	if err == nil && !found {
		err = errdefs.NotFound("content digest %v: not found", d)
	}
	return wire.FromContentInfo(&m), err
}

func (s *contentStore) Update(ctx context.Context, info content.Info, paths ...string) (out content.Info, err error) {
	ns, err := namespaceOf(ctx)
	if err != nil {
		return out, err
	}
	err = s.db.update(ctx, func(tx *bbolt.Tx) error {
		if out, err = getBlob(tx, ns, info.Digest); err != nil {
			return err
		}
		if out.Labels, err = mergeLabels("content info", info.Digest.String(), out.Labels, info.Labels, paths); err != nil {
			return err
		}
		out.UpdatedAt = s.db.now().UTC()
		return put(bucket(tx, ns, bucketContent), info.Digest.String(), wire.ContentInfo(out))
	})
	return out, err
}

func (s *contentStore) Walk(ctx context.Context, fn func(content.Info) error, filters ...string) error {
	ns, match, err := query(ctx, filters)
	if err != nil {
		return err
	}
	var infos []content.Info
	err = s.db.view(func(tx *bbolt.Tx) error {
		return each(bucket(tx, ns, bucketContent), func(d string, v []byte) error {
			var m contentapi.Info
			if err := proto.Unmarshal(v, &m); err != nil {
				s.db.passOver(ns, "content", d, err)
				return nil
			}
			if i := wire.FromContentInfo(&m); match.Match(filter.Blob(i)) {
				infos = append(infos, i)
			}
			return nil
		})
	})
	if err != nil {
		return err
	}
	return handOut(ctx, infos, fn)
}

func (s *contentStore) Delete(ctx context.Context, d digest.Digest) error {
	ns, err := namespaceOf(ctx)
	if err != nil {
		return err
	}
	err = s.db.update(ctx, func(tx *bbolt.Tx) error {
		if _, err := getBlob(tx, ns, d); err != nil {
			return err
		}
		if err := release(ctx, tx, ns, typeContent, d.String()); err != nil {
			return err
		}
		return bucket(tx, ns, bucketContent).Delete([]byte(d))
	})
	if err == nil {
		s.spill()
	}
	return err
}

// spill tells the collector of a blob that may have no record.
func (s *contentStore) spill() {
	s.dirty.Store(true)
	s.db.collector.deleted()
}

func (s *contentStore) ReaderAt(ctx context.Context, desc ocispec.Descriptor) (content.ReaderAt, error) {
	info, err := s.Info(ctx, desc.Digest)
	if err != nil {
		return nil, err
	}
	r, err := s.backend.ReaderAt(ctx, desc)
	if err != nil {
		return nil, err
	}
	if r.Size() != info.Size {
		err := fmt.Errorf("content %v is damaged: it has %d bytes, and had %d", desc.Digest, r.Size(), info.Size)
		return nil, errors.Join(errdefs.WithClass(errdefs.ErrDataLoss, err), r.Close())
	}
	return r, nil
}

func (s *contentStore) Status(ctx context.Context, ref string) (content.Status, error) {
	ns, err := namespaceOf(ctx)
	if err != nil {
		return content.Status{}, err
	}
	st, err := s.backend.Status(ctx, backendRef(ns, ref))
	st.Ref = ref
	return st, noIngest(ref, err)
}

// noIngest names an ingest that is not there as its namespace does.
func noIngest(ref string, err error) error {
	if errdefs.IsNotFound(err) {
		return errdefs.NotFound("reference %s: not found", ref)
	}
	return err
}

func (s *contentStore) ListStatuses(ctx context.Context, filters ...string) ([]content.Status, error) {
	ns, match, err := query(ctx, filters)
	if err != nil {
		return nil, err
	}
	all, err := s.backend.ListStatuses(ctx)
	if err != nil {
		return nil, err
	}
	var out []content.Status
	for _, st := range all {
		ref, ours := strings.CutPrefix(st.Ref, backendRef(ns, ""))
		if !ours {
			continue
		}
		st.Ref = ref
		if match.Match(func(path []string) (string, bool) { return ref, path[0] == "ref" }) {
			out = append(out, st)
		}
	}
	return out, nil
}

func (s *contentStore) Abort(ctx context.Context, ref string) error {
	ns, err := namespaceOf(ctx)
	if err != nil {
		return err
	}
	leave, err := s.db.lanes.enter(ctx, ingestLane(backendRef(ns, ref)))
	if err != nil {
		return err
	}
	defer leave()
	if err := s.backend.Abort(ctx, backendRef(ns, ref)); err != nil {
		return noIngest(ref, err)
	}
	failpoint.Hit("libctr/metadata.ingest.aborted")
	return s.db.forgetIngest(ns, ref)
}

func (s *contentStore) Writer(ctx context.Context, o content.WriterOptions) (content.Writer, error) {
	ns, err := namespaceOf(ctx)
	if err != nil {
		return nil, err
	}
	if err := checkKey("reference", o.Ref); err != nil {
		return nil, err
	}
	if err := s.db.leased(ctx, ns); err != nil {
		return nil, err // now, not when all is written
	}
	if err := s.absent(ctx, ns, o.Desc.Digest); err != nil {
		return nil, err
	}
	if w, err := s.share(ctx, ns, o.Ref, o.Desc); err != nil || w != nil {
		return w, err
	}
	return s.ingest(ctx, ns, o)
}

// ingest begins or goes on with the namespace's ingest of that reference.
func (s *contentStore) ingest(ctx context.Context, ns string, o content.WriterOptions) (content.Writer, error) {
	ref, expected := o.Ref, o.Desc.Digest
	o.Ref = backendRef(ns, ref)
	w, err := s.openWriter(ctx, ns, ref, o)
	if err != nil {
		return nil, err
	}
	return &contentWriter{Writer: w, store: s, open: ctx, ns: ns, ref: ref, expected: expected}, nil
}

// openWriter opens the backend's ingest, which the collector leaves alone until its
// writer is closed.
func (s *contentStore) openWriter(ctx context.Context, ns, ref string, o content.WriterOptions) (w content.Writer, err error) {
	if err := s.begin(ctx, ns, ref); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			s.end(ns, ref)
		}
	}()
	failpoint.Hit("libctr/metadata.ingest.noted")
	w, err = s.backend.Writer(ctx, o)
	if errdefs.IsAlreadyExists(err) {
		// Another namespace has it, and it is not shared: this one has to write it all.
		o.Desc.Digest = ""
		w, err = s.backend.Writer(ctx, o)
	}
	return w, err
}

// absent fails with AlreadyExists when the namespace has the blob; the lease of ctx then
// holds it.
func (s *contentStore) absent(ctx context.Context, ns string, d digest.Digest) error {
	if d == "" {
		return nil
	}
	leave, err := s.db.lanes.enter(ctx, d.String())
	if err != nil {
		return err
	}
	defer leave()
	exists, done := false, false
	var known content.Info
	err = s.db.view(func(tx *bbolt.Tx) (err error) {
		known, err = getBlob(tx, ns, d)
		if errdefs.IsNotFound(err) {
			return nil
		}
		exists, done = err == nil, held(ctx, tx, ns, typeContent, d.String())
		return err
	})
	if err != nil || !exists {
		return err
	}
	info, err := s.backend.Info(ctx, d)
	if errdefs.IsNotFound(err) || err == nil && info.Size != known.Size {
		return s.lost(ctx, ns, d, err == nil)
	}
	if err != nil {
		return err
	}
	if !done {
		if _, err := s.record(ctx, ns, known); err != nil {
			return err
		}
	}
	return errdefs.AlreadyExists("content %v: already exists", d)
}

// lost is of a blob with a record whose file has gone, or has another size and is of no
// use: it goes, so that whoever has come to write the blob can do so. The caller is in the
// digest's lane.
func (s *contentStore) lost(ctx context.Context, ns string, d digest.Digest, damaged bool) error {
	s.db.log.ErrorContext(ctx, "blob was lost, and is written anew", "namespace", ns, "digest", d, "damaged", damaged)
	if !damaged {
		return nil
	}
	if err := s.backend.Delete(ctx, d); err != nil && !errdefs.IsNotFound(err) {
		return err
	}
	return nil
}

// record writes the blob's record unless it is there, and has the lease of ctx
// hold it. The caller is in the digest's lane.
func (s *contentStore) record(ctx context.Context, ns string, info content.Info) (existed bool, err error) {
	err = s.db.update(ctx, func(tx *bbolt.Tx) error {
		b, err := makeBucket(tx, ns, bucketContent)
		if err != nil {
			return err
		}
		d := info.Digest.String()
		if err := hold(ctx, tx, ns, typeContent, d); err != nil {
			return err
		}
		if existed = b.Get([]byte(d)) != nil; existed {
			return nil
		}
		info.CreatedAt = s.db.now().UTC()
		info.UpdatedAt = info.CreatedAt
		return put(b, d, wire.ContentInfo(info))
	})
	return existed, err
}

// contentWriter commits to the backend, then to the namespace.
type contentWriter struct {
	content.Writer
	store    *contentStore
	open     context.Context // of Writer: its lease counts when Commit's context has none
	ns, ref  string
	expected digest.Digest
	ended    sync.Once
}

func (w *contentWriter) Close() error {
	defer w.ended.Do(func() { w.store.end(w.ns, w.ref) })
	return w.Writer.Close()
}

func (w *contentWriter) Status() (content.Status, error) {
	st, err := w.Writer.Status()
	st.Ref = w.ref
	return st, err
}

func (w *contentWriter) Commit(ctx context.Context, size int64, expected digest.Digest, labels map[string]string) error {
	if err := label.Validate(labels); err != nil {
		return fmt.Errorf("info.Labels: %w", err)
	}
	ctx = inheritLease(ctx, w.open)
	st, err := w.Writer.Status()
	if err != nil {
		return err
	}
	if size != 0 && size != st.Offset {
		return errdefs.FailedPrecondition("%q failed size validation: %d != %d: failed precondition", w.ref, st.Offset, size)
	}
	if expected == "" {
		expected = w.expected
	}
	d := expected
	if d == "" {
		d = w.Digest()
	}
	leave, err := w.store.db.lanes.enter(ctx, d.String())
	if err != nil {
		return err
	}
	defer leave()
	err = w.Writer.Commit(ctx, size, expected, nil)
	if err != nil && !errdefs.IsAlreadyExists(err) {
		w.store.dirty.Store(true) // it may be there all the same
		return err
	}
	failpoint.Hit("libctr/metadata.content.committed")
	// From here the blob is there, whoever wrote it: its record must follow.
	existed, err := w.store.record(context.WithoutCancel(ctx), w.ns,
		content.Info{Digest: d, Size: st.Offset, Labels: label.Clean(labels)})
	if err != nil {
		w.store.spill()
		return err
	}
	failpoint.Hit("libctr/metadata.content.recorded")
	if existed {
		err = errdefs.AlreadyExists("content %v: already exists", d)
	}
	return errors.Join(err, w.store.db.forgetIngest(w.ns, w.ref))
}
