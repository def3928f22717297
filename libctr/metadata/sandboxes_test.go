package metadata_test

import (
	"path/filepath"
	"testing"

	"gantry/api/errdefs"
	"gantry/api/reqctx"
	"gantry/libctr/core/sandbox"
	"gantry/libctr/metadata"
	"gantry/libctr/sandbox/sandboxtest"
)

func TestSandboxes(t *testing.T) {
	sandboxtest.Store(t, func(t *testing.T) sandbox.Store {
		db, err := metadata.Open(filepath.Join(t.TempDir(), "meta.db"), metadata.Options{})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { db.Close() })
		return db.Sandboxes()
	})
}

// TestNamespaceOfSandbox is not to be deleted.
func TestNamespaceOfSandbox(t *testing.T) {
	db, err := metadata.Open(filepath.Join(t.TempDir(), "meta.db"), metadata.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.Sandboxes().List(t.Context()); !errdefs.IsFailedPrecondition(err) {
		t.Errorf("no namespace: %v", err)
	}
	ctx := reqctx.WithNamespace(t.Context(), "pods")
	if _, err := db.Sandboxes().Create(ctx, sandbox.Sandbox{ID: "pod"}); err != nil {
		t.Fatal(err)
	}
	if err := db.Namespaces().Delete(ctx, "pods"); !errdefs.IsFailedPrecondition(err) {
		t.Errorf("deleted a namespace with a sandbox: %v", err)
	}
	if err := db.Sandboxes().Delete(ctx, "pod"); err != nil {
		t.Fatal(err)
	}
	if err := db.Namespaces().Delete(ctx, "pods"); err != nil {
		t.Error(err)
	}
}
