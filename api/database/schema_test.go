package database_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.etcd.io/bbolt"

	"gantry/api/database"
)

// write makes a file with a record and, unless it is "", a version.
func write(t *testing.T, version string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "x.db")
	db, err := bbolt.Open(path, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	err = db.Update(func(tx *bbolt.Tx) error {
		b, err := tx.CreateBucket([]byte("things"))
		if err == nil {
			err = b.Put([]byte("old"), []byte("x"))
		}
		if err != nil || version == "" {
			return err
		}
		meta, err := tx.CreateBucket([]byte("meta"))
		if err != nil {
			return err
		}
		return meta.Put([]byte("version"), []byte(version))
	})
	if err := errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
	return path
}

func version(t *testing.T, db *database.DB) (v string) {
	t.Helper()
	_ = db.View(func(tx *bbolt.Tx) error { v = string(tx.Bucket([]byte("meta")).Get([]byte("version"))); return nil })
	return v
}

// rename is a step that moves the record.
func rename(from, to string) func(*bbolt.Tx) error {
	return func(tx *bbolt.Tx) error {
		b := tx.Bucket([]byte("things"))
		return errors.Join(b.Put([]byte(to), b.Get([]byte(from))), b.Delete([]byte(from)))
	}
}

func TestMigrate(t *testing.T) {
	schema := database.Schema{Steps: []func(*bbolt.Tx) error{rename("old", "middle"), rename("middle", "new")}}
	for _, tt := range []struct{ name, version, record string }{
		{"without a version", "", "new"},
		{"the first", "1", "new"},
		{"the last is left alone", "3", "old"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			path := write(t, tt.version)
			for range 2 { // the second time there is nothing to do
				db, err := database.Open(path, database.Options{Schema: schema})
				if err != nil {
					t.Fatal(err)
				}
				if v := version(t, db); v != "3" {
					t.Errorf("version %s", v)
				}
				_ = db.View(func(tx *bbolt.Tx) error {
					if string(tx.Bucket([]byte("things")).Get([]byte(tt.record))) != "x" {
						t.Errorf("no record %q", tt.record)
					}
					return nil
				})
				if err := db.Close(); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

// A new file is of the newest version, and no step runs.
func TestMigrateNew(t *testing.T) {
	fails := func(*bbolt.Tx) error { return errors.New("nothing to migrate") }
	db, err := database.Open(filepath.Join(t.TempDir(), "x.db"), database.Options{Schema: database.Schema{Steps: []func(*bbolt.Tx) error{fails}}})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if v := version(t, db); v != "2" {
		t.Errorf("version %s", v)
	}
}

// What is not opened is not touched.
func TestRefused(t *testing.T) {
	fails := func(*bbolt.Tx) error { return errors.New("no room") }
	for _, tt := range []struct {
		name, version string
		steps         []func(*bbolt.Tx) error
		want          []string
		is            error
	}{
		{"a later version", "7", nil, []string{"schema version is 7", "engine's is 1"}, database.ErrNewer},
		{"no number", "x", nil, []string{`"x"`}, database.ErrDamaged},
		{"a step fails after another", "1", []func(*bbolt.Tx) error{rename("old", "new"), fails}, []string{"version 2 to 3", "no room"}, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			path := write(t, tt.version)
			before, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			_, err = database.Open(path, database.Options{Schema: database.Schema{Steps: tt.steps}})
			if err == nil || tt.is != nil && !errors.Is(err, tt.is) {
				t.Fatalf("error %v", err)
			}
			for _, part := range append(tt.want, path) {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("%q is not in: %v", part, err)
				}
			}
			after, err := os.ReadFile(path)
			if err != nil || !bytes.Equal(before, after) {
				t.Errorf("the file has changed, %v", err)
			}
		})
	}
}
