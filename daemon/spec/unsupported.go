package spec

import (
	"fmt"
	"slices"

	containertypes "github.com/docker/docker/api/types/container"
	mounttypes "github.com/docker/docker/api/types/mount"
	networktypes "github.com/docker/docker/api/types/network"

	"gantry/api/errdefs"
)

// checkUnsupported refuses, by name, what this engine does not do yet. Nothing that a
// user asks for is dropped in silence.
func checkUnsupported(h *containertypes.HostConfig) error {
	image := slices.ContainsFunc(h.Mounts, func(m mounttypes.Mount) bool { return m.Type == mounttypes.TypeImage })
	subpath := slices.ContainsFunc(h.Mounts, func(m mounttypes.Mount) bool {
		return m.VolumeOptions != nil && m.VolumeOptions.Subpath != ""
	})
	switch {
	case len(h.Links) > 0:
		return notYet("HostConfig.Links")
	case len(h.DeviceRequests) > 0:
		r := h.DeviceRequests[0]
		return fmt.Errorf("could not select device driver %q with capabilities: %v", r.Driver, r.Capabilities)
	case len(h.StorageOpt) > 0:
		return notYet("HostConfig.StorageOpt")
	case h.Cgroup != "":
		return fmt.Errorf("invalid cgroup mode: %v", h.Cgroup)
	case h.UsernsMode != "" && !h.UsernsMode.IsHost():
		return fmt.Errorf("invalid user namespace mode: %v", h.UsernsMode)
	case subpath:
		return notYet("VolumeOptions.Subpath")
	case image:
		return notYet("HostConfig.Mounts of type image")
	}
	for _, r := range h.DeviceCgroupRules {
		if _, err := ParseDeviceRule(r); err != nil {
			return err
		}
	}
	return nil
}

// CheckEndpoint refuses what this engine does not do yet at a container's end of a
// network.
func CheckEndpoint(e *networktypes.EndpointSettings) error {
	switch {
	case len(e.Links) > 0:
		return notYet("EndpointSettings.Links")
	case e.IPAMConfig != nil && len(e.IPAMConfig.LinkLocalIPs) > 0:
		return notYet("EndpointSettings.IPAMConfig.LinkLocalIPs")
	}
	for _, k := range []string{"com.docker.network.endpoint.ifname", "com.docker.network.endpoint.sysctls"} {
		if _, asked := e.DriverOpts[k]; asked {
			return notYet("driver option " + k)
		}
	}
	return nil
}

func notYet(field string) error {
	return errdefs.NotImplemented("%s is not supported by this engine yet", field)
}

// Unsupported warns about what the merged configuration asks for and nobody does: an
// image may bring it along, so it is no reason to refuse the container.
func Unsupported(c *containertypes.Config, sec Security) (warnings []string) {
	if h := c.Healthcheck; h != nil && len(h.Test) > 0 && h.Test[0] != "NONE" {
		warnings = append(warnings, "Health checks are not supported by this engine yet. Healthcheck ignored.")
	}
	if slices.ContainsFunc(sec.Labels, func(l string) bool { return l != "disable" }) {
		warnings = append(warnings, "SELinux is not supported by this engine. Security labels ignored.")
	}
	return warnings
}
