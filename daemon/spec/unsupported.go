package spec

import (
	"fmt"
	"slices"

	containertypes "github.com/docker/docker/api/types/container"
	networktypes "github.com/docker/docker/api/types/network"

	"gantry/api/errdefs"
)

// checkUnsupported refuses, by name, what this engine does not do yet. Nothing that a
// user asks for is dropped in silence.
func checkUnsupported(h *containertypes.HostConfig) error {
	switch {
	case h.Cgroup != "":
		return fmt.Errorf("invalid cgroup mode: %v", h.Cgroup)
	case h.UsernsMode != "" && !h.UsernsMode.IsHost():
		return fmt.Errorf("invalid user namespace mode: %v", h.UsernsMode)
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
func Unsupported(sec Security) (warnings []string) {
	if slices.ContainsFunc(sec.Labels, func(l string) bool { return l != "disable" }) {
		warnings = append(warnings, "SELinux is not supported by this engine. Security labels ignored.")
	}
	return warnings
}
