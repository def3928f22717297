package systemd

import (
	"fmt"
	"path"
	"strings"

	"github.com/containerd/errdefs"
)

// Unit is a container's unit.
type Unit struct {
	Name  string `json:"name"`            // "docker-ID.scope", or "NAME.slice"
	Slice string `json:"slice,omitempty"` // that it is in: "system.slice"
	User  bool   `json:"user,omitempty"`  // kept by the user's systemd, not the system's
}

// defaultPrefix begins the names of scopes whose spec does not name one.
const defaultPrefix = "grun"

// ParsePath reads a spec's linux.cgroupsPath, "slice:prefix:name". An empty one is a
// scope of the container's id. An empty slice is system.slice, or user.slice of a
// user's systemd. A name that ends in ".slice" is a slice itself, without the
// prefix. Class: InvalidArgument.
func ParsePath(cgroupsPath, id string, user bool) (Unit, error) {
	if cgroupsPath == "" {
		cgroupsPath = ":" + defaultPrefix + ":" + id
	}
	part := strings.Split(cgroupsPath, ":")
	if len(part) != 3 {
		return Unit{}, fmt.Errorf(`expected cgroupsPath to be of format "slice:prefix:name" for systemd cgroups, got %q instead: %w`, cgroupsPath, errdefs.ErrInvalidArgument)
	}
	u := Unit{Slice: part[0], Name: part[2], User: user}
	switch {
	case u.Slice != "":
	case user:
		u.Slice = "user.slice"
	default:
		u.Slice = "system.slice"
	}
	if !u.IsSlice() {
		u.Name = part[1] + "-" + u.Name + ".scope"
	}
	if _, err := expandSlice(u.Slice); err != nil {
		return Unit{}, err
	}
	return u, u.check()
}

// IsSlice says that the unit holds no processes itself.
func (u Unit) IsSlice() bool { return strings.HasSuffix(u.Name, ".slice") }

// maxName is systemd's UNIT_NAME_MAX, less the NUL.
const maxName = 255

// check holds the name to what systemd takes, which is also the name of a directory.
func (u Unit) check() error {
	bad := func(c rune) bool {
		return !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.ContainsRune(`:-_.\@`, c))
	}
	if strings.HasPrefix(u.Name, "-.") || len(u.Name) > maxName || strings.ContainsFunc(u.Name, bad) {
		return fmt.Errorf("unit name %q is not valid: %w", u.Name, errdefs.ErrInvalidArgument)
	}
	return nil
}

// Path is the unit's cgroup below that of its systemd: "/a.slice/a-b.slice/c.scope".
func (u Unit) Path() (string, error) {
	slice, err := expandSlice(u.Slice)
	if err != nil {
		return "", err
	}
	if u.IsSlice() { // a slice's place is in its name
		return expandSlice(u.Name)
	}
	return path.Join(slice, u.Name), nil
}

// expandSlice: dashes in a slice's name are its place in the tree, "a-b.slice" is
// /a.slice/a-b.slice.
func expandSlice(slice string) (string, error) {
	name, ok := strings.CutSuffix(slice, ".slice")
	bad := fmt.Errorf("invalid slice name: %s: %w", slice, errdefs.ErrInvalidArgument)
	if !ok || strings.Contains(slice, "/") || len(slice) > maxName {
		return "", bad
	}
	if name == "-" {
		return "/", nil
	}
	at, prefix := "/", ""
	for part := range strings.SplitSeq(name, "-") {
		if part == "" {
			return "", bad
		}
		prefix += part
		at = path.Join(at, prefix+".slice")
		prefix += "-"
	}
	return at, nil
}
