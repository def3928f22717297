package bundle_test

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/runtime-spec/specs-go"

	"gantry/runtime/bundle"
)

// others are the fields of a spec that are for no Linux.
var others = map[string]bool{"Solaris": true, "Windows": true, "VM": true, "ZOS": true, "FreeBSD": true}

// TestAllFields pins that no field of a newer specification is forgotten: each one
// that is not for another system is read.
func TestAllFields(t *testing.T) {
	want := full(reflect.TypeFor[specs.Spec]())
	raw, err := json.Marshal(want.Interface())
	if err != nil {
		t.Fatal(err)
	}
	got, err := bundle.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	for i := range want.NumField() {
		field := want.Type().Field(i).Name
		if others[field] {
			continue
		}
		if g := reflect.ValueOf(*got).Field(i); !reflect.DeepEqual(g.Interface(), want.Field(i).Interface()) {
			t.Errorf("%s is %+v", field, g)
		}
	}
}

// full is a spec whose fields are all set, one level deep.
func full(t reflect.Type) reflect.Value {
	v := reflect.New(t).Elem()
	for i := range t.NumField() {
		switch f := v.Field(i); f.Kind() {
		case reflect.String:
			f.SetString("x")
		case reflect.Pointer:
			f.Set(reflect.New(f.Type().Elem()))
		case reflect.Slice:
			f.Set(reflect.MakeSlice(f.Type(), 1, 1))
		case reflect.Map:
			f.Set(reflect.ValueOf(map[string]string{"a": "b"}))
		}
	}
	return v
}

func TestRead(t *testing.T) {
	dir := t.TempDir()
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, bundle.ConfigName), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if _, _, err := bundle.Read(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("nothing there: %v", err)
	}
	const text = `{"ociVersion":"1.2.0","hostname":"box"}`
	write(text)
	spec, raw, err := bundle.Read(dir)
	if err != nil || spec.Hostname != "box" || string(raw) != text {
		t.Errorf("%+v, %q, %v", spec, raw, err)
	}
	for why, text := range map[string]string{
		"no JSON": "{", "too large": `{"hostname":"` + strings.Repeat("x", 10<<20) + `"}`,
	} {
		write(text)
		if _, _, err := bundle.Read(dir); !errors.Is(err, errdefs.ErrInvalidArgument) {
			t.Errorf("%s: %v", why, err)
		}
	}
}
