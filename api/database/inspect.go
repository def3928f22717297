package database

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"go.etcd.io/bbolt"
	"golang.org/x/sys/unix"
)

// ErrInUse is in the error of Inspect for a file that a process has open.
var ErrInUse = errors.New("another process has it open")

// Inspect reads the file at path in one transaction, without changing it, and fails when
// a process has it open. fn is given the version of the schema and what bbolt's own check
// finds wrong. Errors name the path; one of a file that is not there is fs.ErrNotExist.
func Inspect(path string, s Schema, fn func(tx *bbolt.Tx, version int, wrong []error) error) (err error) {
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("open database: %w", err)
	}
	defer f.Close()
	if err := unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB); errors.Is(err, unix.EWOULDBLOCK) {
		return fmt.Errorf("open database %s: %w", path, ErrInUse)
	} else if err != nil {
		return fmt.Errorf("open database %s: %w", path, err)
	}
	if err := look(f); err != nil {
		return fmt.Errorf("open database %s: %w", path, err)
	}
	defer func() { // a damage that look does not know
		if p := recover(); p != nil {
			err = fmt.Errorf("read database %s: %w: %v", path, ErrDamaged, p)
		}
	}()
	db, err := bbolt.Open(path, 0, &bbolt.Options{ReadOnly: true, PreLoadFreelist: true, Timeout: time.Second})
	if err != nil {
		return fmt.Errorf("open database %s: %w", path, bare(err))
	}
	defer db.Close() //nolint:errcheck // nothing was written
	err = db.View(func(tx *bbolt.Tx) error {
		version, err := s.version(tx)
		if err != nil {
			return err
		}
		var wrong []error
		for e := range tx.Check() {
			wrong = append(wrong, e)
		}
		return fn(tx, version, wrong)
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		err = fmt.Errorf("read database %s: %w", path, err)
	}
	return err
}

// Newest is the version that the schema's files are brought to.
func (s Schema) Newest() int { return s.newest() }
