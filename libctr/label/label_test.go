package label_test

import (
	"errors"
	"maps"
	"strings"
	"testing"

	"gantry/api/errdefs"
	"gantry/libctr/label"
)

func TestUpdate(t *testing.T) {
	old := map[string]string{"a": "1", "b.c": "2"}
	for _, tc := range []struct {
		name  string
		new   map[string]string
		paths []string
		want  map[string]string
	}{
		{"all", map[string]string{"n": "1", "e": ""}, nil, map[string]string{"n": "1"}},
		{"all by name", nil, []string{"labels"}, nil},
		{"one", map[string]string{"a": "3", "x": "not named"}, []string{"labels.a"}, map[string]string{"a": "3", "b.c": "2"}},
		{"one with dots", map[string]string{"b.c": "3"}, []string{"labels.b.c"}, map[string]string{"a": "1", "b.c": "3"}},
		{"remove one", map[string]string{"a": ""}, []string{"labels.a"}, map[string]string{"b.c": "2"}},
		{"remove one that is not there", nil, []string{"labels.z"}, old},
	} {
		got, err := label.Update(old, tc.new, tc.paths...)
		if err != nil || !maps.Equal(got, tc.want) {
			t.Errorf("%s: %v, %v; want %v", tc.name, got, err, tc.want)
		}
	}
	if !maps.Equal(old, map[string]string{"a": "1", "b.c": "2"}) {
		t.Errorf("the old labels are changed: %v", old)
	}
	if _, err := label.Update(old, nil, "image"); !errors.Is(err, errdefs.ErrInvalidArgument) {
		t.Errorf("another field: %v", err)
	}
}

func TestValidate(t *testing.T) {
	if err := label.Validate(map[string]string{"key": strings.Repeat("x", 4093)}); err != nil {
		t.Errorf("4096 bytes: %v", err)
	}
	if err := label.Validate(map[string]string{"key": strings.Repeat("x", 4094)}); !errors.Is(err, errdefs.ErrInvalidArgument) {
		t.Errorf("4097 bytes: %v", err)
	}
}
