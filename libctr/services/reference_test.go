package services_test

import (
	"context"
	"fmt"
	"testing"

	"gantry/api/reqctx"
	"gantry/internal/testutil/coretest"
	"gantry/libctr/client"
	"gantry/libctr/content/contenttest"
	corecontent "gantry/libctr/core/content"
	"gantry/libctr/core/lease"
	"gantry/libctr/core/snapshot"
	"gantry/libctr/event/eventtest"
	"gantry/libctr/snapshot/snapshottest"
)

// TestReference runs the suites over a real containerd: that they hold of it too says
// that they ask for what is so.
func TestReference(t *testing.T) {
	ref := coretest.Containerd(t)
	n := 0
	// Each test has a namespace and a lease of its own, which keeps what it makes.
	own := func(t *testing.T) context.Context {
		n++
		ctx := reqctx.WithNamespace(t.Context(), fmt.Sprint("test-", n))
		if _, err := ref.Leases().Create(ctx, "l", nil); err != nil {
			t.Fatal(err)
		}
		return lease.With(ctx, "l")
	}
	t.Run("events", func(t *testing.T) {
		eventtest.Run(t, func(*testing.T) eventtest.Exchange { return ref.Events() })
	})
	t.Run("content", func(t *testing.T) {
		contenttest.Run(t, contenttest.Options{Except: laxContent}, func(t *testing.T) (context.Context, corecontent.Store) { return own(t), ref.Content() })
	})
	for _, name := range []string{"overlayfs", "native"} {
		t.Run(name, func(t *testing.T) {
			snapshottest.RunExcept(t, laxSnapshots, func(t *testing.T) (context.Context, snapshot.Snapshotter) { return own(t), ref.Snapshotter(name) })
		})
	}
}

// What containerd 1.6 does not do or does not refuse.
var (
	laxContent = map[string]string{
		"other algorithm":     "containerd 2.x has it",
		"more than announced": "containerd looks at the commit",
		"invalid":             "containerd bounds no reference",
	}
	laxSnapshots = map[string]string{
		"root attributes":        "containerd 2.x has it",
		"keys":                   "containerd takes any key, and an empty one has no class",
		"remove":                 "containerd cleans up by itself",
		"concurrent":             "the same",
		"onto a parent":          "containerd 2.x has it",
		"onto what is no parent": "containerd 2.x has it",
	}
)

// TestExchange: events over gRPC.
func TestExchange(t *testing.T) {
	eventtest.Run(t, func(t *testing.T) eventtest.Exchange {
		c, err := client.New(coretest.Serve(t))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		return c.Events()
	})
}
