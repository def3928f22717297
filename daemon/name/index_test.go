package name_test

import (
	"strings"
	"testing"

	"gantry/api/errdefs"
	"gantry/daemon/name"
)

func TestValid(t *testing.T) {
	for in, want := range map[string]bool{
		"web": true, "a1": true, "a_b.c-d": true, "A0": true,
		"": false, "a": false, "-a": false, "_ab": false, "a b": false, "a/b": false, "ä1": false,
	} {
		if got := name.Valid(in); got != want {
			t.Errorf("Valid(%q) = %v", in, got)
		}
	}
}

func TestFind(t *testing.T) {
	x := name.NewIndex()
	for _, id := range []string{"aaaa1111", "aaaa2222", "bbbb3333"} {
		x.Add(id)
	}
	x.Reserve("web", "aaaa1111")
	x.Reserve("bbbb", "aaaa2222")    // a name that looks like a prefix wins over the prefix
	x.Reserve("aaaa1111x", "nobody") // reserved, no record yet
	tests := []struct {
		name, ref, id, text string
		is                  func(error) bool
	}{
		{name: "full id", ref: "aaaa2222", id: "aaaa2222"},
		{name: "name", ref: "web", id: "aaaa1111"},
		{name: "name with slash", ref: "/web", id: "aaaa1111"},
		{name: "name before prefix", ref: "bbbb", id: "aaaa2222"},
		{name: "prefix", ref: "bbbb3", id: "bbbb3333"},
		{name: "ambiguous", ref: "aaaa", text: "multiple IDs found with provided prefix: aaaa", is: errdefs.IsInvalidArgument},
		{name: "none", ref: "nope", text: "No such container: nope", is: errdefs.IsNotFound},
		{name: "reserved only", ref: "aaaa1111x", text: "No such container: aaaa1111x", is: errdefs.IsNotFound},
		{name: "empty", ref: "", text: `invalid name or ID supplied: ""`, is: errdefs.IsInvalidArgument},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			id, err := x.Find(tt.ref)
			if tt.is == nil {
				if err != nil || id != tt.id {
					t.Fatalf("Find = %q, %v", id, err)
				}
				return
			}
			if err == nil || !tt.is(err) || err.Error() != tt.text {
				t.Fatalf("Find = %q, %v", id, err)
			}
		})
	}
}

func TestReserve(t *testing.T) {
	x := name.NewIndex()
	if _, ok := x.Reserve("web", "a"); !ok {
		t.Fatal("first reservation refused")
	}
	if holder, ok := x.Reserve("web", "b"); ok || holder != "a" {
		t.Fatalf("second reservation: %q %v", holder, ok)
	}
	x.Release("web", "b") // not the holder: nothing happens
	if _, ok := x.Reserve("web", "b"); ok {
		t.Fatal("released by a stranger")
	}
	x.Release("web", "a")
	if _, ok := x.Reserve("web", "b"); !ok {
		t.Fatal("not released")
	}
}

func TestRandom(t *testing.T) {
	for i := range 20 {
		if n := name.Random(i % 3); !name.Valid(n) || !strings.Contains(n, "_") {
			t.Fatalf("Random = %q", n)
		}
	}
}
