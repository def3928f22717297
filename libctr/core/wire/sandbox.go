package wire

import (
	"github.com/containerd/containerd/api/types"

	"gantry/libctr/core/sandbox"
)

// Sandbox encodes a sandbox record.
func Sandbox(s sandbox.Sandbox) *types.Sandbox {
	return &types.Sandbox{
		SandboxID:  s.ID,
		Runtime:    &types.Sandbox_Runtime{Name: s.Runtime.Name, Options: Any(s.Runtime.Options)},
		Spec:       Any(s.Spec),
		Labels:     s.Labels,
		CreatedAt:  Timestamp(s.CreatedAt),
		UpdatedAt:  Timestamp(s.UpdatedAt),
		Extensions: anys(s.Extensions),
		Sandboxer:  s.Sandboxer,
	}
}

// FromSandbox decodes a sandbox record.
func FromSandbox(s *types.Sandbox) sandbox.Sandbox {
	return sandbox.Sandbox{
		ID:         s.GetSandboxID(),
		Runtime:    sandbox.Runtime{Name: s.GetRuntime().GetName(), Options: FromAny(s.GetRuntime().GetOptions())},
		Spec:       FromAny(s.GetSpec()),
		Labels:     s.GetLabels(),
		CreatedAt:  Time(s.GetCreatedAt()),
		UpdatedAt:  Time(s.GetUpdatedAt()),
		Extensions: fromAnys(s.GetExtensions()),
		Sandboxer:  s.GetSandboxer(),
	}
}
