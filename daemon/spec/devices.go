package spec

import (
	"fmt"
	"regexp"
	"strconv"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// allowed by default beside the nodes that every runtime makes itself: zero, null,
// urandom, random, tty, console.
var allowed = [][2]int64{{1, 5}, {1, 3}, {1, 9}, {1, 8}, {5, 0}, {5, 1}}

func defaultDevices() []specs.LinuxDeviceCgroup {
	rules := []specs.LinuxDeviceCgroup{{Allow: false, Access: "rwm"}}
	for _, n := range allowed {
		rules = append(rules, rule(true, "c", n[0], n[1], "rwm"))
	}
	return append(rules, rule(false, "c", 10, 229, "rwm")) // fuse
}

func rule(allow bool, typ string, major, minor int64, access string) specs.LinuxDeviceCgroup {
	return specs.LinuxDeviceCgroup{Allow: allow, Type: typ, Major: &major, Minor: &minor, Access: access}
}

func setDevices(s *specs.Spec, in Input) {
	if in.HostConfig.Privileged {
		s.Linux.Devices = append(s.Linux.Devices, in.AllHost...)
		for _, d := range in.Devices {
			s.Linux.Devices = append(s.Linux.Devices, d.LinuxDevice)
		}
		s.Linux.Resources.Devices = []specs.LinuxDeviceCgroup{{Allow: true, Access: "rwm"}}
		return
	}
	rules := defaultDevices()
	for _, d := range in.Devices {
		if !in.bound(d) {
			s.Linux.Devices = append(s.Linux.Devices, d.LinuxDevice)
		}
		rules = append(rules, rule(true, d.Type, d.Major, d.Minor, d.Access))
	}
	for _, r := range in.HostConfig.DeviceCgroupRules {
		if parsed, err := ParseDeviceRule(r); err == nil { // Validate has refused the others
			rules = append(rules, parsed)
		}
	}
	s.Linux.Resources.Devices = rules
}

var deviceRule = regexp.MustCompile(`^([acb]) ([0-9]+|\*):([0-9]+|\*) ([rwm]{1,3})$`)

// ParseDeviceRule reads "type major:minor access"; * is -1.
func ParseDeviceRule(s string) (specs.LinuxDeviceCgroup, error) {
	m := deviceRule.FindStringSubmatch(s)
	if m == nil {
		return specs.LinuxDeviceCgroup{}, fmt.Errorf("invalid device cgroup rule format: '%s'", s)
	}
	major, err := number(m[2])
	if err != nil {
		return specs.LinuxDeviceCgroup{}, fmt.Errorf("invalid major value in device cgroup rule format: '%s'", s)
	}
	minor, err := number(m[3])
	if err != nil {
		return specs.LinuxDeviceCgroup{}, fmt.Errorf("invalid minor value in device cgroup rule format: '%s'", s)
	}
	return rule(true, m[1], major, minor, m[4]), nil
}

func number(s string) (int64, error) {
	if s == "*" {
		return -1, nil
	}
	return strconv.ParseInt(s, 10, 64)
}
