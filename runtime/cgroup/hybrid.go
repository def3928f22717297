package cgroup

import (
	"slices"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// borrow takes what v1 lacks from v2: on a hybrid host a controller that no v1
// hierarchy has may be in the unified one. Its settings are replaced by v2's, and
// dirOf finds it there. It is handed down for the first limit that needs it, not
// for every container.
func (c *legacy) borrow(ss []setting, res *specs.LinuxResources) ([]setting, func(string) (string, bool), error) {
	names := c.lacking(ss)
	if len(names) == 0 {
		return ss, c.dirOf, nil
	}
	i := slices.IndexFunc(c.dirs, func(d dir) bool { return d.mount.unified })
	if i < 0 {
		return ss, c.dirOf, nil
	}
	u := &unified{mount: c.dirs[i].mount, path: c.dirs[i].path}
	have, _ := readFile(u.mount.point, "cgroup.controllers")
	there := strings.Fields(have)
	names = slices.DeleteFunc(names, func(n string) bool { return !slices.Contains(there, inV2(n)) })
	if len(names) == 0 {
		return ss, c.dirOf, nil
	}
	if err := u.create(); err != nil { // exists; hands controllers down on the way
		return nil, nil, err
	}
	v2, _, err := planV2(res, u.state())
	if err != nil {
		return nil, nil, err
	}
	ss = slices.DeleteFunc(slices.Clone(ss), func(s setting) bool { return slices.Contains(names, s.controller) })
	for _, s := range v2 {
		if slices.ContainsFunc(names, func(n string) bool { return inV2(n) == s.controller }) {
			ss = append(ss, s)
		}
	}
	dirOf := func(controller string) (string, bool) {
		if d, ok := c.dirOf(controller); ok {
			return d, true
		}
		return u.path, slices.Contains(there, controller)
	}
	return ss, dirOf, nil
}

// lacking are the controllers that settings need and v1 does not have.
func (c *legacy) lacking(ss []setting) (names []string) {
	for _, s := range ss {
		if _, ok := c.dirOf(s.controller); !ok && !s.optional && !slices.Contains(names, s.controller) {
			names = append(names, s.controller)
		}
	}
	return names
}

// inV2 is v2's name of a v1 controller.
func inV2(controller string) string {
	if controller == "blkio" {
		return "io"
	}
	return controller
}
