package netns

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/moby/sys/user"
	"golang.org/x/sys/unix"

	"gantry/daemon/userns"
	"gantry/internal/testutil/need"
)

var remapped = userns.Mapping{
	UIDMaps: []user.IDMap{{ID: 0, ParentID: 100000, Count: 65536}},
	GIDMaps: []user.IDMap{{ID: 0, ParentID: 100000, Count: 65536}},
}

func TestCreateOwned(t *testing.T) {
	need.Root(t, "makes namespaces")
	path := filepath.Join(t.TempDir(), "ns")
	ran := false
	f, err := CreateOwned(path, path+"-user", remapped, func() error { ran = true; return nil })
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if !ran {
		t.Error("nothing ran inside")
	}
	owner, err := unix.IoctlRetInt(int(f.Fd()), unix.NS_GET_USERNS)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(owner)
	var got, want unix.Stat_t
	if err := errors.Join(unix.Fstat(owner, &got), unix.Stat(path+"-user", &want)); err != nil {
		t.Fatal(err)
	}
	if got.Ino != want.Ino || got.Dev != want.Dev {
		t.Error("the network namespace does not belong to the user namespace")
	}
	for _, p := range []string{path, path + "-user"} {
		if err := Remove(p); err != nil {
			t.Errorf("remove: %v", err)
		}
		if _, err := os.Stat(p); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s is still there: %v", p, err)
		}
	}
}

func TestCreateOwnedTakesBack(t *testing.T) {
	need.Root(t, "makes namespaces")
	path := filepath.Join(t.TempDir(), "ns")
	nope := errors.New("nope")
	if _, err := CreateOwned(path, path+"-user", remapped, func() error { return nope }); !errors.Is(err, nope) {
		t.Fatal(err)
	}
	if left, _ := os.ReadDir(filepath.Dir(path)); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}
