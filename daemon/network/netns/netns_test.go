package netns

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"

	"gantry/internal/testutil/need"
)

func TestCreate(t *testing.T) {
	need.Root(t, "makes a network namespace")
	path := filepath.Join(t.TempDir(), "ns")
	f, err := Create(path, func() error { return nil })
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := Create(path, func() error { return nil }); !errors.Is(err, os.ErrExist) {
		t.Errorf("a second one of that name: %v", err)
	}
	h, err := netlink.NewHandleAt(netns.NsHandle(f.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	links, err := h.LinkList()
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range links {
		if l.Type() == "bridge" || l.Type() == "veth" {
			t.Errorf("the new namespace has %s", l.Attrs().Name)
		}
	}
	for range 2 {
		if err := Remove(path); err != nil {
			t.Errorf("remove: %v", err)
		}
	}
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the name is still there: %v", err)
	}
}

func TestCreateTakesBack(t *testing.T) {
	need.Root(t, "makes a network namespace")
	path := filepath.Join(t.TempDir(), "ns")
	nope := errors.New("nope")
	if _, err := Create(path, func() error { return nope }); !errors.Is(err, nope) {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the name is still there: %v", err)
	}
}
