package content

import (
	"os"
	"path/filepath"
	"testing"

	"gantry/libctr/core/content"
)

// TestNamelessIngest has an ingest whose name is not written yet, or never will be: it is
// not listed, and its writer can begin again.
func TestNamelessIngest(t *testing.T) {
	s, err := New(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	w, err := s.Writer(t.Context(), content.WriterOptions{Ref: "torn"})
	if err != nil {
		t.Fatal(err)
	}
	w.Close()
	if err := os.Truncate(filepath.Join(s.ingestDir("torn"), "ref"), 0); err != nil {
		t.Fatal(err)
	}
	if list, err := s.ListStatuses(t.Context()); err != nil || len(list) != 0 {
		t.Errorf("listed %+v, %v", list, err)
	}
	if w, err = s.Writer(t.Context(), content.WriterOptions{Ref: "torn"}); err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	if list, err := s.ListStatuses(t.Context()); err != nil || len(list) != 1 || list[0].Ref != "torn" {
		t.Errorf("listed %+v, %v", list, err)
	}
}
