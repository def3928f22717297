package container

import (
	"context"
	"maps"
	"slices"
	"strings"

	containertypes "github.com/docker/docker/api/types/container"
	mounttypes "github.com/docker/docker/api/types/mount"

	"gantry/api/errdefs"
	"gantry/api/rest"
)

// dropNewer clears the fields that the request's API version does not know yet, or
// does not know any more, and fills in defaults that have changed since.
func dropNewer(ctx context.Context, c *containertypes.CreateRequest, cgroupV1 bool) {
	hc := c.HostConfig
	if !rest.AutoRemove.In(ctx) {
		hc.AutoRemove = false
	}
	if !rest.KernelMemoryTCP.In(ctx) {
		hc.KernelMemoryTCP = 0 //nolint:staticcheck // served to older versions
	}
	if !rest.IpcPrivate.In(ctx) && hc.IpcMode.IsEmpty() {
		hc.IpcMode = containertypes.IPCModeShareable
	}
	if !rest.CgroupnsDefault.In(ctx) && cgroupV1 && hc.CgroupnsMode.IsEmpty() {
		hc.CgroupnsMode = containertypes.CgroupnsModeHost
	}
	if !rest.ConsoleSize.In(ctx) {
		hc.ConsoleSize = [2]uint{}
	}
	if rest.NoKernelMemory.In(ctx) {
		hc.KernelMemory = 0 //nolint:staticcheck // served to older versions
	}
	if !rest.Annotations.In(ctx) {
		hc.Annotations = nil
	}
	if !rest.HealthStartInterval.In(ctx) && c.Healthcheck != nil {
		c.Healthcheck.StartInterval = 0
	}
	if !rest.GwPriority.In(ctx) {
		for _, ep := range c.NetworkingConfig.EndpointsConfig {
			ep.GwPriority = 0
		}
	}
	for i := range hc.Mounts {
		dropNewerMount(ctx, &hc.Mounts[i])
	}
}

func dropNewerMount(ctx context.Context, m *mounttypes.Mount) {
	if bo := m.BindOptions; bo != nil {
		if !rest.BindNonRecursive.In(ctx) {
			bo.NonRecursive = false
		}
		if !rest.BindCreateMountpoint.In(ctx) {
			bo.CreateMountpoint = false
		}
	}
	if rest.MountOptionsChecked.In(ctx) {
		return
	}
	if m.Type != mounttypes.TypeVolume {
		m.VolumeOptions = nil
	}
	if m.Type != mounttypes.TypeTmpfs {
		m.TmpfsOptions = nil
	}
}

// checkByVersion refuses what the request's API version does not offer, where
// dropping it in silence would do something else than was asked for.
func checkByVersion(ctx context.Context, c *containertypes.CreateRequest) error {
	mounts := c.HostConfig.Mounts
	if rest.MountOptionsChecked.In(ctx) {
		if err := checkMountOptions(mounts); err != nil {
			return err
		}
	}
	if !rest.ReadOnlyRecursive.In(ctx) {
		for _, m := range mounts {
			if m.Type == mounttypes.TypeBind && m.BindOptions != nil && m.BindOptions.ReadOnlyForceRecursive {
				return errdefs.InvalidArgument("BindOptions.ReadOnlyForceRecursive needs API v1.44 or newer")
			}
		}
	}
	if eps := c.NetworkingConfig.EndpointsConfig; !rest.SeveralEndpoints.In(ctx) && len(eps) > 1 {
		names := slices.Sorted(maps.Keys(eps))
		return errdefs.InvalidArgument("Container cannot be created with multiple network endpoints: %s", strings.Join(names, ", "))
	}
	if !rest.VolumeSubpath.In(ctx) {
		for _, m := range mounts {
			if m.VolumeOptions != nil && m.VolumeOptions.Subpath != "" {
				return errdefs.InvalidArgument("VolumeOptions.Subpath needs API v1.45 or newer")
			}
		}
	}
	if !rest.ImageMounts.In(ctx) {
		for _, m := range mounts {
			if m.Type == mounttypes.TypeImage {
				return errdefs.InvalidArgument(`Mount type "Image" needs API v1.48 or newer`)
			}
		}
	}
	return nil
}

func checkMountOptions(mounts []mounttypes.Mount) error {
	for _, m := range mounts {
		if m.VolumeOptions != nil && m.Type != mounttypes.TypeVolume {
			return errdefs.InvalidArgument("VolumeOptions must not be specified on mount type %q", m.Type)
		}
		if m.BindOptions != nil && m.Type != mounttypes.TypeBind {
			return errdefs.InvalidArgument("BindOptions must not be specified on mount type %q", m.Type)
		}
		if m.TmpfsOptions != nil && m.Type != mounttypes.TypeTmpfs {
			return errdefs.InvalidArgument("TmpfsOptions must not be specified on mount type %q", m.Type)
		}
	}
	return nil
}
