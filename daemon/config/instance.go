package config

import (
	"crypto/sha256"
	"encoding/hex"
)

// Instance names this engine among those on one host: "gantry" for the default
// exec-root, "gantry-" and eight hex digits of its path's hash for any other. The
// nft table and the parent cgroup of containers carry it.
func (c *Config) Instance() string {
	if c.ExecRoot == DefaultExecRoot {
		return "gantry"
	}
	sum := sha256.Sum256([]byte(c.ExecRoot))
	return "gantry-" + hex.EncodeToString(sum[:4])
}

// ContainerCgroup is the parent cgroup of containers that name none.
func (c *Config) ContainerCgroup() string {
	if c.CgroupParent != "" {
		return c.CgroupParent
	}
	if c.SystemdCgroup() {
		return "system.slice"
	}
	return "/" + c.Instance()
}
