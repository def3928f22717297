package content

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"gantry/libctr/core/content"
)

// withoutDescriptors runs f while the process has none left.
func withoutDescriptors(t *testing.T, f func()) {
	t.Helper()
	var old unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &old); err != nil {
		t.Fatal(err)
	}
	few := unix.Rlimit{Cur: min(64, old.Cur), Max: old.Max}
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &few); err != nil {
		t.Fatal(err)
	}
	var held []int
	for {
		fd, err := unix.Open("/", unix.O_PATH|unix.O_CLOEXEC, 0)
		if err != nil {
			break
		}
		held = append(held, fd)
	}
	f()
	for _, fd := range held {
		unix.Close(fd)
	}
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &old); err != nil {
		t.Fatal(err)
	}
}

// Without descriptors no ingest can be begun, and nothing is left of one; one that is there
// can be taken away, and stays where it is only to be gone on with.
func TestDescriptorsShort(t *testing.T) {
	s, err := New(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	ctx := t.Context()
	for _, ref := range []string{"kept", "aborted"} {
		w, err := s.Writer(ctx, content.WriterOptions{Ref: ref})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(ref)); err != nil {
			t.Fatal(err)
		}
		w.Close()
	}
	withoutDescriptors(t, func() {
		for _, ref := range []string{"new", "kept"} {
			if _, err := s.Writer(ctx, content.WriterOptions{Ref: ref}); !errors.Is(err, unix.EMFILE) {
				t.Errorf("%s: %v", ref, err)
			}
		}
		if err := s.Abort(ctx, "aborted"); err != nil {
			t.Error(err)
		}
	})
	left, err := os.ReadDir(filepath.Join(s.root, "ingest"))
	if err != nil || len(left) != 1 {
		t.Errorf("%d are left, %v", len(left), err)
	}
	if st, err := s.Status(ctx, "kept"); err != nil || st.Offset != 4 {
		t.Errorf("what was there before: %+v, %v", st, err)
	}
}
