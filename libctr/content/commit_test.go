package content

import (
	"errors"
	"os"
	"slices"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"gantry/api/errdefs"
	"gantry/libctr/core/content"
)

var errCrash = errors.New("crash")

// record wraps a disk so that each step is noted, and the one at fail fails without
// having been done.
func record(steps *[]string, fail int) disk {
	step := func(name string, do func() error) error {
		if len(*steps) == fail {
			*steps = append(*steps, name+" failed")
			return errCrash
		}
		*steps = append(*steps, name)
		return do()
	}
	return disk{
		sync:    func(f *os.File) error { return step("sync data", func() error { return realDisk.sync(f) }) },
		rename:  func(a, b string) error { return step("rename", func() error { return realDisk.rename(a, b) }) },
		syncDir: func(dir string) error { return step("sync directory", func() error { return realDisk.syncDir(dir) }) },
	}
}

func TestCommitOrder(t *testing.T) {
	const text = "some data"
	d := digest.FromString(text)
	ctx := t.Context()
	// The first blob of an algorithm makes its directory too.
	whole := []string{"sync data", "sync directory", "rename", "sync directory"}
	for fail := -1; fail < len(whole); fail++ {
		root := t.TempDir()
		s, err := New(root)
		if err != nil {
			t.Fatal(err)
		}
		var steps []string
		s.disk = record(&steps, fail)
		w, err := s.Writer(ctx, content.WriterOptions{Ref: "r", Desc: ocispec.Descriptor{Digest: d}})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(text)); err != nil {
			t.Fatal(err)
		}
		err = w.Commit(ctx, int64(len(text)), d, nil)
		if fail < 0 {
			if err != nil || !slices.Equal(steps, whole) {
				t.Fatalf("commit: %v by %v, want %v", err, steps, whole)
			}
			continue
		}
		if !errors.Is(err, errCrash) {
			t.Fatalf("commit that fails at %v: %v", steps, err)
		}
		// The process is gone, with its locks; the next one opens what is on disk.
		if s, err = New(root); err != nil {
			t.Fatal(err)
		}
		checkAfterCrash(t, s, d, text, steps)
	}
}

// checkAfterCrash: the blob is there whole or not at all, and can be had.
func checkAfterCrash(t *testing.T, s *Store, d digest.Digest, text string, steps []string) {
	t.Helper()
	ctx := t.Context()
	info, err := s.Info(ctx, d)
	renamed := slices.Contains(steps, "rename")
	if renamed != (err == nil) || err == nil && info.Size != int64(len(text)) {
		t.Errorf("after %v: %+v, %v", steps, info, err)
	}
	w, err := s.Writer(ctx, content.WriterOptions{Ref: "r", Desc: ocispec.Descriptor{Digest: d}})
	if renamed {
		if !errdefs.IsAlreadyExists(err) {
			t.Errorf("after %v: writer %v", steps, err)
		}
		// Without the digest the ref starts afresh.
		if w, err = s.Writer(ctx, content.WriterOptions{Ref: "r"}); err != nil {
			t.Fatal(err)
		}
		defer w.Close()
		if st, _ := w.Status(); st.Offset != 0 {
			t.Errorf("after %v: the ingest resumes at %d", steps, st.Offset)
		}
		return
	}
	if err != nil {
		t.Fatalf("after %v: %v", steps, err)
	}
	defer w.Close()
	if st, _ := w.Status(); st.Offset != int64(len(text)) || w.Digest() != d {
		t.Errorf("after %v: resumes at %d with %v", steps, st.Offset, w.Digest())
	}
	if err := w.Commit(ctx, int64(len(text)), d, nil); err != nil {
		t.Errorf("after %v: %v", steps, err)
	}
}

func TestTornIngestStartsAfresh(t *testing.T) {
	for _, missing := range []string{"ref", "startedat", "data"} {
		s, err := New(t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		w, err := s.Writer(t.Context(), content.WriterOptions{Ref: "r"})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
		w.Close()
		if err := os.Remove(s.ingestDir("r") + "/" + missing); err != nil {
			t.Fatal(err)
		}
		if w, err = s.Writer(t.Context(), content.WriterOptions{Ref: "r"}); err != nil {
			t.Fatalf("without %s: %v", missing, err)
		}
		if st, _ := w.Status(); st.Offset != 0 {
			t.Errorf("without %s: resumes at %d", missing, st.Offset)
		}
		w.Close()
	}
}

func TestAbortedWriterFails(t *testing.T) {
	s, err := New(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	w, err := s.Writer(t.Context(), content.WriterOptions{Ref: "r"})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	if _, err := w.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if err := s.Abort(t.Context(), "r"); err != nil {
		t.Fatal(err)
	}
	if err := w.Commit(t.Context(), 0, "", nil); !errdefs.IsNotFound(err) {
		t.Errorf("commit after abort: %v", err)
	}
}
