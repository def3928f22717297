package storage

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

// TestSyncTogether syncs once for what was changed before, and again for what was not.
func TestSyncTogether(t *testing.T) {
	d, err := OpenDirs(t.TempDir(), nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	tree := t.TempDir()
	survey := func() time.Time {
		t.Helper()
		_, changed, err := Survey(t.Context(), tree)
		if err != nil {
			t.Fatal(err)
		}
		return changed
	}
	// synced says whether a sync was needed.
	synced := func() bool {
		t.Helper()
		before := d.synced.Load()
		if err := d.SyncChanged(survey()); err != nil {
			t.Fatal(err)
		}
		return d.synced.Load() != before
	}
	file := filepath.Join(tree, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if !synced() {
		t.Error("nothing was ever synced")
	}
	time.Sleep(2 * tick)
	synced()
	if synced() {
		t.Error("what was changed long before the last sync is synced again")
	}
	for name, change := range map[string]func() error{
		"data": func() error { return os.WriteFile(file, []byte("x"), 0o600) }, "mode": func() error { return os.Chmod(file, 0o644) },
		"time":    func() error { return os.Chtimes(file, time.Unix(1, 0), time.Unix(1, 0)) },
		"another": func() error { return os.Mkdir(filepath.Join(tree, "dir"), 0o755) },
	} {
		if err := change(); err != nil {
			t.Fatal(err)
		}
		if !synced() {
			t.Errorf("%s was changed and not synced", name)
		}
		time.Sleep(2 * tick)
		synced()
	}
	last := d.synced.Load()
	shortly := now()
	shortly.real = time.Duration(survey().UnixNano()) + tick/2
	shortly.steady = last.steady + shortly.real - last.real
	if shortly.covers(survey()) {
		t.Error("what was changed just before a sync may have been after its beginning")
	}
	if set := (instant{last.real + time.Hour, last.steady}); set.covers(survey()) {
		t.Error("a clock that was set tells nothing")
	}
	if last.covers(unknown) {
		t.Error("a tree that was not seen whole is synced")
	}
}
