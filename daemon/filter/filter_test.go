package filter_test

import (
	"testing"
	"time"

	"github.com/docker/docker/api/types/filters"

	"gantry/api/errdefs"
	"gantry/daemon/filter"
)

func args(kv ...string) filters.Args {
	f := filters.NewArgs()
	for i := 0; i < len(kv); i += 2 {
		f.Add(kv[i], kv[i+1])
	}
	return f
}

func wantRefused(t *testing.T, err error, text string) {
	t.Helper()
	if !errdefs.IsInvalidArgument(err) || err.Error() != text {
		t.Errorf("got %v, want %q", err, text)
	}
}

func TestAccept(t *testing.T) {
	if err := filter.Accept(args("label", "a"), "label", "until"); err != nil {
		t.Error(err)
	}
	wantRefused(t, filter.Accept(args("colour", "red"), "label"), "invalid filter 'colour'")
}

func TestBool(t *testing.T) {
	for _, row := range []struct {
		f    filters.Args
		def  bool
		want bool
		bad  string
	}{
		{args(), true, true, ""},
		{args("dangling", "1"), false, true, ""},
		{args("dangling", "false"), true, false, ""},
		{args("dangling", "maybe"), false, false, "invalid filter 'dangling=[maybe]'"},
	} {
		got, err := filter.Bool(row.f, "dangling", row.def)
		if row.bad != "" {
			wantRefused(t, err, row.bad)
		} else if err != nil || got != row.want {
			t.Errorf("%v: %v %v", row.f.Get("dangling"), got, err)
		}
	}
}

func TestUntil(t *testing.T) {
	now := time.Unix(1700000000, 0)
	for name, row := range map[string]struct {
		value string
		want  time.Time
	}{
		"age":     {"10m", now.Add(-10 * time.Minute)},
		"seconds": {"1699999999.5", time.Unix(1699999999, 500000000)},
		"date":    {"2023-11-14T00:00:00Z", time.Date(2023, 11, 14, 0, 0, 0, 0, time.UTC)},
	} {
		got, err := filter.Until(args("until", row.value), now)
		if err != nil || !got.Equal(row.want) {
			t.Errorf("%s: %v %v, want %v", name, got, err, row.want)
		}
	}
	if got, err := filter.Until(args(), now); err != nil || !got.IsZero() {
		t.Errorf("absent: %v %v", got, err)
	}
	_, err := filter.Until(args("until", "1h", "until", "2h"), now)
	wantRefused(t, err, "more than one until filter specified")
	if _, err = filter.Until(args("until", "soon"), now); !errdefs.IsInvalidArgument(err) {
		t.Errorf("soon: %v", err)
	}
}

func TestLabels(t *testing.T) {
	has := map[string]string{"a": "1", "b": "2"}
	for _, row := range []struct {
		f    filters.Args
		want bool
	}{
		{args(), true},
		{args("label", "a"), true},
		{args("label", "a=1", "label", "b"), true},
		{args("label", "a=2"), false},
		{args("label!", "a"), false},
		{args("label!", "c"), true},
		{args("label!", "a=2"), true},
		{args("label", "a", "label!", "b=2"), false},
	} {
		if got := filter.Labels(row.f, has); got != row.want {
			t.Errorf("%v %v: %v", row.f.Get("label"), row.f.Get("label!"), got)
		}
	}
}

func TestName(t *testing.T) {
	for _, row := range []struct {
		f    filters.Args
		want bool
	}{
		{args(), true},
		{args("name", "web"), true},
		{args("name", "^/web$"), true},
		{args("name", "^web$"), true},
		{args("name", "^eb"), false},
		{args("name", "["), false},
	} {
		if got := filter.Name(row.f, "name", "/web"); got != row.want {
			t.Errorf("%v: %v", row.f.Get("name"), got)
		}
	}
}

// What comes over the wire must never panic.
func FuzzFilters(f *testing.F) {
	f.Add(`{"label":["a=b"],"until":["10m"],"name":["("]}`)
	f.Add(`{"label":{"a":true},"label!":{}}`)
	f.Add(`null`)
	f.Fuzz(func(t *testing.T, s string) {
		a, err := filters.FromJSON(s)
		if err != nil {
			return
		}
		_ = filter.Accept(a, "label", "until")
		_, _ = filter.Bool(a, "dangling", true)
		_, _ = filter.Until(a, time.Unix(1700000000, 0))
		filter.Labels(a, map[string]string{"a": "b"})
		filter.Name(a, "name", "/web")
	})
}
