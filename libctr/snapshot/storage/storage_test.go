package storage

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"go.etcd.io/bbolt"

	"gantry/api/database"
	"gantry/internal/testutil/stored"
	"gantry/libctr/core/snapshot"
)

// TestFirstVersion opens a file that the first version has written, as it is and with a
// version after it.
func TestFirstVersion(t *testing.T) {
	path := filepath.Join(t.TempDir(), "metadata.db")
	stored.Unpack(t, "testdata/v1.db.gz", path)
	ran := 0
	defer func(old []func(*bbolt.Tx) error) { migrations = old }(migrations)
	for _, steps := range [][]func(*bbolt.Tx) error{migrations, append(migrations, func(*bbolt.Tx) error { ran++; return nil })} {
		migrations = steps
		s, err := Open(path)
		if err != nil {
			t.Fatal(err)
		}
		checkFirst(t, s)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if ran != 1 {
		t.Errorf("the step ran %d times", ran)
	}
	migrations = nil
	if _, err := Open(path); !errors.Is(err, database.ErrNewer) || !strings.Contains(err.Error(), path) {
		t.Errorf("a newer file is opened: %v", err)
	}
}

func checkFirst(t *testing.T, s *Store) {
	t.Helper()
	kinds := map[snapshot.Kind]int{}
	var last string
	err := s.Walk(func(i snapshot.Info) error {
		kinds[i.Kind]++
		if i.Kind == snapshot.KindActive {
			last = i.Name
		}
		return nil
	})
	if err != nil || kinds[snapshot.KindCommitted] != 1 || kinds[snapshot.KindActive] != 3 {
		t.Errorf("snapshots %v, %v", kinds, err)
	}
	if got, err := s.Get(last); err != nil || len(got.Parents) != 1 {
		t.Errorf("%s: %+v, %v", last, got, err)
	}
	if next := s.NewID(); next < 5 {
		t.Errorf("the next id is %d, and has been given before", next)
	}
}
