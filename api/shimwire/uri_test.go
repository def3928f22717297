package shimwire_test

import (
	"reflect"
	"testing"

	"gantry/api/shimwire"
)

func TestLogURI(t *testing.T) {
	for name, u := range map[string]shimwire.LogURI{
		"plain":   {Path: "/var/lib/x/ab-json.log", Socket: "/run/x/io/ab.sock"},
		"all":     {Path: "/l", Socket: "/s", Driver: "json-file", MaxSize: 10 << 20, MaxFile: 3, Attrs: map[string]string{"a": "b&c=d", "é": "\""}},
		"none":    {Socket: "/s", Driver: "none"},
		"strange": {Path: "/a b/%41?#&;=\n", Socket: "/s ?&#%2f"},
		"slashes": {Path: "//double/", Socket: "/s"},
	} {
		t.Run(name, func(t *testing.T) {
			s := u.String()
			if !shimwire.IsURI(s) {
				t.Errorf("IsURI(%q) is false", s)
			}
			got, err := shimwire.ParseLogURI(s)
			if err != nil {
				t.Fatalf("%q: %v", s, err)
			}
			if !reflect.DeepEqual(got, u) {
				t.Errorf("%q came back as %+v, want %+v", s, got, u)
			}
		})
	}
}

func TestLogURIRefuses(t *testing.T) {
	for _, s := range []string{
		"", "/a/path", "file:///a", "gantry-stream:///s", "gantry-log:///l", "gantry-log:///l?socket=rel",
		"gantry-log://host/l?socket=/s", "gantry-log:l?socket=/s", "gantry-log:///l?socket=/s&driver=gelf",
		"gantry-log:///l?socket=/s&max-size=-1", "gantry-log:///l?socket=/s&max-size=10m",
		"gantry-log:///l?socket=/s&max-file=99999999", "gantry-log:///l?socket=/s&attrs={",
		"gantry-log:?socket=/s",
	} {
		if u, err := shimwire.ParseLogURI(s); err == nil {
			t.Errorf("ParseLogURI(%q) = %+v, want an error", s, u)
		}
	}
}

func TestStreamURI(t *testing.T) {
	for _, socket := range []string{"/run/io/a.sock", "/a b/%41?#x"} {
		got, err := shimwire.ParseStreamURI(shimwire.StreamURI{Socket: socket}.String())
		if err != nil || got.Socket != socket {
			t.Errorf("%q came back as %q, %v", socket, got.Socket, err)
		}
	}
	for _, s := range []string{"", "gantry-stream:", "gantry-stream://host/s", "gantry-log:///s", "gantry-stream:x"} {
		if _, err := shimwire.ParseStreamURI(s); err == nil {
			t.Errorf("ParseStreamURI(%q) succeeded", s)
		}
	}
}
