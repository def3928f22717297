package database_test

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"go.etcd.io/bbolt"
	"golang.org/x/sys/unix"

	"gantry/api/database"
	"gantry/internal/testutil/need"
)

// sample is a file with branches, overflowing values, nested and inline buckets and
// free pages between them.
func sample(t *testing.T, o database.Options) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "x.db")
	db, err := database.Open(path, o)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range []int{1, 3} {
		err = db.Update(func(tx *bbolt.Tx) error { return fill(tx, n) })
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	return path
}

func fill(tx *bbolt.Tx, n int) error {
	b, err := tx.CreateBucketIfNotExists([]byte("many"))
	for i := 0; i < 800 && err == nil; i += n {
		err = b.Put(fmt.Appendf(nil, "key%05d", i), bytes.Repeat([]byte{byte(n)}, 100*n))
	}
	for i := 1; i < 800 && err == nil && n > 1; i += n {
		err = b.Delete(fmt.Appendf(nil, "key%05d", i))
	}
	if err == nil {
		err = b.Put([]byte("long"), make([]byte, 20_000))
	}
	if err == nil {
		b, err = b.CreateBucketIfNotExists([]byte("nested"))
	}
	if err == nil {
		b, err = b.CreateBucketIfNotExists([]byte("inline"))
	}
	if err == nil {
		err = b.Put([]byte("k"), []byte("v"))
	}
	return err
}

func walk(b *bbolt.Bucket) (n int, err error) {
	err = b.ForEach(func(k, v []byte) error {
		n += len(bytes.ToUpper(k)) + len(bytes.ToUpper(v))
		if v != nil {
			return nil
		}
		m, err := walk(b.Bucket(k))
		n += m
		return err
	})
	return n, err
}

func size(t *testing.T, db *database.DB) (n int) {
	t.Helper()
	err := db.View(func(tx *bbolt.Tx) (err error) {
		if b := tx.Bucket([]byte("many")); b != nil {
			n, err = walk(b)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestOpen(t *testing.T) {
	for _, o := range []database.Options{{}, {NoFreelistSync: true}, {NoSync: true}} {
		path := sample(t, o)
		db, err := database.Open(path, o)
		if err != nil {
			t.Fatal(err)
		}
		if n := size(t, db); n < 20_000 {
			t.Errorf("%+v: %d bytes", o, n)
		}
		if err := db.Close(); err != nil {
			t.Error(err)
		}
		if left, _ := filepath.Glob(path + ".*"); len(left) > 0 {
			t.Errorf("left behind: %v", left)
		}
	}
}

func TestOpenDamaged(t *testing.T) {
	whole, err := os.ReadFile(sample(t, database.Options{}))
	if err != nil {
		t.Fatal(err)
	}
	edit := func(f func(b []byte) []byte) []byte { return f(bytes.Clone(whole)) }
	for _, tc := range []struct {
		name string
		data []byte
		want string
	}{
		{"empty", nil, "the file is empty"},
		{"text", []byte("not a database\n"), "no valid header"},
		{"random", edit(func(b []byte) []byte { noise(b); return b }), "no valid header"},
		{"cut to one page", whole[:4096], "pages are missing"},
		{"cut in the middle", whole[:len(whole)/2], "pages are missing"},
		{"a page of zeros", edit(func(b []byte) []byte { clear(b[5*4096 : len(b)-4096]); return b }), "page "},
		{"random behind the headers", edit(func(b []byte) []byte { noise(b[2*4096:]); return b }), "page "},
		{"pages swapped", edit(func(b []byte) []byte {
			return append(b[:2*4096], append(bytes.Clone(b[20*4096:]), b[2*4096:20*4096]...)...)
		}), "says it is page"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "x.db")
			if err := os.WriteFile(path, tc.data, 0o600); err != nil {
				t.Fatal(err)
			}
			_, err := database.Open(path, database.Options{})
			if !errors.Is(err, database.ErrDamaged) || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v", err)
			}
			if now, _ := os.ReadFile(path); !bytes.Equal(now, tc.data) {
				t.Error("the file was changed")
			}
		})
	}
	t.Run("directory", func(t *testing.T) {
		dir := t.TempDir()
		if _, err := database.Open(dir, database.Options{}); !errors.Is(err, syscall.EISDIR) || !strings.Contains(err.Error(), dir) {
			t.Errorf("got %v", err)
		}
	})
}

func noise(b []byte) {
	r := rand.NewChaCha8([32]byte{1})
	r.Read(b)
}

// TestFlips damages one word after the other: Open refuses, or all that is there can
// be read and written.
func TestFlips(t *testing.T) {
	for name, o := range map[string]database.Options{"freelist": {NoSync: true}, "no freelist": {NoSync: true, NoFreelistSync: true}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			flip(t, o)
		})
	}
}

func flip(t *testing.T, o database.Options) {
	whole, err := os.ReadFile(sample(t, o))
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "x.db")
	refused := 0
	for page := 0; page < len(whole)/4096; page += 1 + page/4 {
		for _, at := range []int{0, 8, 10, 12, 16, 20, 24, 28, 40, 56} {
			data := bytes.Clone(whole)
			for i := range 4 {
				data[page*4096+at+i] ^= byte(0x5a + page + i)
			}
			if err := os.WriteFile(path, data, 0o600); err != nil {
				t.Fatal(err)
			}
			db, err := database.Open(path, o)
			if err != nil {
				refused++
				continue
			}
			size(t, db)
			// A value may have become a bucket: an error, and no panic.
			_ = db.Update(func(tx *bbolt.Tx) error { return fill(tx, 2) })
			if err := db.Close(); err != nil {
				t.Error(err)
			}
		}
	}
	if refused == 0 {
		t.Error("no damage was noticed")
	}
}

func TestSecondProcess(t *testing.T) {
	path := sample(t, database.Options{})
	db, err := database.Open(path, database.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := database.Open(path, database.Options{Timeout: 1}); err == nil || errors.Is(err, database.ErrDamaged) {
		t.Errorf("got %v", err)
	}
}

// TestFullDisk deletes and rewrites records where no block is left.
func TestFullDisk(t *testing.T) {
	need.Root(t, "mounts a small file system")
	dir := t.TempDir()
	if err := unix.Mount("none", dir, "tmpfs", 0, "size=8m"); err != nil {
		t.Fatal(err)
	}
	defer unix.Unmount(dir, unix.MNT_DETACH)
	db, err := database.Open(filepath.Join(dir, "x.db"), database.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	name := []byte("b")
	put := func(i, n int) error {
		return db.Update(func(tx *bbolt.Tx) error {
			b, err := tx.CreateBucketIfNotExists(name)
			if err != nil {
				return err
			}
			return b.Put(fmt.Appendf(nil, "%05d", i), make([]byte, n))
		})
	}
	for i := range 500 {
		if err := put(i, 5000); err != nil {
			t.Fatal(err)
		}
	}
	ballast, err := os.Create(filepath.Join(dir, "ballast"))
	if err != nil {
		t.Fatal(err)
	}
	defer ballast.Close()
	for err == nil {
		_, err = ballast.Write(make([]byte, 4096))
	}
	if !errors.Is(err, syscall.ENOSPC) {
		t.Fatal(err)
	}
	for i := range 50 {
		if err := put(i, 5000); err != nil {
			t.Fatalf("rewrite %d: %v", i, err)
		}
	}
	for i := range 500 {
		err := db.Update(func(tx *bbolt.Tx) error { return tx.Bucket(name).Delete(fmt.Appendf(nil, "%05d", i)) })
		if err != nil {
			t.Fatalf("delete %d: %v", i, err)
		}
	}
	if err := put(1, 6<<20); !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("more than there is room for: %v", err)
	}
	if err := ballast.Truncate(0); err != nil {
		t.Fatal(err)
	}
	if err := put(1, 1<<20); err != nil {
		t.Errorf("with room again: %v", err)
	}
}

func TestMoveAside(t *testing.T) {
	path := sample(t, database.Options{})
	for range 2 {
		if aside, err := database.MoveAside(path); err != nil || aside != path+".damaged" {
			t.Fatal(aside, err)
		}
		if err := os.Mkdir(path, 0o700); err != nil {
			t.Fatal(err)
		}
	}
}
