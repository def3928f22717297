// Package database opens the bbolt files that records are kept in, so that neither a
// damaged file nor a full disk takes records away.
//
// bbolt trusts its file: a page that is cut off or overwritten ends the process, by a
// panic or a bus error, and an empty file counts as a new one. Open therefore reads
// every page in use before bbolt does, and refuses what is not whole. A new file
// appears under its name only when it is one.
//
// A deletion needs room too, since bbolt writes the changed pages beside the old ones.
// A DB keeps blocks allocated behind the pages in use, so that records can be deleted
// and rewritten when the disk is full; they are filled up when there is room again.
package database

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"go.etcd.io/bbolt"
	"golang.org/x/sys/unix"
)

// spare is how many bytes are kept behind the pages in use.
const spare = 1 << 20

const defaultTimeout = 5 * time.Second

// ErrDamaged is in the error of Open for a file that is there and is no whole database.
var ErrDamaged = errors.New("the database is damaged")

// Options say how a file is used. The zero value is for records that have to last.
type Options struct {
	// NoSync leaves out fsync: what a power cut may take.
	NoSync bool
	// NoFreelistSync keeps the free pages in memory only: fewer bytes per commit.
	NoFreelistSync bool
	// Timeout bounds the wait for another process that has the file open; 0 is 5 s.
	Timeout time.Duration
	// Schema is of what the file holds.
	Schema Schema
}

// Records is what a store does with its database: a DB, or in tests plain bbolt.
type Records interface {
	View(fn func(*bbolt.Tx) error) error
	Update(fn func(*bbolt.Tx) error) error
}

// DB is an open file. Safe for concurrent use.
type DB struct {
	*bbolt.DB
	file      *os.File
	allocated atomic.Int64 // bytes from the beginning of the file that have their blocks
}

// Open opens or makes the file at path, of the newest version of its schema. Its errors
// name the path; errors.Is ErrDamaged tells a file that cannot be used as it is, and
// ErrNewer one of a later version.
func Open(path string, o Options) (*DB, error) {
	if err := create(path); err != nil {
		return nil, fmt.Errorf("make database %s: %w", path, err)
	}
	if o.Timeout == 0 {
		o.Timeout = defaultTimeout
	}
	d := new(DB)
	var err error
	if d.DB, err = d.open(path, o); err != nil {
		return nil, fmt.Errorf("open database %s: %w", path, err)
	}
	if err := o.Schema.check(d.DB); err != nil {
		return nil, errors.Join(fmt.Errorf("open database %s: %w", path, err), d.DB.Close())
	}
	d.keep(d.size())
	if err := o.Schema.migrate(d); err != nil {
		return nil, errors.Join(fmt.Errorf("open database %s: %w", path, err), d.DB.Close())
	}
	return d, nil
}

// create puts an empty database where there is no file.
func create(path string) error {
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	tmp := path + ".new"
	if err := os.Remove(tmp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	db, err := bbolt.Open(tmp, 0o600, nil)
	if err == nil {
		err = errors.Join(db.Sync(), db.Close())
	}
	if err == nil {
		err = os.Rename(tmp, path)
	}
	if err != nil {
		return errors.Join(err, removed(tmp))
	}
	return syncDir(filepath.Dir(path))
}

func removed(path string) error {
	if err := os.Remove(path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

func syncDir(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// open hands the file to bbolt after a look at it, under bbolt's own lock.
func (d *DB) open(path string, o Options) (db *bbolt.DB, err error) {
	defer func() { // a damage that verify does not know
		if p := recover(); p != nil {
			db, err = nil, errors.Join(fmt.Errorf("%w: %v", ErrDamaged, p), d.file.Close())
		}
	}()
	return bbolt.Open(path, 0o600, &bbolt.Options{
		Timeout: o.Timeout, NoSync: o.NoSync, NoFreelistSync: o.NoFreelistSync, FreelistType: bbolt.FreelistMapType,
		OpenFile: func(name string, flag int, mode os.FileMode) (*os.File, error) {
			return d.openFile(name, flag&^os.O_CREATE, mode, o.Timeout)
		},
	})
}

func (d *DB) openFile(name string, flag int, mode os.FileMode, wait time.Duration) (_ *os.File, err error) {
	if d.file, err = os.OpenFile(name, flag, mode); err != nil {
		if errors.Is(err, unix.EISDIR) {
			err = fmt.Errorf("%w: %w", ErrDamaged, bare(err))
		}
		return nil, bare(err)
	}
	if err = lock(d.file, wait); err == nil {
		err = look(d.file)
	}
	if err != nil {
		return nil, errors.Join(err, d.file.Close())
	}
	return d.file, nil
}

// bare is err without the path, which the caller adds.
func bare(err error) error {
	var pe *fs.PathError
	if errors.As(err, &pe) {
		return pe.Err
	}
	return err
}

// lock is bbolt's lock, which its own call then finds held by the same descriptor.
func lock(f *os.File, wait time.Duration) error {
	for end := time.Now().Add(wait); ; time.Sleep(50 * time.Millisecond) {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil || !errors.Is(err, unix.EWOULDBLOCK) {
			return err
		}
		if time.Now().After(end) {
			return errors.New("another process has it open")
		}
	}
}

func look(f *os.File) error {
	st, err := f.Stat()
	if err != nil {
		return bare(err)
	}
	if !st.Mode().IsRegular() {
		return fmt.Errorf("%w: not a regular file", ErrDamaged)
	}
	if err := verify(f, st.Size(), time.Now().Add(maxVerify)); err != nil {
		return fmt.Errorf("%w (%w): put back a copy of it, or move it away to begin without its records", ErrDamaged, err)
	}
	return nil
}

// Update is bbolt's, and fills up the spare blocks after it.
func (d *DB) Update(fn func(*bbolt.Tx) error) error {
	var used int64
	err := d.DB.Update(func(tx *bbolt.Tx) error {
		used = tx.Size()
		return fn(tx)
	})
	if err == nil {
		d.keep(used)
	}
	return err
}

// size is that of the pages in use and of free pages between them.
func (d *DB) size() (n int64) {
	_ = d.View(func(tx *bbolt.Tx) error { n = tx.Size(); return nil })
	return n
}

// keep allocates blocks behind the first used bytes, as far as there is room. The
// file's size stays bbolt's matter.
func (d *DB) keep(used int64) {
	if used+spare/2 <= d.allocated.Load() {
		return
	}
	if unix.Fallocate(int(d.file.Fd()), unix.FALLOC_FL_KEEP_SIZE, 0, used+spare) == nil {
		d.allocated.Store(used + spare)
	}
}

// MoveAside renames a damaged file to <path>.damaged, in the place of an earlier one.
func MoveAside(path string) (string, error) {
	aside := path + ".damaged"
	if err := os.RemoveAll(aside); err != nil {
		return "", err
	}
	return aside, os.Rename(path, aside)
}
