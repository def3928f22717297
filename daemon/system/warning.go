package system

import (
	"fmt"

	systemtypes "github.com/docker/docker/api/types/system"
)

// missing are the features whose absence is worth a warning, in Docker's words and
// order. An empty text means none on that version of cgroups.
var missing = []struct {
	there  func(*Config, *systemtypes.Info) bool
	v1, v2 string
}{
	{func(_ *Config, i *systemtypes.Info) bool { return i.MemoryLimit }, "No memory limit support", "No memory limit support"},
	{func(_ *Config, i *systemtypes.Info) bool { return i.SwapLimit }, "No swap limit support", "No swap limit support"},
	{func(c *Config, _ *systemtypes.Info) bool { return c.Host.KernelMemoryTCP }, "No kernel memory TCP limit support", ""},
	{func(_ *Config, i *systemtypes.Info) bool { return i.OomKillDisable }, "No oom kill disable support", ""},
	{func(_ *Config, i *systemtypes.Info) bool { return i.CPUCfsQuota }, "No cpu cfs quota support", "No cpu cfs quota support"},
	{func(_ *Config, i *systemtypes.Info) bool { return i.CPUCfsPeriod }, "No cpu cfs period support", "No cpu cfs period support"},
	{func(_ *Config, i *systemtypes.Info) bool { return i.CPUShares }, "No cpu shares support", "No cpu shares support"},
	{func(_ *Config, i *systemtypes.Info) bool { return i.CPUSet }, "No cpuset support", "No cpuset support"},
	{func(c *Config, _ *systemtypes.Info) bool { return c.Host.BlkioWeight }, "", "No io.weight support"},
	{func(c *Config, _ *systemtypes.Info) bool { return c.Host.BlkioWeightDevice }, "", "No io.weight (per device) support"},
	{func(c *Config, _ *systemtypes.Info) bool { return c.Host.BlkioReadBps }, "No blkio throttle.read_bps_device support", "No io.max (rbps) support"},
	{func(c *Config, _ *systemtypes.Info) bool { return c.Host.BlkioWriteBps }, "No blkio throttle.write_bps_device support", "No io.max (wbps) support"},
	{func(c *Config, _ *systemtypes.Info) bool { return c.Host.BlkioReadIOps }, "No blkio throttle.read_iops_device support", "No io.max (riops) support"},
	{func(c *Config, _ *systemtypes.Info) bool { return c.Host.BlkioWriteIOps }, "No blkio throttle.write_iops_device support", "No io.max (wiops) support"},
	{func(_ *Config, i *systemtypes.Info) bool { return i.IPv4Forwarding }, "IPv4 forwarding is disabled", "IPv4 forwarding is disabled"},
}

// warnings is pure.
func warnings(c *Config, info *systemtypes.Info) []string {
	out := listenerWarnings(c.Hosts)
	for _, m := range missing {
		text := m.v1
		if c.Host.CgroupV2 {
			text = m.v2
		}
		if text != "" && !m.there(c, info) {
			out = append(out, "WARNING: "+text)
		}
	}
	if c.Host.Seccomp && c.SeccompProfile != "builtin" {
		out = append(out, "WARNING: daemon is not using the default seccomp profile")
	}
	return out
}

const remoteRoot = `
         Access to the remote API is equivalent to root access on the host. Refer
         to the 'Docker daemon attack surface' section in the documentation for
         more information: https://docs.docker.com/go/attack-surface/`

const hardFailure = "In future versions this will be a hard failure preventing the daemon from starting! Learn more at: https://docs.docker.com/go/api-security/"

func listenerWarnings(hosts []Listener) (out []string) {
	for _, h := range hosts {
		switch {
		case h.Proto != "tcp":
		case !h.TLS:
			out = append(out, fmt.Sprintf("[DEPRECATION NOTICE]: API is accessible on http://%s without encryption.%s\n%s", h.Addr, remoteRoot, hardFailure))
		case !h.TLSVerify:
			out = append(out, fmt.Sprintf("[DEPRECATION NOTICE]: API is accessible on https://%s without TLS client verification.%s\n%s", h.Addr, remoteRoot, hardFailure))
		}
	}
	return out
}
