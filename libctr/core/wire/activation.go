package wire

import (
	"github.com/containerd/containerd/api/types"

	"gantry/libctr/core/activation"
	"gantry/libctr/core/mount"
)

// Activation encodes an activation of mounts.
func Activation(a activation.Activation) *types.ActivationInfo {
	out := &types.ActivationInfo{Name: a.Name, System: Mounts(a.System), Labels: a.Labels}
	for _, m := range a.Active {
		out.Active = append(out.Active, &types.ActiveMount{
			Mount:      &types.Mount{Type: m.Type, Source: m.Source, Target: m.Target, Options: m.Options},
			MountedAt:  Timestamp(m.MountedAt),
			MountPoint: m.MountPoint,
			Data:       m.Data,
		})
	}
	return out
}

// FromActivation decodes an activation of mounts.
func FromActivation(a *types.ActivationInfo) activation.Activation {
	out := activation.Activation{Name: a.GetName(), System: FromMounts(a.GetSystem()), Labels: a.GetLabels()}
	for _, m := range a.GetActive() {
		out.Active = append(out.Active, activation.Mount{
			Mount: mount.Mount{Type: m.GetMount().GetType(), Source: m.GetMount().GetSource(),
				Target: m.GetMount().GetTarget(), Options: m.GetMount().GetOptions()},
			MountedAt:  Time(m.GetMountedAt()),
			MountPoint: m.GetMountPoint(),
			Data:       m.GetData(),
		})
	}
	return out
}
