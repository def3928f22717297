package volume_test

import (
	"os"
	"testing"

	volumetypes "github.com/docker/docker/api/types/volume"
)

// TestCreateUndone lets the record of a volume fail: its directories go again.
func TestCreateUndone(t *testing.T) {
	f := newFixture(t)
	check(t, f.db.Close())
	if v, err := f.Ensure(t.Context(), volumetypes.CreateOptions{Name: "v"}, "c1"); err == nil {
		t.Fatalf("made %+v without a database", v)
	}
	if left, err := os.ReadDir(f.root); err != nil || len(left) > 0 {
		t.Errorf("left %v, %v", left, err)
	}
	if _, err := f.Inspect(t.Context(), "v"); err == nil {
		t.Error("the volume is known")
	}
}
