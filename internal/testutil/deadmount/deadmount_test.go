package deadmount_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"gantry/internal/testutil/deadmount"
)

func TestDeath(t *testing.T) {
	m := deadmount.New(t)
	if _, err := os.ReadDir(m.Dir); err != nil {
		t.Fatal(err)
	}
	st, err := os.Stat(filepath.Join(m.Dir, "file"))
	if err != nil || !st.Mode().IsRegular() {
		t.Fatal(st, err)
	}
	m.Die()
	woken := make(chan error, 1)
	go func() {
		_, err := os.Stat(filepath.Join(m.Dir, "file"))
		woken <- err
	}()
	select {
	case err := <-woken:
		t.Fatalf("the dead one answered: %v", err)
	case <-time.After(100 * time.Millisecond):
	}
	m.Abort()
	if err := <-woken; err == nil {
		t.Error("no error after the abort")
	}
}
