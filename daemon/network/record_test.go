package network

import (
	"path/filepath"
	"testing"

	"go.etcd.io/bbolt"

	"gantry/internal/testutil/stored"
)

// The records of the first version can still be read.
func TestFirstVersion(t *testing.T) {
	path := func(name string) string {
		p := filepath.Join(t.TempDir(), name)
		stored.Unpack(t, filepath.Join("../testdata/v1", name+".gz"), p)
		return p
	}
	open := func(name string) *bbolt.DB {
		db, err := bbolt.Open(path(name), 0o600, nil)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { db.Close() })
		return db
	}
	s := &Service{db: open("gantry.db"), run: open("run.db")}
	err := s.db.View(func(tx *bbolt.Tx) error {
		r, err := read(tx.Bucket(networkBucket), bridgeNetwork)
		if err == nil && (r.Driver != "bridge" || len(r.ID) != 64 || r.Address.String() != "10.250.78.1/24") {
			t.Errorf("network %+v", r)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	all, err := s.loadEndpoints()
	if err != nil || len(all) != 1 {
		t.Fatalf("endpoints %v, %v", all, err)
	}
	for id, e := range all {
		if e.Container != id || e.Name != "web" || e.Address.String() != "10.250.78.2/24" || len(e.Bindings) != 2 || e.Netns == "" {
			t.Errorf("endpoint %+v", e)
		}
	}
}
