package spec

import (
	"encoding/json"
	"fmt"

	"github.com/containerd/typeurl/v2"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"google.golang.org/protobuf/types/known/anypb"
)

// The names under which containerd's clients send values of the runtime specification,
// as JSON.
const urlPrefix = "types.containerd.io/opencontainers/runtime-spec/1/"

// Any wraps a *specs.Spec, *specs.Process or *specs.LinuxResources for the core.
func Any(v any) (typeurl.Any, error) {
	var name string
	switch v.(type) {
	case *specs.Spec:
		name = "Spec"
	case *specs.Process:
		name = "Process"
	case *specs.LinuxResources:
		name = "LinuxResources"
	default:
		return nil, fmt.Errorf("wrap %T for the core: unknown type", v)
	}
	raw, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("wrap %s for the core: %w", name, err)
	}
	return &anypb.Any{TypeUrl: urlPrefix + name, Value: raw}, nil
}
