package validate

import (
	"maps"
	"math"
	"slices"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
)

func (c *checker) linux(s *specs.Spec) {
	l := s.Linux
	if l == nil {
		l = &specs.Linux{}
	}
	ns := c.namespaces(l.Namespaces)
	c.names(s, ns)
	c.idMappings(l, ns)
	c.sysctls(l.Sysctl, s, ns)
	c.paths("linux.maskedPaths", l.MaskedPaths, ns)
	c.paths("linux.readonlyPaths", l.ReadonlyPaths, ns)
	if l.RootfsPropagation != "" {
		known(c, "linux.rootfsPropagation", "propagation", l.RootfsPropagation,
			"private", "rprivate", "shared", "rshared", "slave", "rslave", "unbindable", "runbindable")
	}
	c.text("linux.cgroupsPath", l.CgroupsPath)
	c.devices(l.Devices)
	c.resources("linux.resources", l.Resources)
	c.timeOffsets(l.TimeOffsets, ns)
	c.netDevices(l.NetDevices, ns)
	c.personality(l.Personality)
	c.memoryPolicy(l.MemoryPolicy)
	c.seccomp(l.Seccomp)
}

// joined says for each namespace of the container the path it is joined by, ""
// for a new one.
type joined map[specs.LinuxNamespaceType]string

func (j joined) has(t specs.LinuxNamespaceType) bool { _, ok := j[t]; return ok }

func (j joined) isNew(t specs.LinuxNamespaceType) bool { path, ok := j[t]; return ok && path == "" }

func (c *checker) namespaces(list []specs.LinuxNamespace) joined {
	ns := joined{}
	for i, n := range list {
		f := at("linux.namespaces", i)
		known(c, f+".type", "namespace", n.Type, specs.PIDNamespace, specs.NetworkNamespace, specs.MountNamespace,
			specs.IPCNamespace, specs.UTSNamespace, specs.UserNamespace, specs.CgroupNamespace, specs.TimeNamespace)
		if ns.has(n.Type) {
			c.add(f+".type", "%q is given twice", clip(string(n.Type)))
		}
		if n.Path != "" {
			c.absolute(f+".path", n.Path)
		}
		ns[n.Type] = n.Path
	}
	return ns
}

// names keeps the host's own names from being changed.
func (c *checker) names(s *specs.Spec, ns joined) {
	c.name("hostname", s.Hostname, ns)
	c.name("domainname", s.Domainname, ns)
}

func (c *checker) name(f, v string, ns joined) {
	if v != "" && !ns.has(specs.UTSNamespace) {
		c.add(f, "needs a uts namespace")
	}
	if len(v) > 64 { // __NEW_UTS_LEN
		c.add(f, "longer than 64 bytes")
	}
}

func (c *checker) idMappings(l *specs.Linux, ns joined) {
	mapped := len(l.UIDMappings) > 0 || len(l.GIDMappings) > 0
	switch {
	case mapped && !ns.has(specs.UserNamespace):
		c.add("linux.uidMappings", "id mappings need a user namespace")
	case ns.isNew(specs.UserNamespace) && (len(l.UIDMappings) == 0 || len(l.GIDMappings) == 0):
		c.add("linux.uidMappings", "a new user namespace needs uid and gid mappings")
	}
	c.mapping("linux.uidMappings", l.UIDMappings)
	c.mapping("linux.gidMappings", l.GIDMappings)
}

// maxMappings is the kernel's bound of lines in uid_map (user_namespaces(7)).
const maxMappings = 340

// mapping wants ranges that are not empty and overlap on neither side.
func (c *checker) mapping(f string, list []specs.LinuxIDMapping) {
	if len(list) > maxMappings {
		c.add(f, "%d mappings, more than the kernel's %d", len(list), maxMappings)
		return
	}
	for i, m := range list {
		last := func(first uint32) uint64 { return uint64(first) + uint64(m.Size) }
		if m.Size == 0 || last(m.ContainerID) > math.MaxUint32 || last(m.HostID) > math.MaxUint32 {
			c.add(at(f, i), "size %d is not possible", m.Size)
			continue
		}
		for _, o := range list[:i] {
			if overlap(m.ContainerID, m.Size, o.ContainerID, o.Size) || overlap(m.HostID, m.Size, o.HostID, o.Size) {
				c.add(at(f, i), "overlaps another mapping")
				break
			}
		}
	}
}

func overlap(a, an, b, bn uint32) bool {
	return uint64(a) < uint64(b)+uint64(bn) && uint64(b) < uint64(a)+uint64(an)
}

func (c *checker) paths(f string, list []string, ns joined) {
	if len(list) > 0 && !ns.has(specs.MountNamespace) {
		c.add(f, "needs a mount namespace")
	}
	for i, p := range list {
		c.absolute(at(f, i), p)
	}
}

func (c *checker) devices(list []specs.LinuxDevice) {
	for i, d := range list {
		f := at("linux.devices", i)
		c.absolute(f+".path", d.Path)
		known(c, f+".type", "type", d.Type, "b", "c", "u", "p")
		if d.Type != "p" && (d.Major < 0 || d.Minor < 0 || d.Major > math.MaxUint32 || d.Minor > math.MaxUint32) {
			c.add(f, "device number %d:%d is not possible", d.Major, d.Minor)
		}
	}
}

func (c *checker) timeOffsets(m map[string]specs.LinuxTimeOffset, ns joined) {
	if len(m) > 0 && !ns.isNew(specs.TimeNamespace) {
		c.add("linux.timeOffsets", "needs a new time namespace")
	}
	for _, k := range slices.Sorted(maps.Keys(m)) {
		known(c, "linux.timeOffsets", "clock", k, "monotonic", "boottime")
		if m[k].Nanosecs > 999_999_999 {
			c.add("linux.timeOffsets."+clip(k), "nanosecs %d is more than a second", m[k].Nanosecs)
		}
	}
}

func (c *checker) netDevices(m map[string]specs.LinuxNetDevice, ns joined) {
	if len(m) > 0 && !ns.has(specs.NetworkNamespace) {
		c.add("linux.netDevices", "needs a network namespace")
	}
	for _, k := range slices.Sorted(maps.Keys(m)) {
		c.interfaceName("linux.netDevices", k)
		if n := m[k].Name; n != "" { // or a template
			if prefix, ok := strings.CutSuffix(n, "%d"); ok {
				n = prefix + "0"
			}
			c.interfaceName("linux.netDevices."+clip(k)+".name", n)
		}
	}
}

// interfaceName follows the kernel's dev_valid_name.
func (c *checker) interfaceName(f, n string) {
	bad := n == "" || len(n) > 15 || n == "." || n == ".."
	for _, b := range []byte(n) {
		bad = bad || b <= ' ' || b == '/' || b == ':' || b == '%' || b == 0x7f
	}
	if bad {
		c.add(f, "%q is no interface name", clip(n))
	}
}

func (c *checker) personality(p *specs.LinuxPersonality) {
	if p == nil {
		return
	}
	known(c, "linux.personality.domain", "domain", p.Domain, specs.PerLinux, specs.PerLinux32)
}

func (c *checker) memoryPolicy(p *specs.LinuxMemoryPolicy) {
	if p == nil {
		return
	}
	const f = "linux.memoryPolicy"
	known(c, f+".mode", "mode", p.Mode, specs.MpolDefault, specs.MpolBind, specs.MpolInterleave,
		specs.MpolWeightedInterleave, specs.MpolPreferred, specs.MpolPreferredMany, specs.MpolLocal)
	named := c.numbers(f+".nodes", p.Nodes)
	switch p.Mode {
	case specs.MpolDefault, specs.MpolLocal:
		if named {
			c.add(f+".nodes", "none with %s", p.Mode)
		}
	case specs.MpolPreferred: // none is the local one
	case specs.MpolBind, specs.MpolInterleave, specs.MpolWeightedInterleave, specs.MpolPreferredMany:
		if !named {
			c.add(f+".nodes", "%q needs at least one", clip(string(p.Mode)))
		}
	}
	for i, flag := range p.Flags {
		known(c, at(f+".flags", i), "flag", flag, specs.MpolFNumaBalancing, specs.MpolFRelativeNodes, specs.MpolFStaticNodes)
	}
}
