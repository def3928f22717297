package integrationcli

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.etcd.io/bbolt"

	"gantry/internal/testutil/engine"
)

// TestLaterVersion starts an engine on each database of a later one: it says which, ends,
// and has changed nothing; its containers run on all the while.
func TestLaterVersion(t *testing.T) {
	engine.CoreInside(t, "it has other files")
	e := start(t)
	e.Must("run", "-d", "--name", "c1", image, "sleep", "1000")
	pid := inspect(t, e, "c1").State.Pid
	for _, db := range []struct{ path, bucket, version string }{
		{"data/gantry.db", "meta", "1"},
		{"exec/run.db", "meta", "1"},
		{"data/core/io.containerd.metadata.v1.bolt/meta.db", "meta", "2"},
		{"exec/core/io.containerd.metadata.v1.bolt/boot.db", "meta", "1"},
		{"data/core/io.containerd.snapshotter.v1.overlayfs/metadata.db", "version", "1"},
	} {
		t.Run(db.path, func(t *testing.T) {
			path := filepath.Join(e.Dir, db.path)
			e.Kill()
			if was := setVersion(t, path, db.bucket, "7"); was != db.version {
				t.Errorf("the version was %q", was)
			}
			refuses(t, e, path, db.version)
			setVersion(t, path, db.bucket, db.version)
			e.Launch()
			if in := inspect(t, e, "c1"); in.State.Pid != pid || in.State.Status != "running" {
				t.Errorf("afterwards %+v", in.State)
			}
		})
	}
}

func refuses(t *testing.T, e *engine.Engine, path, version string) {
	t.Helper()
	before, err := os.ReadFile(path)
	if err != nil {
		t.Error(err)
		return
	}
	said := len(e.Log())
	if err := e.TryLaunch(); err == nil {
		t.Error("the engine has started")
		e.Kill()
	}
	log := e.Log()[min(said, len(e.Log())):]
	for _, part := range []string{path, "schema version is 7", "this engine's is " + version} {
		if !strings.Contains(log, part) {
			t.Errorf("%q is not in what it says: %s", part, log)
		}
	}
	after, err := os.ReadFile(path)
	if err != nil || !bytes.Equal(before, after) {
		t.Errorf("the file has changed, %v", err)
	}
}

func setVersion(t *testing.T, path, bucket, version string) (was string) {
	t.Helper()
	if _, err := os.Stat(path); err != nil { // bbolt would make it
		t.Error(err)
		return ""
	}
	db, err := bbolt.Open(path, 0o600, nil)
	if err != nil {
		t.Error(err)
		return ""
	}
	defer db.Close()
	err = db.Update(func(tx *bbolt.Tx) error {
		b := tx.Bucket([]byte(bucket))
		if b == nil {
			return errors.New("no version")
		}
		was = string(b.Get([]byte("version")))
		return b.Put([]byte("version"), []byte(version))
	})
	if err != nil {
		t.Error(err)
	}
	return was
}
