package integrationcli

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"gantry/internal/testutil/engine"
)

// TestCutCreate starts a daemon on what a create leaves that a crash has cut off: a
// container's directory that names a volume, and no record.
func TestCutCreate(t *testing.T) {
	e := engine.Start(t)
	lost, kept := e.Must("volume", "create"), e.Must("volume", "create")
	e.Kill()
	dir := filepath.Join(e.Dir, "data", "containers", strings.Repeat("ab", 32))
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "volumes"), []byte(lost+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	e.Launch()
	if got := e.Must("volume", "ls", "-q"); got != kept {
		t.Errorf("volumes %q, want %s alone", got, kept)
	}
	if _, err := os.Stat(dir); err == nil {
		t.Error("the directory is still there")
	}
}
