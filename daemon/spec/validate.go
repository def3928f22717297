package spec

import (
	"errors"
	"fmt"
	"net/netip"
	"path"
	"slices"
	"strings"

	containertypes "github.com/docker/docker/api/types/container"
	mounttypes "github.com/docker/docker/api/types/mount"
	"github.com/docker/go-connections/nat"
	"github.com/moby/sys/signal"

	"gantry/daemon/host"
	"gantry/daemon/mountpoint"
)

// Machine is what the checks need to know of the machine and the daemon.
type Machine struct {
	Host          host.Features
	SystemdCgroup bool
	Remapped      bool // containers have user namespaces of their own, but for UsernsMode host
	// DefaultRuntime stands in for an empty Runtime; Runtime says whether a name is known.
	DefaultRuntime string
	Runtime        func(name string) bool
	// Exists says whether a host path is there.
	Exists func(path string) (bool, error)
}

// Validate checks a container's settings and drops, with a warning each, what this
// machine can't do. It returns the first error; the order is dockerd's. c is nil where
// only the host's side is looked at again (start, update). Both are changed in place:
// names are cleaned and unsupported fields zeroed.
func Validate(c *containertypes.Config, h *containertypes.HostConfig, env Machine, update bool) (warnings []string, err error) {
	if c != nil {
		if err := checkCombined(c, h, env.Host); err != nil {
			return nil, err
		}
		if err := checkConfig(c); err != nil {
			return nil, err
		}
	}
	if err := checkUnsupported(h); err != nil {
		return nil, err
	}
	warnings, err = checkHostConfig(h, env)
	if err != nil {
		return warnings, err
	}
	w, err := CheckResources(&h.Resources, env.Host, update)
	if warnings = append(warnings, w...); err != nil {
		return warnings, err
	}
	w, err = checkPlatform(h, env)
	if warnings = append(warnings, w...); err != nil {
		return warnings, err
	}
	if slices.Contains(h.GroupAdd, "") {
		return warnings, errors.New("invalid additional group: the name is empty")
	}
	return warnings, checkUlimits(h.Ulimits)
}

// checkCombined holds the rules over both halves, which dockerd applies first of all.
func checkCombined(c *containertypes.Config, h *containertypes.HostConfig, f host.Features) error {
	if err := checkContainerNetwork(c, h); err != nil {
		return err
	}
	switch {
	case h.UTSMode.IsHost() && c.Hostname != "":
		return errors.New("conflicting options: hostname and the UTS mode")
	case h.NetworkMode.IsHost() && len(h.Links) > 0:
		return errors.New("conflicting options: host type networking can't be used with links. This would result in undefined behavior")
	case !h.Isolation.IsValid():
		return fmt.Errorf("invalid isolation (%s): linux only supports 'default'", h.Isolation)
	case h.IOMaximumBandwidth != 0:
		return errors.New("invalid option: QoS maximum bandwidth configuration is not supported on linux")
	case h.IOMaximumIOps != 0:
		return errors.New("invalid option: QoS maximum IOPs configuration is not supported on linux")
	case (h.CPURealtimePeriod != 0 || h.CPURealtimeRuntime != 0) && !f.CPURealtime:
		return errors.New("kernel does not support CPU real-time scheduler")
	case h.CPURealtimePeriod != 0 && h.CPURealtimeRuntime > h.CPURealtimePeriod:
		return errors.New("cpu real-time runtime cannot be higher than cpu real-time period")
	case h.CPUShares < 0 && f.CPUShares:
		return fmt.Errorf("invalid CPU shares (%d): value must be a positive integer", h.CPUShares)
	}
	return nil
}

func checkContainerNetwork(c *containertypes.Config, h *containertypes.HostConfig) error {
	if h.NetworkMode != "container" && !h.NetworkMode.IsContainer() {
		return nil
	}
	switch {
	case h.NetworkMode.ConnectedContainer() == "":
		return errors.New("invalid network mode: invalid container format container:<name|id>")
	case c.Hostname != "":
		return errors.New("conflicting options: hostname and the network mode")
	case len(h.Links) > 0:
		return errors.New("conflicting options: container type network can't be used with links. This would result in undefined behavior")
	case len(h.DNS) > 0:
		return errors.New("conflicting options: dns and the network mode")
	case len(h.ExtraHosts) > 0:
		return errors.New("conflicting options: custom host-to-IP mapping and the network mode")
	case len(h.PortBindings) > 0 || h.PublishAllPorts:
		return errors.New("conflicting options: port publishing and the container type network mode")
	case len(c.ExposedPorts) > 0:
		return errors.New("conflicting options: port exposing and the container type network mode")
	}
	return nil
}

func checkConfig(c *containertypes.Config) error {
	if c.WorkingDir != "" {
		if !path.IsAbs(c.WorkingDir) {
			return fmt.Errorf("the working directory '%s' is invalid, it needs to be an absolute path", c.WorkingDir)
		}
		c.WorkingDir = path.Clean(c.WorkingDir)
	}
	if c.StopSignal != "" {
		if _, err := signal.ParseSignal(c.StopSignal); err != nil {
			return err
		}
	}
	for _, e := range c.Env {
		if k, _, _ := strings.Cut(e, "="); k == "" {
			return errors.New("invalid environment variable: " + e)
		}
	}
	if err := checkHealth(c.Healthcheck); err != nil {
		return err
	}
	return checkExposed(c.ExposedPorts)
}

func checkExposed(ports nat.PortSet) error {
	for p := range ports {
		proto, number := nat.SplitProtoPort(string(p))
		_, _, err := nat.ParsePortRange(number)
		if err != nil || !slices.Contains([]string{"tcp", "udp", "sctp"}, strings.ToLower(proto)) {
			return fmt.Errorf("invalid port specification: %q", string(p))
		}
	}
	return nil
}

// checkUlimits refuses what no runtime could set; dockerd leaves that to its runtime.
func checkUlimits(limits []*containertypes.Ulimit) error {
	for _, u := range limits {
		if u == nil {
			return errors.New("invalid ulimit: null")
		}
		if _, err := u.GetRlimit(); err != nil {
			return err
		}
		switch {
		case u.Hard == -1 || u.Soft <= u.Hard && u.Soft != -1:
		case u.Soft == -1:
			return fmt.Errorf("ulimit soft limit must be less than or equal to hard limit: soft: -1 (unlimited), hard: %d", u.Hard)
		default:
			return fmt.Errorf("ulimit soft limit must be less than or equal to hard limit: %d > %d", u.Soft, u.Hard)
		}
	}
	return nil
}

func checkHealth(h *containertypes.HealthConfig) error {
	if h == nil {
		return nil
	}
	const shortest = containertypes.MinimumDuration
	switch {
	case h.Interval != 0 && h.Interval < shortest:
		return fmt.Errorf("Interval in Healthcheck cannot be less than %s", shortest) //nolint:staticcheck // Docker's words, as below
	case h.Timeout != 0 && h.Timeout < shortest:
		return fmt.Errorf("Timeout in Healthcheck cannot be less than %s", shortest) //nolint:staticcheck
	case h.Retries < 0:
		return errors.New("Retries in Healthcheck cannot be negative") //nolint:staticcheck
	case h.StartPeriod != 0 && h.StartPeriod < shortest:
		return fmt.Errorf("StartPeriod in Healthcheck cannot be less than %s", shortest) //nolint:staticcheck
	case h.StartInterval != 0 && h.StartInterval < shortest:
		return fmt.Errorf("StartInterval in Healthcheck cannot be less than %s", shortest) //nolint:staticcheck
	}
	return nil
}

func checkHostConfig(h *containertypes.HostConfig, env Machine) (warnings []string, err error) {
	if h.AutoRemove && !h.RestartPolicy.IsNone() && h.RestartPolicy.Name != "" {
		return nil, errors.New("can't create 'AutoRemove' container with restart policy")
	}
	for _, m := range h.Mounts {
		if m.Type == mounttypes.TypeImage {
			warnings = append(warnings, "Image mount is an experimental feature")
		}
		if err := mountpoint.Check(&m, env.Exists); err != nil {
			return warnings, err
		}
	}
	for _, e := range h.ExtraHosts {
		if err := checkExtraHost(e); err != nil {
			return warnings, err
		}
	}
	for _, a := range h.DNS {
		if _, err := netip.ParseAddr(a); err != nil {
			return warnings, fmt.Errorf("bad nameserver address %s: %w", a, err)
		}
	}
	if err := checkPorts(h.PortBindings); err != nil {
		return warnings, err
	}
	if err := containertypes.ValidateRestartPolicy(h.RestartPolicy); err != nil {
		return warnings, err
	}
	if _, err := normalCaps(h.CapAdd, env.Host); err != nil {
		return warnings, fmt.Errorf("invalid CapAdd: %w", err)
	}
	if _, err := normalCaps(h.CapDrop, droppable(env.Host)); err != nil {
		return warnings, fmt.Errorf("invalid CapDrop: %w", err)
	}
	if !h.Isolation.IsValid() {
		return warnings, fmt.Errorf("invalid isolation '%s' on linux", h.Isolation)
	}
	if _, ok := h.Annotations[""]; ok {
		return warnings, errors.New("invalid Annotations: the empty string is not permitted as an annotation key")
	}
	return warnings, nil
}

// droppable lets a capability be dropped that the daemon does not have itself.
func droppable(f host.Features) host.Features {
	f.Caps = f.KnownCaps
	return f
}

func checkExtraHost(e string) error {
	name, ip, ok := strings.Cut(e, ":")
	if !ok || name == "" {
		return fmt.Errorf("bad format for add-host: %q", e)
	}
	if ip == "host-gateway" {
		return nil
	}
	if _, err := netip.ParseAddr(strings.Trim(ip, "[] ")); err != nil {
		return fmt.Errorf("invalid IP address in add-host: %q", ip)
	}
	return nil
}

func checkPorts(ports nat.PortMap) error {
	for port, bindings := range ports {
		_, number := nat.SplitProtoPort(string(port))
		if _, err := nat.ParsePort(number); err != nil {
			return fmt.Errorf("invalid port specification: %q", number)
		}
		for _, b := range bindings {
			if b.HostPort == "" {
				continue // an ephemeral one
			}
			if _, err := nat.NewPort(nat.SplitProtoPort(b.HostPort)); err != nil {
				return fmt.Errorf("invalid port specification: %q", b.HostPort)
			}
		}
	}
	return nil
}

func checkPlatform(h *containertypes.HostConfig, env Machine) (warnings []string, err error) {
	switch {
	case !h.IpcMode.Valid():
		return nil, fmt.Errorf("invalid IPC mode: %v", h.IpcMode)
	case !h.PidMode.Valid():
		return nil, fmt.Errorf("invalid PID mode: %v", h.PidMode)
	case h.ShmSize < 0:
		return nil, errors.New("SHM size can not be less than 0")
	case !h.UTSMode.Valid():
		return nil, fmt.Errorf("invalid UTS mode: %v", h.UTSMode)
	case h.OomScoreAdj < -1000 || h.OomScoreAdj > 1000:
		return nil, fmt.Errorf("Invalid value %d, range for oom score adj is [-1000, 1000]", h.OomScoreAdj) //nolint:staticcheck // Docker's words
	}
	if !env.Host.IPv4Forwarding && !h.NetworkMode.IsHost() && !h.NetworkMode.IsNone() {
		warnings = append(warnings, "IPv4 forwarding is disabled. Networking will not work.")
	}
	if h.NetworkMode.IsHost() && len(h.PortBindings) > 0 {
		warnings = append(warnings, "Published ports are discarded when using host network mode")
	}
	if env.Remapped && h.UsernsMode.IsPrivate() {
		if err := checkRemapped(h); err != nil {
			return warnings, err
		}
	}
	if p := h.CgroupParent; p != "" && env.SystemdCgroup && (len(p) <= 6 || !strings.HasSuffix(p, ".slice")) {
		return warnings, errors.New(`cgroup-parent for systemd cgroup should be a valid slice named as "xxx.slice"`)
	}
	if h.Runtime == "" {
		h.Runtime = env.DefaultRuntime
	}
	if !env.Runtime(h.Runtime) {
		return warnings, fmt.Errorf("unknown or invalid runtime name: %s", h.Runtime)
	}
	for dst := range h.Tmpfs {
		if err := mountpoint.CheckTarget(dst); err != nil {
			return warnings, err
		}
	}
	if !h.CgroupnsMode.Valid() {
		return warnings, fmt.Errorf("invalid cgroup namespace mode: %v", h.CgroupnsMode)
	}
	if h.CgroupnsMode.IsPrivate() && !env.Host.CgroupNamespaces {
		warnings = append(warnings, "Your kernel does not support cgroup namespaces.  Cgroup namespace setting discarded.")
	}
	return warnings, nil
}
