package filter_test

import (
	"errors"
	"strings"
	"testing"

	"gantry/api/errdefs"
	"gantry/libctr/filter"
)

func fields(path []string) (string, bool) {
	switch path[0] {
	case "name":
		return "web", true
	case "topic":
		return "/tasks/exit", true
	case "labels":
		return filter.Label(map[string]string{"a.b": "c", "tier": "front end", "empty": ""}, path[1:])
	}
	return "", false
}

func TestMatch(t *testing.T) {
	for _, tc := range []struct {
		name    string
		filters []string
		want    bool
	}{
		{"none", nil, true},
		{"equal", []string{"name==web"}, true},
		{"equal fails", []string{"name==db"}, false},
		{"equal quoted", []string{`topic=="/tasks/exit"`}, true},
		{"label quoted", []string{`labels."a.b"==c`}, true},
		{"label with dots", []string{`labels.a.b==c`}, true},
		{"label present", []string{`labels.tier`}, true},
		{"empty label is present", []string{`labels.empty`}, true},
		{"label absent", []string{`labels.nope`}, false},
		{"label with space", []string{`labels.tier=="front end"`}, true},
		{"not equal", []string{"name!=db"}, true},
		{"not equal fails", []string{"name!=web"}, false},
		{"not equal of an absent field", []string{"nope!=x"}, true},
		{"equal of an absent field", []string{`nope==""`}, false},
		{"regexp plain", []string{`name~=^w`}, true},
		{"regexp slashes", []string{`topic~=/exit$/`}, true},
		{"regexp slash escaped", []string{`topic~=/\/exit/`}, true},
		{"regexp bars", []string{`topic~=|^/tasks/|`}, true},
		{"regexp of an absent field", []string{`nope~=x*`}, true},
		{"regexp of an absent field fails", []string{`nope~=x`}, false},
		{"regexp that is none", []string{`name~=(`}, false},
		{"and", []string{"name==web,labels.tier"}, true},
		{"and fails", []string{"name==web,labels.nope"}, false},
		{"and with space", []string{" name == web, labels.tier"}, true},
		{"or", []string{"name==db", "name==web"}, true},
		{"empty is none", []string{""}, true},
		{"or empty", []string{"name==db", ""}, true},
		{"or fails", []string{"name==db", "name==cache"}, false},
		{"unicode escape", []string{`name=="\u0077eb"`}, true},
		{"value with equals signs", []string{"name!=a==b"}, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f, err := filter.Parse(tc.filters...)
			if err != nil {
				t.Fatal(err)
			}
			if got := f.Match(fields); got != tc.want {
				t.Errorf("%q matches: %v, want %v", tc.filters, got, tc.want)
			}
		})
	}
}

func TestParseErrors(t *testing.T) {
	for _, bad := range []string{
		" ", ",", "name==", "name=web", "name===web", "==x", "name==web,", "name.", ".name", "name==a b",
		`name=="web`, `name==/x/`, `name==web ,id`, `name~=.*`, "na\x00me", "na\xffme", "näme", `name=="\q"`, "name<x",
		strings.Repeat("a", 70<<10),
	} {
		if _, err := filter.Parse(bad); !errors.Is(err, errdefs.ErrInvalidArgument) {
			t.Errorf("%.40q: %v, want InvalidArgument", bad, err)
		}
	}
}

// FuzzParse: what parses can be applied; nothing panics.
func FuzzParse(f *testing.F) {
	for _, s := range []string{"name==web", `labels."a.b"~=/x\/y/,id`, `a!=|b|`, `x=="\xff"`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if parsed, err := filter.Parse(s); err == nil {
			parsed.Match(fields)
		}
	})
}
