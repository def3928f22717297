// Package metrics packs a container's counters for the task API's Stats.
package metrics

import (
	"fmt"
	"reflect"

	v1 "github.com/containerd/cgroups/v3/cgroup1/stats"
	v2 "github.com/containerd/cgroups/v3/cgroup2/stats"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"gantry/api/errdefs"
	"gantry/runtime/cgroup"
)

// Any returns s as containerd's clients expect it: io.containerd.cgroups.v1.Metrics
// or v2, under the bare name of the type.
func Any(s *cgroup.Stats) (*anypb.Any, error) {
	var m proto.Message
	switch {
	case s != nil && s.V1 != nil:
		m = fill(&v1.Metrics{}, s.V1)
	case s != nil && s.V2 != nil:
		m = fill(&v2.Metrics{}, s.V2)
	default:
		return nil, errdefs.NotImplemented("container has no cgroup to count in")
	}
	value, err := proto.Marshal(m)
	if err != nil {
		return nil, err
	}
	return &anypb.Any{TypeUrl: string(m.ProtoReflect().Descriptor().FullName()), Value: value}, nil
}

func fill[M proto.Message](m M, stats any) M {
	copyTo(reflect.ValueOf(m), reflect.ValueOf(stats))
	return m
}

// copyTo fills a message with the fields of the same names of counters. What those
// hold in place, a message points to. It panics on a field that a message lacks, of
// which there is none.
func copyTo(to, from reflect.Value) {
	switch {
	case from.Kind() == reflect.Pointer:
		if !from.IsNil() {
			copyTo(to, from.Elem())
		}
	case to.Kind() == reflect.Pointer:
		if to.IsNil() {
			to.Set(reflect.New(to.Type().Elem()))
		}
		copyTo(to.Elem(), from)
	case from.Kind() == reflect.Struct:
		for i := range from.NumField() {
			name := from.Type().Field(i).Name
			field := to.FieldByName(name)
			if !field.IsValid() {
				panic(fmt.Sprintf("%s has no %s", to.Type(), name))
			}
			copyTo(field, from.Field(i))
		}
	case from.Kind() == reflect.Slice && from.Type() != to.Type():
		for i := range from.Len() {
			to.Set(reflect.Append(to, reflect.Zero(to.Type().Elem())))
			copyTo(to.Index(i), from.Index(i))
		}
	default:
		to.Set(from)
	}
}
