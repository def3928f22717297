package image

import (
	"context"
	"strings"
	"testing"

	"gantry/internal/testutil/coretest"
	"gantry/libctr/client"
	"gantry/libctr/core/content"
	"gantry/libctr/core/lease"
)

// TestRestore begins what a load and a pull do, and lets another daemon find it.
func TestRestore(t *testing.T) {
	for name, start := range map[string]func(testing.TB) *client.Client{"core": coretest.Start, "containerd": coretest.Containerd} {
		t.Run(name, func(t *testing.T) {
			c, ctx := start(t), t.Context()
			core := Core{Content: c.Content(), Images: c.Images(), Snapshots: c.Snapshotter("overlayfs"), Leases: c.Leases()}
			first := New(core, Config{}, nil, coretest.Log(t))
			leases := map[bool]string{}
			for _, keep := range []bool{false, true} {
				held, _, err := first.underLease(ctx, keep)
				must(t, err)
				leases[keep] = lease.From(held)
				_, err = core.Snapshots.Prepare(held, extractPrefix+leases[keep], "", nil)
				must(t, err)
				open(t, held, core, oncePrefix+leases[keep])
				open(t, held, core, "layer-"+leases[keep])
			}
			second := New(core, Config{}, nil, coretest.Log(t))
			mine, done, err := second.underLease(ctx, false)
			must(t, err)
			defer done()
			second.Restore(ctx)

			var left []string
			all, err := core.Leases.List(ctx)
			must(t, err)
			for _, l := range all {
				left = append(left, l.ID)
			}
			for id, want := range map[string]bool{leases[false]: false, leases[true]: true, lease.From(mine): true} {
				if got := strings.Contains(strings.Join(left, " "), id); got != want {
					t.Errorf("lease %s there: %v", id, got)
				}
			}
			for keep, id := range leases {
				if _, err := core.Snapshots.Stat(ctx, extractPrefix+id); err == nil {
					t.Errorf("the snapshot of a cut-off unpacking is there (resumable: %v)", keep)
				}
				if _, err := core.Content.Status(ctx, oncePrefix+id); err == nil {
					t.Errorf("an ingest that nobody goes on with is there")
				}
				// Without its lease the core may collect it at any time.
				if _, err := core.Content.Status(ctx, "layer-"+id); err != nil && keep {
					t.Errorf("the ingest of a pull: %v", err)
				}
			}
		})
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func open(t *testing.T, ctx context.Context, core Core, ref string) {
	t.Helper()
	w, err := core.Content.Writer(ctx, content.WriterOptions{Ref: ref})
	must(t, err)
	_, err = w.Write([]byte("half"))
	must(t, err)
	must(t, w.Close())
}
