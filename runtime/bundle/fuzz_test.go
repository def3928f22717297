package bundle_test

import (
	"encoding/json"
	"errors"
	"reflect"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/runtime-spec/specs-go"

	"gantry/runtime/bundle"
)

// FuzzParse: any bytes are an error of its class, or a specification that reads as the
// published types read it.
func FuzzParse(f *testing.F) {
	f.Add([]byte(`{"ociVersion":"1.3.0","process":{"args":["a"],"rlimits":[{"type":"x","hard":18446744073709551615}]},"linux":{"namespaces":[{"type":"pid"}]}}`))
	f.Add([]byte(`{"linux":{"resources":{"unified":{"a":"b"}}},"solaris":{},"hooks":{"poststop":[{"timeout":0}]}}`))
	f.Add([]byte(`{"process":null,"Process":{"cwd":"/"},"PROCESS":{"cwd":"/b"}}`))
	f.Add([]byte(`[1e999]`))
	f.Fuzz(func(t *testing.T, b []byte) {
		got, err := bundle.Parse(b)
		if err != nil {
			if !errors.Is(err, errdefs.ErrInvalidArgument) {
				t.Errorf("class of %v", err)
			}
			return
		}
		var want specs.Spec
		if json.Unmarshal(b, &want) != nil {
			return // wrong in what is for other systems
		}
		want.Solaris, want.Windows, want.VM, want.ZOS, want.FreeBSD = nil, nil, nil, nil, nil
		if !reflect.DeepEqual(*got, want) {
			t.Errorf("%+v, want %+v", got, want)
		}
	})
}
