package database

import (
	"errors"
	"fmt"
	"strconv"

	"go.etcd.io/bbolt"
)

// ErrNewer is in the error of Open for a file of a later version than the schema's.
// Nothing was written to it.
var ErrNewer = errors.New("a later version of the engine has written it")

// Schema says what a database's version is and how earlier ones become it. A file keeps
// its version as a decimal number under "version" in a bucket of its own. A new file
// is of the newest version; one with buckets and no version is of the first.
type Schema struct {
	Bucket string // of the version, "meta" when empty
	// Steps[n] brings version n+1 up to n+2; so the newest is len(Steps)+1. They run in
	// the one transaction that writes the new version: all of them count, or none.
	Steps []func(*bbolt.Tx) error
}

var keyVersion = []byte("version")

func (s Schema) newest() int { return len(s.Steps) + 1 }

func (s Schema) bucket() []byte {
	if s.Bucket == "" {
		return []byte("meta")
	}
	return []byte(s.Bucket)
}

// version of a file; 0 when it is empty.
func (s Schema) version(tx *bbolt.Tx) (int, error) {
	if meta := tx.Bucket(s.bucket()); meta != nil {
		v, err := strconv.Atoi(string(meta.Get(keyVersion)))
		if err != nil || v < 1 {
			return 0, fmt.Errorf("%w: %q is no schema version", ErrDamaged, meta.Get(keyVersion))
		}
		return v, nil
	}
	if name, _ := tx.Cursor().First(); name != nil {
		return 1, nil
	}
	return 0, nil
}

// check refuses what is of a later version, and reads only.
func (s Schema) check(db *bbolt.DB) error {
	return db.View(func(tx *bbolt.Tx) error {
		v, err := s.version(tx)
		if err == nil && v > s.newest() {
			err = fmt.Errorf("its schema version is %d, and this engine's is %d: %w", v, s.newest(), ErrNewer)
		}
		return err
	})
}

// migrate brings the file to the newest version, in one transaction.
func (s Schema) migrate(db *DB) error {
	var old int
	var stamped bool
	err := db.View(func(tx *bbolt.Tx) (err error) {
		stamped = tx.Bucket(s.bucket()) != nil
		old, err = s.version(tx)
		return err
	})
	if err != nil || stamped && old == s.newest() {
		return err
	}
	return db.Update(func(tx *bbolt.Tx) error {
		for v := old; v > 0 && v < s.newest(); v++ {
			if err := s.Steps[v-1](tx); err != nil {
				return fmt.Errorf("migrate schema version %d to %d: %w", v, v+1, err)
			}
		}
		meta, err := tx.CreateBucketIfNotExists(s.bucket())
		if err != nil {
			return err
		}
		return meta.Put(keyVersion, []byte(strconv.Itoa(s.newest())))
	})
}
