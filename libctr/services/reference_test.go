package services_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"gantry/api/reqctx"
	"gantry/internal/testutil/coretest"
	"gantry/libctr/client"
	"gantry/libctr/content/contenttest"
	corecontent "gantry/libctr/core/content"
	"gantry/libctr/core/lease"
	"gantry/libctr/core/snapshot"
	"gantry/libctr/event/eventtest"
	"gantry/libctr/metadata/metadatatest"
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

// TestRecordsOfReference runs the suite of records over real containerds, which are empty.
func TestRecordsOfReference(t *testing.T) {
	metadatatest.RunExcept(t, laxRecords, func(t *testing.T) metadatatest.Stores {
		ref, err := client.New(coretest.ServeContainerd(t))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { ref.Close() })
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		if err := ref.Ready(ctx); err != nil {
			t.Fatal(err)
		}
		return metadatatest.Stores{Containers: ref.Containers(), Images: ref.Images(), Leases: ref.Leases(), Namespaces: ref.Namespaces()}
	})
}

var laxRecords = map[string]string{
	"containers":          "containerd 1.6 knows no sandboxes",
	"containers: update":  "the same, and 2.x keeps extensions that an update leaves out",
	"containers: invalid": "containerd 2.x takes a spec that is not sent for one",
	"images":              "containerd 2.x has deletes by target",
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
