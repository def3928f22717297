package cgroup

import (
	"fmt"
	"strconv"
	"strings"

	"gantry/runtime/cgroup/systemd"
)

// idleVersion is the first systemd that knows CPUWeight=idle.
const idleVersion = 252

// properties gives what systemd must know of settings, and the settings with what
// systemd rounds rounded as it does. period is the CPU period in force. What systemd
// has no property for it leaves alone.
func properties(kind systemd.Kind, ss []setting, period uint64, version func() (int, error)) ([]systemd.Property, []setting, error) {
	c := converter{period: period}
	if kind == systemd.V2 {
		idle, err := idles(ss, version)
		if err != nil {
			return nil, nil, err
		}
		c.idle = idle
	}
	out := append([]setting(nil), ss...)
	for i := range out {
		if err := c.add(kind, &out[i]); err != nil {
			return nil, nil, fmt.Errorf("systemd property for %s: %w", out[i].file, err)
		}
	}
	if c.quota != nil || c.setPeriod {
		c.addQuota()
	}
	return c.props, out, nil
}

// idles says whether the group is to idle and systemd can be told.
func idles(ss []setting, version func() (int, error)) (bool, error) {
	for _, s := range ss {
		if s.file == "cpu.idle" && s.value == "1" {
			v, err := version()
			return err == nil && v >= idleVersion, err
		}
	}
	return false, nil
}

type converter struct {
	props     []systemd.Property
	idle      bool
	period    uint64
	setPeriod bool
	quota     *setting // v1's, where period and quota have a file each
}

func (c *converter) prop(name string, value any) {
	c.props = append(c.props, systemd.Prop(name, value))
}

// limits are properties whose value is a number or no limit.
var limits = map[systemd.Kind]map[string]string{
	systemd.V1: {"cpu.shares": "CPUShares", "memory.limit_in_bytes": "MemoryLimit", "blkio.weight": "BlockIOWeight", "pids.max": "TasksMax"},
	systemd.V2: {
		"memory.max": "MemoryMax", "memory.high": "MemoryHigh", "memory.low": "MemoryLow", "memory.min": "MemoryMin",
		"memory.swap.max": "MemorySwapMax", "pids.max": "TasksMax", "io.weight": "IOWeight",
	},
}

func (c *converter) add(kind systemd.Kind, s *setting) error {
	value := strings.TrimSpace(s.value)
	switch s.file {
	case "cpuset.cpus", "cpuset.mems":
		return c.set(s.file, value)
	case "cpu.idle":
		if kind == systemd.V2 && c.idle {
			c.prop("CPUWeight", uint64(0))
		}
		return nil
	case "cpu.weight":
		if c.idle { // systemd has one property for both
			return nil
		}
		return c.limit("CPUWeight", value)
	case "cpu.max":
		return c.max(s)
	case "cpu.cfs_quota_us":
		c.quota = s
		return nil
	case "cpu.cfs_period_us":
		n, err := strconv.ParseUint(value, 10, 64)
		c.period, c.setPeriod = n, true
		return err
	case "io.bfq.weight": // systemd converts itself, from the scale of io.weight
		if s.alt != nil && !strings.Contains(s.alt.value, " ") {
			return c.limit("IOWeight", s.alt.value)
		}
		return nil
	}
	name, ok := limits[kind][s.file]
	if !ok || strings.Contains(value, " ") { // a device's
		return nil
	}
	return c.limit(name, value)
}

func (c *converter) set(file, value string) error {
	name := map[string]string{"cpuset.cpus": "AllowedCPUs", "cpuset.mems": "AllowedMemoryNodes"}[file]
	bits, err := systemd.Bits(value)
	if err == nil {
		c.prop(name, bits)
	}
	return err
}

func (c *converter) limit(name, value string) error {
	n, err := parseUint(value)
	if err != nil {
		return err
	}
	if name == "TasksMax" && n == 0 { // which systemd refuses
		n = 1
	}
	c.prop(name, n)
	return nil
}

// max reads cpu.max: "QUOTA", or "QUOTA PERIOD".
func (c *converter) max(s *setting) (err error) {
	f := strings.Fields(s.value)
	if len(f) == 0 || len(f) > 2 {
		return fmt.Errorf("%q is neither a quota nor a quota and a period", s.value)
	}
	period, quota := c.period, int64(-1)
	if len(f) == 2 {
		if period, err = strconv.ParseUint(f[1], 10, 64); err != nil {
			return err
		}
	}
	if f[0] != "max" {
		if quota, err = strconv.ParseInt(f[0], 10, 64); err != nil {
			return err
		}
	}
	props, rounded := systemd.Quota(quota, period, len(f) == 2)
	c.props = append(c.props, props...)
	if rounded > 0 {
		f[0] = itoa(rounded)
	}
	s.value = strings.Join(f, " ")
	return nil
}

// addQuota does for v1 what max does.
func (c *converter) addQuota() {
	if c.quota == nil { // the quota in force stays, and systemd's share of it is off by a little
		c.prop("CPUQuotaPeriodUSec", c.period)
		return
	}
	quota, err := strconv.ParseInt(c.quota.value, 10, 64)
	if err != nil {
		return
	}
	props, rounded := systemd.Quota(quota, c.period, c.setPeriod)
	c.props = append(c.props, props...)
	c.quota.value = itoa(rounded)
}

// deviceProperties tells systemd of device rules, as far as it has words for them:
// it has none for exceptions from what is allowed, and for one minor number of all
// major ones. Until ours are written in the place of systemd's, it then denies more.
func deviceProperties(rules []deviceRule) []systemd.Property {
	list, err := listOf(rules)
	none := systemd.Prop("DeviceAllow", []systemd.DeviceAllow{}) // clears what was allowed before
	if err == nil && list.allow && len(list.except) == 0 {
		return []systemd.Property{none, systemd.Prop("DevicePolicy", "auto")}
	}
	props := []systemd.Property{none, systemd.Prop("DevicePolicy", "strict")}
	if err != nil || list.allow {
		return props
	}
	var allow []systemd.DeviceAllow
	for _, id := range sortedIDs(list.except) {
		if path := systemdDevice(id); path != "" {
			allow = append(allow, systemd.DeviceAllow{Path: path, Access: list.except[id].String()})
		}
	}
	return append(props, systemd.Prop("DeviceAllow", allow))
}

func systemdDevice(id deviceID) string {
	kind := "char"
	if id.kind == 'b' {
		kind = "block"
	}
	switch {
	case id.major == anyNumber && id.minor == anyNumber:
		return kind + "-*"
	case id.major == anyNumber:
		return ""
	case id.minor == anyNumber:
		return fmt.Sprintf("%s-%d", kind, id.major)
	}
	return fmt.Sprintf("/dev/%s/%d:%d", kind, id.major, id.minor)
}
