package server_test

import (
	"testing"

	"gantry/internal/testutil/need"
	coretransfer "gantry/libctr/core/transfer"
	"gantry/libctr/metadata"
	"gantry/libctr/transfer/transfertest"
)

// TestTransfers holds the core's transfers to their suite, in process and through gRPC.
func TestTransfers(t *testing.T) {
	need.Root(t, "unpacks images")
	plugin := func(t *testing.T, c *core, uri string) any {
		t.Helper()
		v, err := c.Plugin(uri)
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	t.Run("local", func(t *testing.T) {
		c := start(t, newConfig(t))
		db := plugin(t, c, "io.containerd.metadata.v1.bolt").(*metadata.DB)
		transfertest.Run(t, transfertest.Subject{
			Transfers: plugin(t, c, "io.containerd.transfer.v1.local").(coretransfer.Transferrer),
			Content:   db.Content(), Images: db.Images(), Leases: db.Leases(),
			Snapshots: db.Snapshotters()["overlayfs"], Snapshotter: "overlayfs",
		})
	})
	t.Run("proxy", func(t *testing.T) {
		c := start(t, newConfig(t))
		transfertest.Run(t, transfertest.Subject{
			Transfers: c.client.Transfers(), Content: c.client.Content(), Images: c.client.Images(), Leases: c.client.Leases(),
			Snapshots: c.client.Snapshotter("native"), Snapshotter: "native",
		})
	})
}
