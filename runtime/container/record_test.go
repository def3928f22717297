package container

import (
	"os"
	"testing"
)

// TestClosedPidFD: one goroutine may look while another deletes.
func TestClosedPidFD(t *testing.T) {
	r, w, err := os.Pipe() // r never becomes readable
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	if ended(r) {
		t.Error("open and quiet, and counts as ended")
	}
	r.Close()
	if !ended(r) || !ended(nil) {
		t.Error("closed, and does not count as ended")
	}
	if _, err := dup(r); err == nil {
		t.Error("a closed file has a copy")
	}
}
