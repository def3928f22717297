package hop_test

import (
	"context"
	"testing"
	"time"

	"gantry/runtime/hop"
)

func TestTree(t *testing.T) {
	var tr hop.Trace
	ctx := hop.With(t.Context(), &tr)
	in, end := hop.Begin(ctx, "outer")
	_, endInner := hop.Begin(in, "inner")
	endInner()
	hop.Done(hop.Done(in, hop.Hop{Name: "done", Process: "init"}), hop.Hop{Name: "part"})
	end()
	hop.Done(ctx, hop.Hop{Name: "beside"})

	list, lost := tr.Hops()
	want := []struct {
		name   string
		parent int
	}{{"outer", -1}, {"inner", 0}, {"done", 0}, {"part", 2}, {"beside", -1}}
	if len(list) != len(want) || lost != 0 {
		t.Fatalf("%d hops, %d lost: %+v", len(list), lost, list)
	}
	for i, w := range want {
		if list[i].Name != w.name || list[i].Parent != w.parent {
			t.Errorf("hop %d is %+v, want %+v", i, list[i], w)
		}
	}
	if list[0].End.Before(list[1].End) || list[1].Start.Before(list[0].Start) {
		t.Errorf("inner %v is not within outer %v", list[1], list[0])
	}
}

func TestNobodyListens(t *testing.T) {
	ctx := context.Background()
	if hop.Wanted(ctx) {
		t.Error("hops are wanted by nobody")
	}
	in, end := hop.Begin(ctx, "x")
	if end(); in != ctx {
		t.Error("a context was made for nothing")
	}
}

func TestBound(t *testing.T) {
	var tr hop.Trace
	ctx := hop.With(t.Context(), &tr)
	for range hop.Max + 3 {
		hop.Done(ctx, hop.Hop{Start: time.Now()})
	}
	_, end := hop.Begin(ctx, "late")
	end()
	if list, lost := tr.Hops(); len(list) != hop.Max || lost != 4 {
		t.Errorf("%d hops, %d lost", len(list), lost)
	}
}
