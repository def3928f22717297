// Package contenttest is what every content.Store must do, whoever keeps it.
package contenttest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"gantry/api/errdefs"
	"gantry/libctr/core/content"
)

// Options say what a store can't do.
type Options struct {
	NoLabels bool
	// Except names tests that a store of others does not pass, and why.
	Except map[string]string
}

// Run runs the suite; open makes an empty store and the context to use it under.
func Run(t *testing.T, o Options, open func(t *testing.T) (context.Context, content.Store)) {
	for name, test := range map[string]func(t *testing.T, ctx context.Context, s content.Store){
		"write and read":      writeAndRead,
		"large blob":          largeBlob,
		"empty blob":          emptyBlob,
		"resume":              resume,
		"truncate":            truncate,
		"locked":              locked,
		"wrong size":          wrongSize,
		"wrong digest":        wrongDigest,
		"more than announced": moreThanAnnounced,
		"exists at open":      existsAtOpen,
		"exists at commit":    existsAtCommit,
		"commit twice":        commitTwice,
		"abort":               abort,
		"statuses":            statuses,
		"walk and delete":     walkAndDelete,
		"not found":           notFound,
		"invalid":             invalid,
		"other algorithm":     otherAlgorithm,
		"read at the end":     readAfterEnd,
	} {
		t.Run(name, func(t *testing.T) {
			if why := o.Except[name]; why != "" {
				t.Skip(why)
			}
			ctx, s := open(t)
			test(t, ctx, s)
		})
	}
	if o.NoLabels {
		return
	}
	t.Run("labels", func(t *testing.T) {
		ctx, s := open(t)
		labels(t, ctx, s)
	})
}

// Blob returns n bytes that are the same for every run, and their descriptor.
func Blob(seed uint64, n int) ([]byte, ocispec.Descriptor) {
	var key [32]byte
	key[0], key[1] = byte(seed), byte(seed>>8)
	p := make([]byte, n)
	rand.NewChaCha8(key).Read(p) //nolint:errcheck // never fails
	return p, ocispec.Descriptor{MediaType: "application/octet-stream", Digest: digest.FromBytes(p), Size: int64(n)}
}

// Write stores a blob, failing the test when it can't.
func Write(t *testing.T, ctx context.Context, s content.Store, p []byte, labels map[string]string) digest.Digest {
	t.Helper()
	d := digest.FromBytes(p)
	w := openWriter(t, ctx, s, "write-"+d.Encoded(), ocispec.Descriptor{})
	defer w.Close()
	writeAll(t, w, p)
	if err := w.Commit(ctx, int64(len(p)), d, labels); err != nil {
		t.Fatalf("commit: %v", err)
	}
	return d
}

func openWriter(t *testing.T, ctx context.Context, s content.Store, ref string, desc ocispec.Descriptor) content.Writer {
	t.Helper()
	w, err := s.Writer(ctx, content.WriterOptions{Ref: ref, Desc: desc})
	if err != nil {
		t.Fatalf("open writer %q: %v", ref, err)
	}
	return w
}

func writeAll(t *testing.T, w content.Writer, p []byte) {
	t.Helper()
	if n, err := w.Write(p); err != nil || n != len(p) {
		t.Fatalf("write: %d of %d bytes, %v", n, len(p), err)
	}
}

func read(t *testing.T, ctx context.Context, s content.Store, d digest.Digest) []byte {
	t.Helper()
	r, err := s.ReaderAt(ctx, ocispec.Descriptor{Digest: d})
	if err != nil {
		t.Fatalf("open reader: %v", err)
	}
	defer r.Close()
	p, err := io.ReadAll(io.NewSectionReader(r, 0, r.Size()))
	if err != nil {
		t.Fatalf("read: %v", err)
	}
	return p
}

func is(t *testing.T, what string, err, class error) {
	t.Helper()
	if !errors.Is(err, class) {
		t.Fatalf("%s: %v, want class %v", what, err, class)
	}
}

func writeAndRead(t *testing.T, ctx context.Context, s content.Store) {
	p, desc := Blob(1, 10_000)
	w := openWriter(t, ctx, s, "ref", desc)
	defer w.Close()
	writeAll(t, w, p[:4000])
	if st, err := w.Status(); err != nil || st.Offset != 4000 || st.Ref != "ref" || st.Total != desc.Size {
		t.Errorf("status while writing: %+v, %v", st, err)
	}
	if got, want := w.Digest(), digest.FromBytes(p[:4000]); got != want {
		t.Errorf("digest so far %v, want %v", got, want)
	}
	_, err := s.Info(ctx, desc.Digest)
	is(t, "info before commit", err, errdefs.ErrNotFound)
	writeAll(t, w, p[4000:])
	if err := w.Commit(ctx, desc.Size, desc.Digest, nil); err != nil {
		t.Fatalf("commit: %v", err)
	}
	info, err := s.Info(ctx, desc.Digest)
	if err != nil || info.Size != desc.Size || info.Digest != desc.Digest || info.CreatedAt.IsZero() {
		t.Errorf("info: %+v, %v", info, err)
	}
	if !bytes.Equal(read(t, ctx, s, desc.Digest), p) {
		t.Error("read something else")
	}
	_, err = s.Status(ctx, "ref")
	is(t, "status after commit", err, errdefs.ErrNotFound)
}

func largeBlob(t *testing.T, ctx context.Context, s content.Store) {
	p, desc := Blob(2, 5<<20+123)
	w := openWriter(t, ctx, s, "large", desc)
	defer w.Close()
	writeAll(t, w, p)
	if err := w.Commit(ctx, 0, "", nil); err != nil {
		t.Fatalf("commit: %v", err)
	}
	if !bytes.Equal(read(t, ctx, s, desc.Digest), p) {
		t.Error("read something else")
	}
	r, err := s.ReaderAt(ctx, desc)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	part := make([]byte, 2<<20)
	if n, err := r.ReadAt(part, 3<<20-7); n != len(part) || err != nil || !bytes.Equal(part, p[3<<20-7:5<<20-7]) {
		t.Errorf("read in the middle: %d bytes, %v", n, err)
	}
	if n, err := r.ReadAt(part, 5<<20); n != 123 || !errors.Is(err, io.EOF) || !bytes.Equal(part[:n], p[5<<20:]) {
		t.Errorf("read at the end: %d bytes, %v", n, err)
	}
}

func emptyBlob(t *testing.T, ctx context.Context, s content.Store) {
	d := Write(t, ctx, s, nil, nil)
	if p := read(t, ctx, s, d); len(p) != 0 {
		t.Errorf("read %d bytes", len(p))
	}
}

func resume(t *testing.T, ctx context.Context, s content.Store) {
	p, desc := Blob(3, 3000)
	w := openWriter(t, ctx, s, "resume", desc)
	writeAll(t, w, p[:1000])
	if err := w.Close(); err != nil {
		t.Fatalf("close: %v", err)
	}
	st, err := s.Status(ctx, "resume")
	if err != nil || st.Offset != 1000 || st.Total != 3000 || st.StartedAt.IsZero() || st.UpdatedAt.Before(st.StartedAt) {
		t.Errorf("status of a closed ingest: %+v, %v", st, err)
	}
	w = openWriter(t, ctx, s, "resume", desc)
	defer w.Close()
	if st, err := w.Status(); err != nil || st.Offset != 1000 {
		t.Fatalf("resumed at %d, %v", st.Offset, err)
	}
	if got, want := w.Digest(), digest.FromBytes(p[:1000]); got != want {
		t.Errorf("digest after resuming %v, want %v", got, want)
	}
	writeAll(t, w, p[1000:])
	if err := w.Commit(ctx, desc.Size, desc.Digest, nil); err != nil {
		t.Fatalf("commit: %v", err)
	}
}

func truncate(t *testing.T, ctx context.Context, s content.Store) {
	p, desc := Blob(4, 500)
	w := openWriter(t, ctx, s, "truncate", ocispec.Descriptor{})
	defer w.Close()
	writeAll(t, w, []byte("something else"))
	if err := w.Truncate(0); err != nil {
		t.Fatalf("truncate: %v", err)
	}
	if st, _ := w.Status(); st.Offset != 0 {
		t.Errorf("offset %d after truncate", st.Offset)
	}
	if err := w.Truncate(7); err == nil {
		t.Error("truncate to 7 is possible")
	}
	writeAll(t, w, p)
	if err := w.Commit(ctx, desc.Size, desc.Digest, nil); err != nil {
		t.Fatalf("commit: %v", err)
	}
}

func locked(t *testing.T, ctx context.Context, s content.Store) {
	w := openWriter(t, ctx, s, "locked", ocispec.Descriptor{})
	_, err := s.Writer(ctx, content.WriterOptions{Ref: "locked"})
	is(t, "second writer", err, errdefs.ErrUnavailable)
	if err := w.Close(); err != nil {
		t.Fatalf("close: %v", err)
	}
	openWriter(t, ctx, s, "locked", ocispec.Descriptor{}).Close()
}

func wrongSize(t *testing.T, ctx context.Context, s content.Store) {
	p, desc := Blob(5, 100)
	w := openWriter(t, ctx, s, "size", ocispec.Descriptor{})
	defer w.Close()
	writeAll(t, w, p)
	is(t, "commit", w.Commit(ctx, 99, desc.Digest, nil), errdefs.ErrFailedPrecondition)
	_, err := s.Info(ctx, desc.Digest)
	is(t, "info", err, errdefs.ErrNotFound)
}

func wrongDigest(t *testing.T, ctx context.Context, s content.Store) {
	p, _ := Blob(6, 100)
	other := digest.FromString("other")
	w := openWriter(t, ctx, s, "digest", ocispec.Descriptor{})
	defer w.Close()
	writeAll(t, w, p)
	is(t, "commit", w.Commit(ctx, 100, other, nil), errdefs.ErrFailedPrecondition)
	_, err := s.Info(ctx, other)
	is(t, "info", err, errdefs.ErrNotFound)
}

func moreThanAnnounced(t *testing.T, ctx context.Context, s content.Store) {
	p, _ := Blob(7, 100)
	w := openWriter(t, ctx, s, "more", ocispec.Descriptor{Size: 10})
	defer w.Close()
	_, err := w.Write(p)
	is(t, "write", err, errdefs.ErrFailedPrecondition)
}

func existsAtOpen(t *testing.T, ctx context.Context, s content.Store) {
	p, desc := Blob(8, 100)
	Write(t, ctx, s, p, nil)
	_, err := s.Writer(ctx, content.WriterOptions{Ref: "again", Desc: desc})
	is(t, "writer", err, errdefs.ErrAlreadyExists)
}

func existsAtCommit(t *testing.T, ctx context.Context, s content.Store) {
	p, desc := Blob(9, 100)
	w := openWriter(t, ctx, s, "late", ocispec.Descriptor{})
	writeAll(t, w, p)
	Write(t, ctx, s, p, nil)
	is(t, "commit", w.Commit(ctx, desc.Size, desc.Digest, nil), errdefs.ErrAlreadyExists)
	w.Close()
	_, err := s.Status(ctx, "late")
	is(t, "status", err, errdefs.ErrNotFound)
}

func commitTwice(t *testing.T, ctx context.Context, s content.Store) {
	p, desc := Blob(10, 100)
	w := openWriter(t, ctx, s, "twice", ocispec.Descriptor{})
	writeAll(t, w, p)
	if err := w.Commit(ctx, 0, desc.Digest, nil); err != nil {
		t.Fatalf("commit: %v", err)
	}
	if err := w.Commit(ctx, 0, desc.Digest, nil); err == nil {
		t.Error("second commit succeeds")
	}
	if _, err := w.Write(p); err == nil {
		t.Error("write after commit succeeds")
	}
	if err := w.Close(); err != nil {
		t.Errorf("close after commit: %v", err)
	}
}

func abort(t *testing.T, ctx context.Context, s content.Store) {
	is(t, "abort of nothing", s.Abort(ctx, "abort"), errdefs.ErrNotFound)
	w := openWriter(t, ctx, s, "abort", ocispec.Descriptor{})
	writeAll(t, w, []byte("data"))
	w.Close()
	if err := s.Abort(ctx, "abort"); err != nil {
		t.Fatalf("abort: %v", err)
	}
	_, err := s.Status(ctx, "abort")
	is(t, "status", err, errdefs.ErrNotFound)
	w = openWriter(t, ctx, s, "abort", ocispec.Descriptor{})
	defer w.Close()
	if st, _ := w.Status(); st.Offset != 0 {
		t.Errorf("starts at %d after abort", st.Offset)
	}
}

func statuses(t *testing.T, ctx context.Context, s content.Store) {
	for i := range 3 {
		w := openWriter(t, ctx, s, fmt.Sprintf("layer/%d", i), ocispec.Descriptor{})
		writeAll(t, w, make([]byte, i))
		w.Close()
	}
	refs := func(filters ...string) (refs []string) {
		t.Helper()
		list, err := s.ListStatuses(ctx, filters...)
		if err != nil {
			t.Fatalf("list: %v", err)
		}
		for _, st := range list {
			refs = append(refs, fmt.Sprint(st.Ref, "@", st.Offset))
		}
		slices.Sort(refs)
		return refs
	}
	if got := refs(); !slices.Equal(got, []string{"layer/0@0", "layer/1@1", "layer/2@2"}) {
		t.Errorf("all: %v", got)
	}
	if got := refs(`ref==layer/1`, `ref~="2$"`); !slices.Equal(got, []string{"layer/1@1", "layer/2@2"}) {
		t.Errorf("filtered: %v", got)
	}
}

func walkAndDelete(t *testing.T, ctx context.Context, s content.Store) {
	var digests []digest.Digest
	for i := range 150 { // more than a page
		p, _ := Blob(uint64(100+i), 20)
		digests = append(digests, Write(t, ctx, s, p, nil))
	}
	walk := func(filters ...string) (out []digest.Digest) {
		t.Helper()
		err := s.Walk(ctx, func(i content.Info) error {
			out = append(out, i.Digest)
			return nil
		}, filters...)
		if err != nil {
			t.Fatalf("walk: %v", err)
		}
		slices.Sort(out)
		return out
	}
	sorted := slices.Sorted(slices.Values(digests))
	if got := walk(); !slices.Equal(got, sorted) {
		t.Errorf("walk finds %d of %d", len(got), len(sorted))
	}
	if got := walk(fmt.Sprintf("digest==%s", digests[3])); !slices.Equal(got, digests[3:4]) {
		t.Errorf("filtered walk: %v", got)
	}
	is(t, "walk with a bad filter", s.Walk(ctx, func(content.Info) error { return nil }, "=="), errdefs.ErrInvalidArgument)
	stop := errors.New("stop")
	if err := s.Walk(ctx, func(content.Info) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("stopped walk: %v", err)
	}
	if err := s.Delete(ctx, digests[0]); err != nil {
		t.Fatalf("delete: %v", err)
	}
	_, err := s.Info(ctx, digests[0])
	is(t, "info after delete", err, errdefs.ErrNotFound)
	is(t, "second delete", s.Delete(ctx, digests[0]), errdefs.ErrNotFound)
	if got := walk(); len(got) != len(digests)-1 {
		t.Errorf("walk after delete finds %d", len(got))
	}
}

func notFound(t *testing.T, ctx context.Context, s content.Store) {
	d := digest.FromString("nothing")
	_, err := s.Info(ctx, d)
	is(t, "info", err, errdefs.ErrNotFound)
	_, err = s.ReaderAt(ctx, ocispec.Descriptor{Digest: d})
	is(t, "reader", err, errdefs.ErrNotFound)
	is(t, "delete", s.Delete(ctx, d), errdefs.ErrNotFound)
}

func invalid(t *testing.T, ctx context.Context, s content.Store) {
	_, err := s.Info(ctx, "sha256:../../etc/passwd")
	is(t, "info", err, errdefs.ErrInvalidArgument)
	_, err = s.ReaderAt(ctx, ocispec.Descriptor{Digest: "nope"})
	is(t, "reader", err, errdefs.ErrInvalidArgument)
	_, err = s.Writer(ctx, content.WriterOptions{})
	is(t, "writer without ref", err, errdefs.ErrInvalidArgument)
	_, err = s.Writer(ctx, content.WriterOptions{Ref: strings.Repeat("x", 5000)})
	is(t, "writer with a long ref", err, errdefs.ErrInvalidArgument)
	_, err = s.Writer(ctx, content.WriterOptions{Ref: "r", Desc: ocispec.Descriptor{Digest: "sha256:short"}})
	is(t, "writer with a bad digest", err, errdefs.ErrInvalidArgument)
}

func otherAlgorithm(t *testing.T, ctx context.Context, s content.Store) {
	p, _ := Blob(11, 100)
	d := digest.SHA512.FromBytes(p)
	w := openWriter(t, ctx, s, "sha512", ocispec.Descriptor{})
	defer w.Close()
	writeAll(t, w, p)
	if err := w.Commit(ctx, 100, d, nil); err != nil {
		t.Fatalf("commit: %v", err)
	}
	if !bytes.Equal(read(t, ctx, s, d), p) {
		t.Error("read something else")
	}
}

func readAfterEnd(t *testing.T, ctx context.Context, s content.Store) {
	p, _ := Blob(12, 100)
	d := Write(t, ctx, s, p, nil)
	r, err := s.ReaderAt(ctx, ocispec.Descriptor{Digest: d})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if n, err := r.ReadAt(make([]byte, 10), 100); n != 0 || !errors.Is(err, io.EOF) {
		t.Errorf("read at the end: %d, %v", n, err)
	}
}

func labels(t *testing.T, ctx context.Context, s content.Store) {
	p, _ := Blob(13, 100)
	d := Write(t, ctx, s, p, map[string]string{"a": "1", "b.c": "2", "empty": ""})
	check := func(what string, want map[string]string) {
		t.Helper()
		info, err := s.Info(ctx, d)
		if err != nil || !maps.Equal(info.Labels, want) {
			t.Errorf("%s: labels %v, want %v (%v)", what, info.Labels, want, err)
		}
	}
	update := func(labels map[string]string, paths ...string) error {
		_, err := s.Update(ctx, content.Info{Digest: d, Labels: labels}, paths...)
		return err
	}
	check("at commit", map[string]string{"a": "1", "b.c": "2"})
	if err := update(map[string]string{"b.c": "3", "x": "not named"}, "labels.b.c"); err != nil {
		t.Fatal(err)
	}
	check("one", map[string]string{"a": "1", "b.c": "3"})
	if err := update(nil, "labels.a"); err != nil {
		t.Fatal(err)
	}
	check("removed one", map[string]string{"b.c": "3"})
	if err := update(map[string]string{"n": "4"}); err != nil {
		t.Fatal(err)
	}
	check("all", map[string]string{"n": "4"})
	is(t, "another field", update(nil, "size"), errdefs.ErrInvalidArgument)
	is(t, "too large", update(map[string]string{"n": strings.Repeat("x", 4096)}), errdefs.ErrInvalidArgument)
	var found int
	err := s.Walk(ctx, func(content.Info) error { found++; return nil }, `labels."n"==4`)
	if err != nil || found != 1 {
		t.Errorf("walk by label finds %d, %v", found, err)
	}
}
