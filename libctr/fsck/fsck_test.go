package fsck_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"go.etcd.io/bbolt"

	"gantry/api/database"
	"gantry/api/reqctx"
	"gantry/internal/testutil/need"
	"gantry/libctr/content"
	"gantry/libctr/content/contenttest"
	"gantry/libctr/core/container"
	corecontent "gantry/libctr/core/content"
	"gantry/libctr/core/image"
	"gantry/libctr/core/lease"
	"gantry/libctr/core/snapshot"
	"gantry/libctr/fsck"
	"gantry/libctr/metadata"
	"gantry/libctr/metadata/metadatatest"
	"gantry/libctr/snapshot/overlay"
)

const (
	metadataPlugin = "io.containerd.metadata.v1.bolt"
	contentPlugin  = "io.containerd.content.v1.content"
	overlayPlugin  = "io.containerd.snapshotter.v1.overlayfs"
	taskPlugin     = "io.containerd.runtime.v2.task"
)

// core is the directories of one that has run and was stopped.
type core struct {
	root, state string
	blob        digest.Digest
}

func (c core) file(elem ...string) string { return filepath.Join(append([]string{c.root}, elem...)...) }
func (c core) blobFile() string {
	return c.file(contentPlugin, "blobs", "sha256", c.blob.Encoded())
}

// stopped makes a core with one of everything: a copy of the first.
func stopped(t *testing.T) core {
	t.Helper()
	need.Root(t, "makes snapshots")
	first.Do(func() {
		template = prepare(t, core{root: filepath.Join(scratch, "root"), state: filepath.Join(scratch, "state")})
	})
	if template.blob == "" {
		t.Fatal("there is none to copy")
	}
	c := core{root: filepath.Join(t.TempDir(), "root"), state: filepath.Join(t.TempDir(), "state"), blob: template.blob}
	if err := errors.Join(os.CopyFS(c.root, os.DirFS(template.root)), os.CopyFS(c.state, os.DirFS(template.state))); err != nil {
		t.Fatal(err)
	}
	return c
}

var (
	first    sync.Once
	template core
	scratch  string // holds the template
)

func TestMain(m *testing.M) {
	var err error
	if scratch, err = os.MkdirTemp("", "fsck-"); err != nil {
		panic(err)
	}
	code := m.Run()
	os.RemoveAll(scratch) //nolint:errcheck // of the tests' own
	os.Exit(code)
}

func prepare(t *testing.T, c core) core {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(os.MkdirAll(c.file(metadataPlugin), 0o700))
	must(os.MkdirAll(filepath.Join(c.state, metadataPlugin), 0o700))
	must(os.MkdirAll(filepath.Join(c.state, taskPlugin, "testing", "runs"), 0o700))
	blobs, err := content.New(c.file(contentPlugin))
	must(err)
	snaps, err := overlay.New(c.file(overlayPlugin), overlay.Options{NoSync: true})
	must(err)
	db, err := metadata.Open(c.file(metadataPlugin, "meta.db"), metadata.Options{
		Content: blobs, Snapshotters: map[string]snapshot.Snapshotter{"overlayfs": snaps},
		Boot: filepath.Join(c.state, metadataPlugin, "boot.db"),
	})
	must(err)
	ctx := reqctx.WithNamespace(t.Context(), "testing")
	_, err = db.Leases().Create(ctx, "l", nil)
	must(err)
	under := lease.With(ctx, "l")
	data, desc := contenttest.Blob(1, 100)
	c.blob = contenttest.Write(t, under, db.Content(), data, nil)
	_, err = db.Images().Create(ctx, image.Image{Name: "i",
		Target: ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: desc.Digest, Size: desc.Size}})
	must(err)
	sn := db.Snapshotter("overlayfs")
	_, err = sn.Prepare(under, "a", "", nil)
	must(err)
	must(sn.Commit(under, "base", "a", nil))
	_, err = sn.Prepare(under, "a", "base", nil)
	must(err)
	record := metadatatest.Container("c")
	record.SnapshotKey = "a"
	_, err = db.Containers().Create(ctx, record)
	must(err)
	record.ID, record.Labels = "runs", map[string]string{container.LabelOfBoot: "true"}
	_, err = db.Containers().Create(ctx, record)
	must(err)
	w, err := db.Content().Writer(under, corecontent.WriterOptions{Ref: "r"})
	must(err)
	must(w.Close())
	must(errors.Join(db.Close(), snaps.Close()))
	return c
}

// edit changes a database in its bucket.
func edit(t *testing.T, path string, fn func(tx *bbolt.Tx) error) {
	t.Helper()
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{Timeout: time.Second})
	if err == nil {
		err = errors.Join(db.Update(fn), db.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
}

func bucket(tx *bbolt.Tx, path string) *bbolt.Bucket {
	elem := strings.Split(path, "/")
	b := tx.Bucket([]byte(elem[0]))
	for _, name := range elem[1:] {
		b = b.Bucket([]byte(name))
	}
	return b
}

func TestSound(t *testing.T) {
	c := stopped(t)
	found, err := fsck.Check(t.Context(), fsck.Options{Root: c.root, State: c.state, Deep: true})
	if err != nil || len(found) > 0 {
		t.Errorf("%v, %v", found, err)
	}
}

// TestFaults plants one fault after the other in a sound core, and finds it, alone.
func TestFaults(t *testing.T) {
	const keys, children = "v1/testing/snapshots/overlayfs/keys", "v1/testing/snapshots/overlayfs/children"
	meta := func(fn func(tx *bbolt.Tx) error) func(*testing.T, core) {
		return func(t *testing.T, c core) { edit(t, c.file(metadataPlugin, "meta.db"), fn) }
	}
	storage := func(fn func(tx *bbolt.Tx) error) func(*testing.T, core) {
		return func(t *testing.T, c core) { edit(t, c.file(overlayPlugin, "metadata.db"), fn) }
	}
	file := func(fn func(c core) error) func(*testing.T, core) {
		return func(t *testing.T, c core) {
			if err := fn(c); err != nil {
				t.Fatal(err)
			}
		}
	}
	onlyOf := func(b *bbolt.Bucket, prefix string) (k []byte) {
		c := b.Cursor()
		for k, _ = c.First(); k != nil && !strings.HasSuffix(string(k), prefix); k, _ = c.Next() {
		}
		return k
	}
	drop := func(path, key string) func(tx *bbolt.Tx) error {
		return func(tx *bbolt.Tx) error { return bucket(tx, path).Delete([]byte(key)) }
	}
	replace := func(path, key, from, to string) func(tx *bbolt.Tx) error {
		return func(tx *bbolt.Tx) error {
			b := bucket(tx, path)
			k := onlyOf(b, key)
			return b.Put(k, []byte(strings.Replace(string(b.Get(k)), from, to, 1)))
		}
	}
	for _, tc := range []struct {
		name  string
		plant func(*testing.T, core)
		want  []string // each the beginning of a finding
	}{
		{"a blob's file is gone", file(func(c core) error { return os.Remove(c.blobFile()) }), []string{"lost blob"}},
		{"a blob is short", file(func(c core) error { return os.Truncate(c.blobFile(), 99) }), []string{"wrong blob", "wrong blob"}},
		{"a blob has changed", file(func(c core) error {
			return os.WriteFile(c.blobFile(), make([]byte, 100), 0o600)
		}), []string{"wrong blob"}},
		{"a blob has no record", func(t *testing.T, c core) {
			edit(t, c.file(metadataPlugin, "meta.db"), drop("v1/testing/content", c.blob.String()))
		}, []string{"orphan blob", "dangling image", "dangling lease"}},
		{"a stranger among the blobs", file(func(c core) error {
			return os.WriteFile(c.file(contentPlugin, "blobs", "sha256", "x"), nil, 0o600)
		}), []string{"orphan blob x"}},
		{"an ingest has no reference", file(func(c core) error {
			return os.Mkdir(c.file(contentPlugin, "ingest", "x"), 0o700)
		}), []string{"orphan ingest x"}},
		{"an ingest of no namespace", file(func(c core) error {
			dir := c.file(contentPlugin, "ingest", digest.FromString("gone/r").Encoded())
			return errors.Join(os.Mkdir(dir, 0o700), os.WriteFile(filepath.Join(dir, "ref"), []byte("gone/r"), 0o600))
		}), []string{"orphan ingest gone/r"}},
		{"an ingest's record has none", file(func(c core) error {
			dirs, err := filepath.Glob(c.file(contentPlugin, "ingest", "*"))
			return errors.Join(err, os.RemoveAll(dirs[0]))
		}), []string{"lost ingest testing/r"}},
		{"an image's target", meta(replaceImage), []string{"dangling image testing/i"}},
		{"a container's snapshot", meta(func(tx *bbolt.Tx) error {
			b := bucket(tx, keys)
			v := b.Get([]byte("a"))
			return errors.Join(b.Put([]byte("b"), v), b.Delete([]byte("a")),
				bucket(tx, children).Delete([]byte("base\x00a")), bucket(tx, children).Put([]byte("base\x00b"), nil))
		}), []string{"dangling container testing/c", "dangling container testing/runs", "dangling lease testing/l"}},
		{"the backend has lost a snapshot", storage(func(tx *bbolt.Tx) error {
			k := onlyOf(bucket(tx, "snapshots"), "/a")
			return errors.Join(bucket(tx, "snapshots").Delete(k), bucket(tx, "children").Delete(onlyOf(bucket(tx, "children"), "/a")))
		}), []string{"lost snapshot testing/overlayfs:a", "orphan snapshot overlayfs:2"}},
		{"a snapshot has no record", meta(func(tx *bbolt.Tx) error {
			return errors.Join(bucket(tx, keys).Delete([]byte("a")), bucket(tx, children).Delete([]byte("base\x00a")))
		}), []string{"orphan snapshot overlayfs:testing/", "dangling container", "dangling container", "dangling lease"}},
		{"a parent has no record", meta(drop(keys, "base")), []string{"lost snapshot testing/overlayfs:a: its parent", "orphan snapshot", "wrong snapshot testing/overlayfs:a: its parent", "dangling lease"}},
		{"a parent is not committed", meta(replace(keys, "base", `"kind":3`, `"kind":2`)), []string{"wrong snapshot testing/overlayfs:a", "wrong snapshot testing/overlayfs:base"}},
		{"a child is not in the index", meta(drop(children, "base\x00a")), []string{"wrong snapshot testing/overlayfs:a: the index"}},
		{"the index has a child too many", meta(func(tx *bbolt.Tx) error {
			return bucket(tx, children).Put([]byte("base\x00x"), nil)
		}), []string{"wrong snapshot testing/overlayfs:base: the index"}},
		{"a snapshot is its own parent", meta(func(tx *bbolt.Tx) error {
			return errors.Join(replace(keys, "base", `"kind":3`, `"kind":3,"parent":"base"`)(tx), bucket(tx, children).Put([]byte("base\x00base"), nil))
		}), []string{"wrong snapshot testing/overlayfs:a: is among", "wrong snapshot testing/overlayfs:base: is among", "wrong snapshot testing/overlayfs:base: its parent"}},
		{"a snapshot's directory is gone", file(func(c core) error {
			return os.RemoveAll(c.file(overlayPlugin, "snapshots", "2"))
		}), []string{"lost snapshot testing/overlayfs:a: its directory"}},
		{"a snapshot's tree is gone", file(func(c core) error {
			return os.RemoveAll(c.file(overlayPlugin, "snapshots", "1", "fs"))
		}), []string{"lost snapshot testing/overlayfs:base: its directory has no fs"}},
		{"a directory without a snapshot", file(func(c core) error {
			return os.Mkdir(c.file(overlayPlugin, "snapshots", "7"), 0o700)
		}), []string{"orphan snapshot overlayfs:7"}},
		{"the snapshotter's index lacks a child", storage(func(tx *bbolt.Tx) error {
			return bucket(tx, "children").Delete(onlyOf(bucket(tx, "children"), "/a"))
		}), []string{"wrong snapshot overlayfs:testing/"}},
		{"the snapshotter's index has a child too many", storage(func(tx *bbolt.Tx) error {
			return bucket(tx, "children").Put([]byte("x\x00y"), nil)
		}), []string{"wrong snapshot overlayfs:x"}},
		{"two snapshots in a directory", storage(replace("snapshots", "/a", `"id":2`, `"id":1`)), []string{"orphan snapshot overlayfs:2", "wrong snapshot testing/overlayfs:"}},
		{"the snapshotter is gone", file(func(c core) error { return os.RemoveAll(c.file(overlayPlugin)) }),
			[]string{"lost snapshot testing/overlayfs:a: its snapshotter", "lost snapshot testing/overlayfs:base: its snapshotter"}},
		{"a bundle of nobody", file(func(c core) error {
			return os.Mkdir(filepath.Join(c.state, taskPlugin, "testing", "x"), 0o700)
		}), []string{"orphan bundle testing/x"}},
		{"a container has two records", func(t *testing.T, c core) {
			edit(t, c.file(metadataPlugin, "meta.db"), func(tx *bbolt.Tx) error {
				b := bucket(tx, "v1/testing/containers")
				return b.Put([]byte("runs"), []byte(strings.Replace(string(b.Get([]byte("c"))), "\x01c", "\x04runs", 1)))
			})
		}, []string{"wrong container testing/runs"}},
		{"a record can't be read", meta(func(tx *bbolt.Tx) error {
			return bucket(tx, keys).Put([]byte("odd"), []byte("{"))
		}), []string{"wrong database testing/"}},
		{"a record of the snapshotter can't be read", storage(func(tx *bbolt.Tx) error {
			return bucket(tx, "snapshots").Put([]byte("odd"), []byte("{"))
		}), []string{"wrong database"}},
		{"a later version", meta(func(tx *bbolt.Tx) error {
			return bucket(tx, "meta").Put([]byte("version"), []byte("99"))
		}), []string{"wrong database : its schema version is 99"}},
		{"no version", storage(func(tx *bbolt.Tx) error {
			return bucket(tx, "version").Put([]byte("version"), []byte("x"))
		}), []string{"wrong database"}},
		{"the records are gone", file(func(c core) error { return os.Remove(c.file(metadataPlugin, "meta.db")) }), []string{"lost database"}},
		{"the records are cut", file(func(c core) error { return os.Truncate(c.file(metadataPlugin, "meta.db"), 5000) }), []string{"wrong database"}},
		{"the snapshotter's records are empty", file(func(c core) error {
			return os.Truncate(c.file(overlayPlugin, "metadata.db"), 0)
		}), []string{"wrong database"}},
		{"the records of the boot are noise", file(func(c core) error {
			return os.WriteFile(filepath.Join(c.state, metadataPlugin, "boot.db"), []byte("noise"), 0o600)
		}), []string{"orphan bundle", "wrong database"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := stopped(t)
			tc.plant(t, c)
			before := tree(t, c.root) + tree(t, c.state)
			found, err := fsck.Check(t.Context(), fsck.Options{Root: c.root, State: c.state, Deep: true})
			if err != nil {
				t.Fatal(err)
			}
			if got := tree(t, c.root) + tree(t, c.state); got != before {
				t.Errorf("it has changed something:\n%s\n%s", before, got)
			}
			for _, want := range tc.want {
				if found = without(found, want); found == nil {
					t.Fatalf("no %q among what was found", want)
				}
			}
			if len(found) > 0 {
				t.Errorf("also found: %v", found)
			}
		})
	}
}

// without takes the first finding that begins so; nil when there is none.
func without(found []fsck.Finding, beginning string) []fsck.Finding {
	for i, f := range found {
		if strings.HasPrefix(f.String(), beginning) {
			return append(append([]fsck.Finding{}, found[:i]...), found[i+1:]...)
		}
	}
	return nil
}

// replaceImage gives the image another target.
func replaceImage(tx *bbolt.Tx) error {
	b := bucket(tx, "v1/testing/images")
	v := string(b.Get([]byte("i")))
	at := strings.Index(v, "sha256:") + len("sha256:")
	return b.Put([]byte("i"), []byte(v[:at]+strings.Repeat("0", 64)+v[at+64:]))
}

// tree lists a directory with sizes and times of change.
func tree(t *testing.T, root string) string {
	t.Helper()
	var out strings.Builder
	err := filepath.Walk(root, func(path string, fi os.FileInfo, err error) error {
		if err == nil {
			fmt.Fprintln(&out, path, fi.Mode(), fi.Size(), fi.ModTime().UnixNano())
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out.String()
}

// TestRunning: a core that runs is not looked at.
func TestRunning(t *testing.T) {
	c := stopped(t)
	db, err := metadata.Open(c.file(metadataPlugin, "meta.db"), metadata.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := fsck.Check(t.Context(), fsck.Options{Root: c.root}); !errors.Is(err, database.ErrInUse) {
		t.Errorf("a running core: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := fsck.Check(ctx, fsck.Options{Root: stopped(t).root}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}
