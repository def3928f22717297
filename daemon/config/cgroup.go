package config

import (
	"errors"
	"fmt"
	"strings"

	"gantry/daemon/host"
)

// The cgroup drivers.
const (
	cgroupfs = "cgroupfs"
	systemd  = "systemd"
)

// SystemdCgroup says that systemd keeps the containers' cgroups.
func (c *Config) SystemdCgroup() bool { return c.CgroupDriver == systemd }

// defaultCgroupDriver is systemd where systemd runs and keeps cgroup v2: two that write
// the same tree would undo each other's work.
func defaultCgroupDriver() string {
	if host.CgroupV2() && host.Systemd() {
		return systemd
	}
	return cgroupfs
}

func (c *Config) checkCgroups() (errs []error) {
	switch d := c.CgroupDriver; d {
	case cgroupfs, systemd:
	case "none":
		errs = append(errs, fmt.Errorf("native.cgroupdriver option %s is internally used and cannot be specified manually", d))
	default:
		errs = append(errs, fmt.Errorf("native.cgroupdriver option %s not supported", d))
	}
	if c.SystemdCgroup() && !host.Systemd() {
		errs = append(errs, errors.New("native.cgroupdriver=systemd: systemd not running on this host"))
	}
	if p := c.CgroupParent; p != "" && c.SystemdCgroup() && (len(p) <= len(".slice") || !strings.HasSuffix(p, ".slice")) {
		errs = append(errs, errors.New(`cgroup-parent for systemd cgroup should be a valid slice named as "xxx.slice"`))
	}
	return errs
}
