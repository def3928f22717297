package metadata_test

import (
	"context"
	"slices"
	"testing"
	"time"

	"gantry/api/errdefs"
	corecontent "gantry/libctr/core/content"
	"gantry/libctr/core/lease"
)

// ingest writes some bytes and leaves it at that.
func (c *core) ingest(t *testing.T, ctx context.Context, ref, text string) {
	t.Helper()
	w, err := c.Content().Writer(ctx, corecontent.WriterOptions{Ref: ref})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	if _, err := w.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
}

func (c *core) ingests(t *testing.T, ctx context.Context) (refs []string) {
	t.Helper()
	list, err := c.Content().ListStatuses(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for _, st := range list {
		refs = append(refs, st.Ref)
	}
	slices.Sort(refs)
	return refs
}

// TestIngestsUnderLeases: an ingest lives as long as a lease that it was opened under or
// that was given it, and without one for a day.
func TestIngestsUnderLeases(t *testing.T) {
	c, ctx := open(t), in(t, "testing")
	for _, id := range []string{"a", "b"} {
		if _, err := c.Leases().Create(ctx, id, nil); err != nil {
			t.Fatal(err)
		}
	}
	a, b := lease.With(ctx, "a"), lease.With(ctx, "b")
	c.ingest(t, ctx, "plain", "1")
	c.ingest(t, a, "of a", "1")
	c.ingest(t, a, "of both", "1")
	c.ingest(t, b, "of both", "2")
	c.ingest(t, a, "plain and a", "1")
	c.ingest(t, ctx, "plain and a", "2")
	c.ingest(t, ctx, "given", "1")
	if err := c.Leases().AddResource(ctx, "b", lease.Resource{Type: "ingests", ID: "given"}); err != nil {
		t.Fatal(err)
	}
	if got, err := c.Leases().ListResources(ctx, "a"); err != nil || !slices.Equal(got, []lease.Resource{
		{Type: "ingests", ID: "of a"}, {Type: "ingests", ID: "of both"}, {Type: "ingests", ID: "plain and a"},
	}) {
		t.Errorf("resources of a: %v, %v", got, err)
	}
	left := func(want ...string) {
		t.Helper()
		c.collect(t)
		if got := c.ingests(t, ctx); !slices.Equal(got, want) {
			t.Errorf("left %q, want %q", got, want)
		}
	}
	left("given", "of a", "of both", "plain", "plain and a")
	if err := c.Leases().Delete(ctx, "a", false); err != nil {
		t.Fatal(err)
	}
	left("given", "of both", "plain", "plain and a")
	if err := c.Leases().DeleteResource(ctx, "b", lease.Resource{Type: "ingests", ID: "of both"}); err != nil {
		t.Fatal(err)
	}
	left("given", "plain", "plain and a")
	c.now = c.now.Add(25 * time.Hour)
	left("given")
	if err := c.Leases().Delete(ctx, "b", true); err != nil {
		t.Fatal(err)
	}
	left()
}

// TestIngestIsOpen: the collector takes none that has a writer; another client resumes it.
func TestIngestIsOpen(t *testing.T) {
	c, ctx := open(t), in(t, "testing")
	if _, err := c.Leases().Create(ctx, "l", nil); err != nil {
		t.Fatal(err)
	}
	w, err := c.Content().Writer(lease.With(ctx, "l"), corecontent.WriterOptions{Ref: "r"})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	if _, err := w.Write([]byte("half")); err != nil {
		t.Fatal(err)
	}
	if err := c.Leases().Delete(ctx, "l", true); err != nil {
		t.Fatal(err)
	}
	if got := c.ingests(t, ctx); !slices.Equal(got, []string{"r"}) {
		t.Fatalf("ingests %q while it is written", got)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	other, err := c.Content().Writer(ctx, corecontent.WriterOptions{Ref: "r"})
	if err != nil {
		t.Fatal(err)
	}
	if st, err := other.Status(); err != nil || st.Offset != 4 {
		t.Errorf("resumed at %d, %v", st.Offset, err)
	}
	other.Close()
	c.collect(t)
	if got := c.ingests(t, ctx); !slices.Equal(got, []string{"r"}) {
		t.Errorf("ingests %q after a day is its own", got)
	}
	if err := c.Content().Abort(ctx, "r"); err != nil {
		t.Fatal(err)
	}
	if err := c.Content().Abort(ctx, "r"); !errdefs.IsNotFound(err) {
		t.Errorf("second abort: %v", err)
	}
}

// TestCommittedIngestIsNoResource: what is committed is held as content.
func TestCommittedIngestIsNoResource(t *testing.T) {
	c, ctx := open(t), in(t, "testing")
	if _, err := c.Leases().Create(ctx, "l", nil); err != nil {
		t.Fatal(err)
	}
	d := c.blob(t, lease.With(ctx, "l"), 1, nil)
	got, err := c.Leases().ListResources(ctx, "l")
	if err != nil || !slices.Equal(got, []lease.Resource{{Type: "content", ID: d.String()}}) {
		t.Errorf("resources %v, %v", got, err)
	}
	// Another namespace's ingest of the same name is another one.
	c.ingest(t, lease.With(ctx, "l"), "r", "x")
	if got := c.ingests(t, in(t, "other")); len(got) != 0 {
		t.Errorf("another namespace sees %q", got)
	}
	if err := c.Content().Abort(in(t, "other"), "r"); !errdefs.IsNotFound(err) {
		t.Errorf("another namespace's abort: %v", err)
	}
}
