package daemon

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"go.etcd.io/bbolt"
)

// openDurable opens the database of records; a second engine on it is an error, not a wait.
func openDurable(dataRoot string) (*bbolt.DB, error) {
	return open(filepath.Join(dataRoot, "gantry.db"), false)
}

// openRuntime opens the database of the present boot, dropping one of an earlier boot.
func openRuntime(execRoot string) (*bbolt.DB, error) {
	path := filepath.Join(execRoot, "run.db")
	db, err := open(path, true)
	if err != nil {
		// Written without syncs: what a crash of the machine made of it is worth nothing.
		if rerr := os.Remove(path); rerr != nil && !errors.Is(rerr, fs.ErrNotExist) {
			return nil, err
		}
		if db, err = open(path, true); err != nil {
			return nil, err
		}
	}
	boot, err := bootID()
	if err != nil {
		db.Close()
		return nil, err
	}
	var same bool
	err = db.Update(func(tx *bbolt.Tx) error {
		b, err := tx.CreateBucketIfNotExists([]byte("boot"))
		if err != nil {
			return err
		}
		was := string(b.Get([]byte("id")))
		same = was == "" || was == boot
		return b.Put([]byte("id"), []byte(boot))
	})
	if err != nil {
		db.Close()
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	if same {
		return db, nil
	}
	db.Close()
	if err := os.Remove(path); err != nil {
		return nil, err
	}
	return openRuntime(execRoot)
}

func open(path string, noSync bool) (*bbolt.DB, error) {
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{Timeout: 5 * time.Second, NoSync: noSync, NoFreelistSync: true, FreelistType: bbolt.FreelistMapType})
	if err != nil {
		return nil, fmt.Errorf("open database %s: %w", path, err)
	}
	return db, nil
}

func bootID() (string, error) {
	raw, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return strings.TrimSpace(string(raw)), err
}
