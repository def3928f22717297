package checkpoint

import (
	"fmt"
	"os"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"gantry/runtime/plan"
)

// admit lets the root of a container's user namespace search the image directory:
// there a restored process reads what it is, and it has no rights of the host's root
// any more.
func admit(dir *os.File, spec *specs.Spec) error {
	if !plan.HasUserNS(spec) {
		return nil
	}
	gid, ok := hostID(spec.Linux.GIDMappings)
	if !ok {
		return nil // a namespace that was joined; its maps are not ours to know
	}
	fd := int(dir.Fd())
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return fmt.Errorf("image directory: %w", err)
	}
	if st.Mode&0o001 != 0 || st.Gid == gid && st.Mode&0o010 != 0 {
		return nil
	}
	if err := unix.Fchown(fd, -1, int(gid)); err != nil {
		return fmt.Errorf("give image directory to the container's group: %w", err)
	}
	if err := unix.Fchmod(fd, st.Mode&0o7707|0o010); err != nil {
		return fmt.Errorf("let the container's group search the image directory: %w", err)
	}
	return nil
}

// hostID is that of the container's root.
func hostID(maps []specs.LinuxIDMapping) (uint32, bool) {
	for _, m := range maps {
		if m.ContainerID == 0 && m.Size > 0 {
			return m.HostID, true
		}
	}
	return 0, false
}
