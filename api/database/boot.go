package database

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"time"

	"go.etcd.io/bbolt"
	"golang.org/x/sys/unix"
)

// OpenBoot opens the database at path of what does not outlive a boot, and drops one of
// an earlier boot. It is written without syncs: what a crash of the machine made of it
// is worth nothing, and one that is damaged otherwise is moved aside.
func OpenBoot(path string, schema Schema, log *slog.Logger) (*DB, error) {
	opts := Options{NoSync: true, NoFreelistSync: true, Schema: schema}
	db, err := Open(path, opts)
	if errors.Is(err, ErrDamaged) {
		aside, merr := MoveAside(path)
		if merr != nil {
			return nil, errors.Join(err, merr)
		}
		log.Warn("run-time database begun anew", "path", path, "aside", aside, "err", err)
		db, err = Open(path, opts)
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
	return OpenBoot(path, schema, log)
}

// CheckBoot returns an error for a damaged file of the present boot, which tells of what
// still runs: whoever would end that for want of a record does not call OpenBoot then.
func CheckBoot(path string) error {
	f, err := new(DB).openFile(path, os.O_RDWR, 0, defaultTimeout)
	if err == nil {
		return f.Close()
	}
	if !errors.Is(err, ErrDamaged) || !writtenSinceBoot(path) {
		return nil
	}
	return fmt.Errorf("open database %s: %w", path, err)
}

func writtenSinceBoot(path string) bool {
	st, err := os.Stat(path)
	var info unix.Sysinfo_t
	if err != nil || unix.Sysinfo(&info) != nil {
		return false
	}
	return time.Since(st.ModTime()) < time.Duration(info.Uptime)*time.Second
}

// ofThisBoot marks a new database with the present boot, and tells whether it is of it.
func ofThisBoot(db *DB) (same bool, err error) {
	boot, err := BootID()
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

// BootID is the kernel's name of the present boot.
func BootID() (string, error) {
	raw, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return strings.TrimSpace(string(raw)), err
}
