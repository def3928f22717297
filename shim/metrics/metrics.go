// Package metrics packs a container's counters for the task API's Stats.
package metrics

import (
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
		m = s.V1
	case s != nil && s.V2 != nil:
		m = s.V2
	default:
		return nil, errdefs.NotImplemented("container has no cgroup to count in")
	}
	value, err := proto.Marshal(m)
	if err != nil {
		return nil, err
	}
	return &anypb.Any{TypeUrl: string(m.ProtoReflect().Descriptor().FullName()), Value: value}, nil
}
