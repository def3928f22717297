package daemon

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"go.etcd.io/bbolt"

	"gantry/api/database"
)

// Schemas of the two databases; see database.Schema. What is in them is drawn by the
// services: container, volume, network.
var durableSchema, runtimeSchema database.Schema

// openDurable opens the database of records. A damaged one is an error: what it lost
// cannot be told from what never was.
func openDurable(dataRoot string) (*database.DB, error) {
	return database.Open(filepath.Join(dataRoot, "gantry.db"), database.Options{NoFreelistSync: true, Schema: durableSchema})
}

// openRuntime opens the database of the present boot, dropping one of an earlier boot.
// It is written without syncs: what a crash of the machine made of it is worth nothing,
// and one that is damaged otherwise is moved aside.
func openRuntime(execRoot string, log *slog.Logger) (*database.DB, error) {
	path := filepath.Join(execRoot, "run.db")
	opts := database.Options{NoSync: true, NoFreelistSync: true, Schema: runtimeSchema}
	db, err := database.Open(path, opts)
	if errors.Is(err, database.ErrDamaged) {
		aside, merr := database.MoveAside(path)
		if merr != nil {
			return nil, errors.Join(err, merr)
		}
		log.Warn("run-time database begun anew", "path", path, "aside", aside, "err", err)
		db, err = database.Open(path, opts)
	}
	if err != nil {
		return nil, err
	}
	same, err := ofThisBoot(db)
	if err == nil && same {
		return db, nil
	}
	if err = errors.Join(err, db.Close()); err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	if err := os.Remove(path); err != nil {
		return nil, err
	}
	return openRuntime(execRoot, log)
}

// ofThisBoot marks a new database with the present boot, and tells whether it is of it.
func ofThisBoot(db *database.DB) (same bool, err error) {
	boot, err := bootID()
	if err != nil {
		return false, err
	}
	err = db.Update(func(tx *bbolt.Tx) error {
		b, err := tx.CreateBucketIfNotExists([]byte("boot"))
		if err != nil {
			return err
		}
		was := string(b.Get([]byte("id")))
		same = was == "" || was == boot
		return b.Put([]byte("id"), []byte(boot))
	})
	return same, err
}

func bootID() (string, error) {
	raw, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return strings.TrimSpace(string(raw)), err
}
