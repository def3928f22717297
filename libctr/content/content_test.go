package content_test

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	corecontent "gantry/libctr/core/content"

	"gantry/libctr/content"
	"gantry/libctr/content/contenttest"
)

func TestStore(t *testing.T) {
	contenttest.Run(t, contenttest.Options{NoLabels: true}, func(t *testing.T) (context.Context, corecontent.Store) {
		s, err := content.New(t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		return t.Context(), s
	})
}

// TestTornIngests opens a store in which ingests were cut off while they were made.
func TestTornIngests(t *testing.T) {
	root := t.TempDir()
	s, err := content.New(root)
	if err != nil {
		t.Fatal(err)
	}
	w, err := s.Writer(t.Context(), corecontent.WriterOptions{Ref: "whole"})
	if err != nil {
		t.Fatal(err)
	}
	w.Close()
	const date = "2026-01-02T03:04:05Z"
	for name, files := range map[string]map[string]string{
		"empty": nil, "named": {"ref": "x"}, "dated": {"startedat": date},
		"no name": {"ref": "", "startedat": date}, "no date": {"ref": "x", "startedat": ""},
	} {
		dir := filepath.Join(root, "ingest", name)
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		for f, text := range files {
			if err := os.WriteFile(filepath.Join(dir, f), []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	if s, err = content.New(root); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Status(t.Context(), "whole"); err != nil {
		t.Error(err)
	}
	if left, _ := os.ReadDir(filepath.Join(root, "ingest")); len(left) != 1 {
		t.Errorf("ingests left: %v", left)
	}
}

// TestOthersSeeNothing closes a store to other users, one too that was open to them.
func TestOthersSeeNothing(t *testing.T) {
	root := t.TempDir()
	if err := os.Mkdir(filepath.Join(root, "blobs"), 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := content.New(root); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"blobs", "ingest"} {
		if st, err := os.Stat(filepath.Join(root, name)); err != nil || st.Mode().Perm() != 0o700 {
			t.Errorf("%s: %v, %v", name, st.Mode(), err)
		}
	}
}
