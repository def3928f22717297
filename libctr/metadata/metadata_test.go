package metadata_test

import (
	"context"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"gantry/api/reqctx"
	"gantry/libctr/content"
	"gantry/libctr/content/contenttest"
	corecontent "gantry/libctr/core/content"
	"gantry/libctr/core/snapshot"
	"gantry/libctr/metadata"
	"gantry/libctr/metadata/metadatatest"
	"gantry/libctr/snapshot/overlay"
	"gantry/libctr/snapshot/snapshottest"
)

// core is a database on real backends.
type core struct {
	*metadata.DB
	blobs *content.Store
	snaps *overlay.Snapshotter
	root  string
	mu    sync.Mutex
	now   time.Time // guarded by mu while the database is in use; what it takes for now
	real  bool      // it takes the time for now
}

func open(t *testing.T) *core {
	t.Helper()
	c := &core{root: t.TempDir(), now: time.Now()}
	var err error
	if c.blobs, err = content.New(filepath.Join(c.root, "content")); err != nil {
		t.Fatal(err)
	}
	if c.snaps, err = overlay.New(filepath.Join(c.root, "overlayfs"), overlay.Options{NoSync: true}); err != nil {
		t.Fatal(err)
	}
	c.DB, err = metadata.Open(filepath.Join(c.root, "meta.db"), metadata.Options{
		Content:      c.blobs,
		Snapshotters: map[string]snapshot.Snapshotter{"overlayfs": c.snaps},
		Now: func() time.Time {
			c.mu.Lock()
			defer c.mu.Unlock()
			if c.real {
				return time.Now()
			}
			c.now = c.now.Add(time.Millisecond)
			return c.now
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		c.DB.Close()
		c.snaps.Close()
	})
	return c
}

func in(t *testing.T, ns string) context.Context { return reqctx.WithNamespace(t.Context(), ns) }

func TestRecords(t *testing.T) {
	metadatatest.Run(t, func(t *testing.T) metadatatest.Stores {
		c := open(t)
		return metadatatest.Stores{
			Containers: c.Containers(), Images: c.Images(), Leases: c.Leases(), Namespaces: c.Namespaces(),
		}
	})
}

func TestContent(t *testing.T) {
	contenttest.Run(t, contenttest.Options{}, func(t *testing.T) (context.Context, corecontent.Store) {
		return in(t, "testing"), open(t).Content()
	})
}

func TestSnapshotter(t *testing.T) {
	snapshottest.Run(t, func(t *testing.T) (context.Context, snapshot.Snapshotter) {
		return in(t, "testing"), open(t).Snapshotter("overlayfs")
	})
}
