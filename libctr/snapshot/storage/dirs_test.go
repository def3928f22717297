package storage

import (
	"errors"
	"os"
	"testing"

	"gantry/api/errdefs"
	"gantry/libctr/core/snapshot"
)

// TestParentRemoved removes the parent while a snapshot is being made on it: that is why
// it can't be made, however it fails first.
func TestParentRemoved(t *testing.T) {
	d, err := OpenDirs(t.TempDir(), nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	empty := func(string, []uint64) error { return nil }
	commit := func(active string) {
		t.Helper()
		if _, err := d.Create(snapshot.KindActive, active, "", nil, empty); err != nil {
			t.Fatal(err)
		}
		if err := d.Records.Commit("parent", active, "", snapshot.Usage{}, nil); err != nil {
			t.Fatal(err)
		}
	}
	for name, during := range map[string]func(){
		"removed":  func() {},
		"replaced": func() { commit("again") },
	} {
		t.Run(name, func(t *testing.T) {
			commit(name)
			_, err := d.Create(snapshot.KindActive, "child", "parent", nil, func(_ string, parents []uint64) error {
				if err := d.Remove("parent"); err != nil {
					t.Error(err)
				}
				during()
				_, err := os.Stat(d.Dir(parents[0]))
				return err
			})
			if !errdefs.IsNotFound(err) {
				t.Errorf("made on a parent that has gone: %v", err)
			}
			if name == "replaced" {
				if err := d.Remove("parent"); err != nil {
					t.Error(err)
				}
			}
		})
	}
	commit("stays")
	refused := errors.New("refused")
	if _, err := d.Create(snapshot.KindActive, "child", "parent", nil, func(string, []uint64) error { return refused }); !errors.Is(err, refused) || errdefs.IsNotFound(err) {
		t.Errorf("failed by itself: %v", err)
	}
	if ids, err := d.list(); err != nil || len(ids) != 1 {
		t.Errorf("directories %v, %v", ids, err)
	}
}
