package container

import (
	"fmt"
	"os"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"gantry/runtime/plan"
)

const nsGetType = 0xb703 // NS_GET_NSTYPE of ioctl_ns(2)

// openNamespace opens the file of a namespace to join, and wants it to be of the right kind
// before anything is made: a wrong one would be joined as what it is, or refused by a
// setns(2) that says no more than "invalid argument".
func (f *files) openNamespace(n specs.LinuxNamespace) error {
	if err := f.openPath(plan.InNamespace(n.Type), n.Path, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY); err != nil {
		return fmt.Errorf("%s namespace: %w", n.Type, err)
	}
	return lend(f.byName[plan.InNamespace(n.Type)], func(fd int) error {
		kind, err := unix.IoctlRetInt(fd, nsGetType)
		if err != nil {
			return fmt.Errorf("%s namespace: %s is not a namespace: %w", n.Type, n.Path, errdefs.ErrInvalidArgument)
		}
		if uint64(kind) != plan.CloneFlag(n.Type) {
			return fmt.Errorf("%s namespace: %s is a namespace of another kind: %w", n.Type, n.Path, errdefs.ErrInvalidArgument)
		}
		return nil
	})
}

// namespaceFlags are the namespaces that differ from ours.
func namespaceFlags(spec *specs.Spec) (flags uint64) {
	for _, n := range spec.Linux.Namespaces {
		flags |= plan.CloneFlag(n.Type)
	}
	return flags
}

// writeOffsets sets the clocks of the time namespace that pid has made for its children.
func writeOffsets(pid int, offsets string) error {
	if err := os.WriteFile(fmt.Sprintf("/proc/%d/timens_offsets", pid), []byte(offsets), 0); err != nil {
		return fmt.Errorf("set time offsets: %w", err)
	}
	return nil
}
