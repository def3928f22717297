package container

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	containertypes "github.com/docker/docker/api/types/container"
	mounttypes "github.com/docker/docker/api/types/mount"
	networktypes "github.com/docker/docker/api/types/network"

	"gantry/api/errdefs"
	"gantry/api/rest"
)

// migrations move settings to where newer API versions have them, or say why not.
// Each returns a warning for the client, or "".
var migrations = []func(context.Context, *containertypes.CreateRequest) (string, error){
	warnVolumeDriver,
	moveMacAddress,
	moveSysctls,
}

func warnVolumeDriver(ctx context.Context, c *containertypes.CreateRequest) (string, error) {
	if c.HostConfig.VolumeDriver == "" || !rest.VolumeDriverWarning.In(ctx) {
		return "", nil
	}
	for _, m := range c.HostConfig.Mounts {
		o := m.VolumeOptions
		own := o != nil && o.DriverConfig != nil && o.DriverConfig.Name != ""
		if m.Type == mounttypes.TypeVolume && !own {
			return "WARNING: the container-wide volume-driver configuration is ignored for volumes specified via 'mount'. Use '--mount type=volume,volume-driver=...' instead", nil
		}
	}
	return "", nil
}

// moveMacAddress moves Config.MacAddress to the endpoint of the main network.
func moveMacAddress(ctx context.Context, c *containertypes.CreateRequest) (string, error) {
	mac, mode := c.MacAddress, c.HostConfig.NetworkMode //nolint:staticcheck // served to older versions
	ownNetwork := mode.IsBridge() || mode.IsUserDefined()
	if !rest.EndpointMacAddress.In(ctx) {
		if mac == "" {
			for _, ep := range c.NetworkingConfig.EndpointsConfig {
				ep.MacAddress = ""
			}
			return "", nil
		}
		if !ownNetwork {
			return "", errdefs.InvalidArgument("conflicting options: mac-address and the network mode")
		}
		ep, err := mainEndpoint(ctx, c)
		if err != nil {
			return "", err
		}
		ep.MacAddress = mac
		return "", nil
	}
	if mac == "" {
		return "", nil
	}
	if ownNetwork {
		ep, err := mainEndpoint(ctx, c)
		if err != nil {
			return "", fmt.Errorf("unable to migrate container-wide MAC address to a specific network: %w", err)
		}
		if ep.MacAddress != "" && ep.MacAddress != mac {
			return "", errdefs.InvalidArgument("the container-wide MAC address must match the endpoint-specific MAC address for the main network, or be left empty")
		}
		ep.MacAddress = mac
	}
	c.MacAddress = "" //nolint:staticcheck // see above
	return "The container-wide MacAddress field is now deprecated. It should be specified in EndpointsConfig instead.", nil
}

// endpointSysctls is the driver option that holds the sysctls of one interface, a
// comma-separated list with IFNAME for its name.
const endpointSysctls = "com.docker.network.endpoint.sysctls"

// moveSysctls moves net.*.*.eth0.* to the driver options of the main endpoint: they
// can be set only once the interface exists. Newer versions refuse instead.
func moveSysctls(ctx context.Context, c *containertypes.CreateRequest) (string, error) {
	if !c.HostConfig.NetworkMode.IsPrivate() {
		return "", nil
	}
	var moved, values []string
	for _, key := range slices.Sorted(maps.Keys(c.HostConfig.Sysctls)) {
		p := strings.SplitN(key, ".", 5)
		if len(p) != 5 || p[0] != "net" || !strings.HasPrefix(p[3], "eth") {
			continue
		}
		if rest.SysctlNotMoved.In(ctx) {
			return "", errdefs.InvalidArgument("interface specific sysctl setting %q must be supplied using driver option '%s'", key, endpointSysctls)
		}
		if p[3] != "eth0" {
			return "", errdefs.InvalidArgument("unable to determine network endpoint for sysctl %s, use driver option '%s' to set per-interface sysctls", key, endpointSysctls)
		}
		moved = append(moved, key)
		values = append(values, fmt.Sprintf("net.%s.%s.IFNAME.%s=%s", p[1], p[2], p[4], c.HostConfig.Sysctls[key]))
	}
	if len(moved) == 0 {
		return "", nil
	}
	ep, err := mainEndpoint(ctx, c)
	if err != nil {
		return "", fmt.Errorf("unable to find a network for sysctl %s: %w", moved[0], err)
	}
	option := strings.Join(values, ",")
	warning := fmt.Sprintf("Migrated sysctl %q to DriverOpts{%q:%q}.", strings.Join(moved, ","), endpointSysctls, option)
	if own, ok := ep.DriverOpts[endpointSysctls]; ok {
		option += "," + own // the endpoint's own come last and win
	}
	if ep.DriverOpts == nil {
		ep.DriverOpts = map[string]string{}
	}
	ep.DriverOpts[endpointSysctls] = option
	for _, key := range moved {
		delete(c.HostConfig.Sysctls, key)
	}
	return warning, nil
}

// mainEndpoint finds or makes the endpoint of the network that NetworkMode names.
// Endpoints under other names may be the same network under its id, so with those
// there nothing is made.
func mainEndpoint(ctx context.Context, c *containertypes.CreateRequest) (*networktypes.EndpointSettings, error) {
	name, eps := c.HostConfig.NetworkMode.NetworkName(), c.NetworkingConfig.EndpointsConfig
	if len(eps) == 0 {
		ep := &networktypes.EndpointSettings{}
		eps[name] = ep
		return ep, nil
	}
	if !rest.SeveralEndpoints.In(ctx) {
		for _, ep := range eps {
			return ep, nil // there is one, and these versions do not look at its name
		}
	}
	ep, ok := eps[name]
	if !ok {
		return nil, errdefs.InvalidArgument("HostConfig.NetworkMode must match the identity of a network in NetworkSettings.Networks")
	}
	return ep, nil
}
