package metrics_test

import (
	"fmt"
	"maps"
	"reflect"
	"strings"
	"testing"

	v1 "github.com/containerd/cgroups/v3/cgroup1/stats"
	v2 "github.com/containerd/cgroups/v3/cgroup2/stats"
	"google.golang.org/protobuf/proto"

	"gantry/api/errdefs"
	"gantry/runtime/cgroup"
	"gantry/shim/metrics"
)

func TestAny(t *testing.T) {
	for want, s := range map[string]*cgroup.Stats{
		"io.containerd.cgroups.v1.Metrics": {V1: &cgroup.StatsV1{}},
		"io.containerd.cgroups.v2.Metrics": {V2: &cgroup.StatsV2{}},
	} {
		if got, err := metrics.Any(s); err != nil || got.TypeUrl != want {
			t.Errorf("got %v, %v, want %s", got, err, want)
		}
	}
	for _, s := range []*cgroup.Stats{nil, {}} {
		if _, err := metrics.Any(s); !errdefs.IsNotImplemented(err) {
			t.Errorf("no counters: %v", err)
		}
	}
}

// TestWhole: each counter arrives under its name, and fills each field of the message but
// those that are never counted; what is not counted is not told.
func TestWhole(t *testing.T) {
	one, two := &cgroup.StatsV1{}, &cgroup.StatsV2{}
	t.Run("v1", func(t *testing.T) {
		whole(t, &cgroup.Stats{V1: one}, one, &v1.Metrics{}, &v1.Metrics{})
	})
	t.Run("v2", func(t *testing.T) {
		whole(t, &cgroup.Stats{V2: two}, two, &v2.Metrics{}, &v2.Metrics{})
	})
}

func whole(t *testing.T, s *cgroup.Stats, counters any, got, full proto.Message) {
	for _, fill := range []bool{false, true} {
		if fill {
			number(reflect.ValueOf(counters).Elem(), new(uint64))
		}
		packed, err := metrics.Any(s)
		if err != nil {
			t.Fatal(err)
		}
		if err := proto.Unmarshal(packed.Value, got); err != nil {
			t.Fatal(err)
		}
		if want, got := leaves(counters), leaves(got); !maps.Equal(want, got) {
			t.Errorf("got %v, want %v", got, want)
		}
	}
	number(reflect.ValueOf(full).Elem(), new(uint64))
	told := leaves(got)
	for path := range leaves(full) {
		switch _, ok := told[path]; {
		case ok, strings.HasPrefix(path, "/Network/"), strings.HasPrefix(path, "/CgroupStats/"):
		case strings.HasPrefix(path, "/Blkio/") && strings.HasSuffix(path, "/Device"):
		default:
			t.Errorf("%s is not told", path)
		}
	}
}

// number gives each field of v, and two elements of each list, a value of its own.
func number(v reflect.Value, n *uint64) {
	*n++
	switch v.Kind() {
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		number(v.Elem(), n)
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		number(v.Index(0), n)
		number(v.Index(1), n)
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() {
				number(v.Field(i), n)
			}
		}
	case reflect.String:
		v.SetString(fmt.Sprint("s", *n))
	case reflect.Float64:
		v.SetFloat(float64(*n) / 4)
	default:
		v.SetUint(*n)
	}
}

// leaves are the fields that are not zero, by their paths.
func leaves(of any) map[string]any {
	all := map[string]any{}
	collect(reflect.ValueOf(of), "", all)
	return all
}

func collect(v reflect.Value, path string, into map[string]any) {
	switch v.Kind() {
	case reflect.Pointer:
		collect(v.Elem(), path, into)
	case reflect.Slice:
		for i := range v.Len() {
			collect(v.Index(i), fmt.Sprint(path, "/", i), into)
		}
	case reflect.Struct:
		for i := range v.NumField() {
			if f := v.Type().Field(i); f.IsExported() {
				collect(v.Field(i), path+"/"+f.Name, into)
			}
		}
	case reflect.Invalid:
	default:
		if !v.IsZero() {
			into[path] = v.Interface()
		}
	}
}
