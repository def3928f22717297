package overlay

import (
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"gantry/api/errdefs"
)

// mountOptions returns the options of every overlay mount. "index=off" keeps
// overlayfs from binding a lower layer to one upper (its default is a kernel
// build option); "userxattr" is what a user namespace needs in place of trusted.*
// attributes (kernel 5.11).
func mountOptions(root string, extra []string) ([]string, error) {
	if strings.ContainsAny(root, ":,\\") {
		return nil, errdefs.InvalidArgument("path %q: overlayfs options cannot carry a colon, comma or backslash", root)
	}
	options := slices.Clone(extra)
	if !has(options, "index") && exists("/sys/module/overlay/parameters/index") {
		options = append(options, "index=off")
	}
	if !has(options, "userxattr") && inUserNamespace() && takesUserXattr(root) {
		options = append(options, "userxattr")
	}
	return options, nil
}

func has(options []string, name string) bool {
	return slices.ContainsFunc(options, func(o string) bool { return o == name || strings.HasPrefix(o, name+"=") })
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// inUserNamespace says whether this process has less than the initial id map.
func inUserNamespace() bool {
	b, err := os.ReadFile("/proc/self/uid_map")
	return err == nil && !slices.Equal(strings.Fields(string(b)), []string{"0", "0", "4294967295"})
}

func takesUserXattr(root string) bool {
	const probe = "user.overlay.probe"
	if err := unix.Setxattr(root, probe, []byte("y"), 0); err != nil {
		return false
	}
	unix.Removexattr(root, probe)
	return true
}
