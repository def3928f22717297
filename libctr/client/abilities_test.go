package client_test

import (
	"os"
	"path/filepath"
	"reflect"
	"testing"

	"gantry/internal/testutil/coretest"
	"gantry/libctr/client"
)

// TestDiscover: our core tells what it can do, and a containerd shows whether it sees our
// shim.
func TestDiscover(t *testing.T) {
	shim := filepath.Join(t.TempDir(), "containerd-shim-gantry-v2")
	if err := os.WriteFile(shim, nil, 0o755); err != nil {
		t.Fatal(err)
	}
	discover := func(t *testing.T, address, shim string) client.Abilities {
		t.Helper()
		c, err := client.New(address, client.WithNamespace(coretest.Namespace))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if err := c.Ready(t.Context()); err != nil {
			t.Fatal(err)
		}
		a, err := c.Discover(t.Context(), client.Place{Address: address, Shim: shim, Snapshotter: "overlayfs"})
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	t.Run("ours", func(t *testing.T) {
		if a := discover(t, coretest.Serve(t), shim); !reflect.DeepEqual(a, client.Own) {
			t.Errorf("%+v, want %+v", a, client.Own)
		}
	})
	t.Run("containerd", func(t *testing.T) {
		address := coretest.ServeContainerd(t)
		if a := discover(t, address, shim); a.Shim != "io.containerd.runc.v2" || a.ShimPath != shim || a.KeepsExits || a.MapsLayers {
			t.Errorf("%+v", a)
		}
		if a := discover(t, address, shim+"+"); a.Shim != "" || a.ShimPath != "" {
			t.Errorf("of a shim that is not there: %+v", a)
		}
	})
}
