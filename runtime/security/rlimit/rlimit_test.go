package rlimit

import (
	"errors"
	"reflect"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

func TestParse(t *testing.T) {
	got, err := parse([]specs.POSIXRlimit{{Type: "RLIMIT_NOFILE", Soft: 10, Hard: 20}, {Type: "RLIMIT_CORE", Soft: Infinity, Hard: Infinity}})
	want := []Limit{{"RLIMIT_NOFILE", unix.RLIMIT_NOFILE, 10, 20}, {"RLIMIT_CORE", unix.RLIMIT_CORE, Infinity, Infinity}}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Fatal(got, err)
	}
	for text, in := range map[string][]specs.POSIXRlimit{
		`rlimit "nofile" is unknown`:                     {{Type: "nofile"}},
		"RLIMIT_CPU is given twice":                      {{Type: "RLIMIT_CPU"}, {Type: "RLIMIT_CPU"}},
		"soft limit unlimited is above the hard limit 5": {{Type: "RLIMIT_CPU", Soft: Infinity, Hard: 5}},
	} {
		if _, err := parse(in); err == nil || !strings.Contains(err.Error(), text) || !errors.Is(err, errdefs.ErrInvalidArgument) {
			t.Errorf("want %q, got %v", text, err)
		}
	}
}

func TestClamp(t *testing.T) {
	ls := []Limit{{Name: "A", Resource: 1, Soft: 5, Hard: 100}, {Name: "B", Resource: 2, Soft: 70, Hard: Infinity}, {Name: "C", Resource: 3, Soft: 1, Hard: Infinity}}
	warns := clamp(ls, map[int]uint64{1: 100, 2: 50})
	want := []Limit{{Name: "A", Resource: 1, Soft: 5, Hard: 100}, {Name: "B", Resource: 2, Soft: 50, Hard: 50}, {Name: "C", Resource: 3, Soft: 1, Hard: Infinity}}
	if !reflect.DeepEqual(ls, want) || !reflect.DeepEqual(warns, []string{"B: hard limit unlimited can't be had here: 50 instead"}) {
		t.Fatal(ls, warns)
	}
}

// TestKernelTakesThem sets what Clamped gives on this very process, at its own
// hard limits and above, so that nothing changes where it may not.
func TestKernelTakesThem(t *testing.T) {
	for name, n := range resources {
		var was unix.Rlimit
		if err := unix.Prlimit(0, n, nil, &was); err != nil {
			t.Fatal(err)
		}
		if was.Max == Infinity {
			continue // nothing above it to ask for
		}
		ls, _, err := Clamped([]specs.POSIXRlimit{{Type: name, Soft: was.Cur, Hard: Infinity}})
		if err != nil || len(ls) != 1 {
			t.Fatal(ls, err)
		}
		if err := unix.Prlimit(0, n, &unix.Rlimit{Cur: ls[0].Soft, Max: ls[0].Hard}, nil); err != nil {
			t.Errorf("%s: kernel refuses %+v: %v", name, ls[0], err)
		}
		if err := unix.Prlimit(0, n, &was, nil); err != nil {
			t.Errorf("%s: restore: %v", name, err)
		}
	}
}
