package filter_test

import (
	"strings"
	"testing"

	"github.com/containerd/containerd/v2/pkg/filters"
	"github.com/containerd/log"

	"gantry/libctr/filter"
)

// same holds one expression to what containerd's own parser makes of it.
func same(t *testing.T, expression string) {
	theirs, ref := filters.ParseAll(expression)
	ours, err := filter.Parse(expression)
	if (err == nil) != (ref == nil) || err != nil && err.Error() != ref.Error() {
		t.Errorf("%q:\n %v, want\n %v", expression, err, ref)
		return
	}
	if err != nil {
		return
	}
	// The fields know every path, or none, and answer with the path.
	for name, fields := range map[string]filter.Fields{
		"some": fields,
		"all":  func(path []string) (string, bool) { return strings.Join(path, "\x00"), true },
		"none": func([]string) (string, bool) { return "", false },
	} {
		if got, want := ours.Match(fields), theirs.Match(filters.AdapterFunc(fields)); got != want {
			t.Errorf("%q on %s: %v, want %v", expression, name, got, want)
		}
	}
}

// TestBeside makes expressions of every two, three and four pieces of those that mean
// something to the parser.
func TestBeside(t *testing.T) {
	quiet(t)
	pieces := []string{
		"name", "a", "==", "!=", "~=", "=", ".", ",", " ", `"`, `"web"`, "/", "/w/", "|", "|e|", `\`, `\x`, `\"`, `\n`, "ü", "\xff", "\x00", "\n", "(", "labels.a.b", "'",
		`"\u0077eb"`, `/\//`, `"\/"`, `/\d/`, `"\777"`, "\uFFFD", "\u00a0", "\u200b",
	}
	for _, a := range pieces {
		for _, b := range pieces {
			same(t, a+b)
			for _, c := range pieces {
				same(t, a+b+c)
				same(t, "name"+a+b+c)
				same(t, "name=="+a+b+c)
			}
		}
	}
}

// FuzzBeside: nothing tells the two parsers apart.
func FuzzBeside(f *testing.F) {
	quiet(f)
	for _, s := range []string{"name==web", `labels."a.b"~=/x\/y/,id`, `a!=|b|`, `x=="\xff"`, "a == b , c", `"q"`, "a~=(", "\xff"} {
		f.Add(s)
	}
	f.Fuzz(same)
}

// quiet keeps containerd's parser from logging every regular expression that is none.
func quiet(t testing.TB) {
	before := log.GetLevel()
	if err := log.SetLevel("panic"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = log.SetLevel(before.String()) })
}
