package server_test

import (
	"testing"

	"gantry/internal/testutil/coretest"
	"gantry/internal/testutil/need"
	"gantry/internal/testutil/transfertest"
)

// TestTransfersOfContainerd holds a real containerd 2 to the suite: the suite says what is
// so, and our proxy works on what is not ours.
func TestTransfersOfContainerd(t *testing.T) {
	t.Setenv("GANTRY_CONTAINERD", need.Client(t, "containerd"))
	c := coretest.Containerd(t)
	transfertest.Run(t, transfertest.Subject{
		Transfers: c.Transfers(), Content: c.Content(), Images: c.Images(), Leases: c.Leases(),
		Snapshots: c.Snapshotter("overlayfs"), Snapshotter: "overlayfs", Containerd: true,
	})
}
