package container

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"gantry/runtime/plan"
)

var stdioNames = [3]string{plan.InStdin, plan.InStdout, plan.InStderr}

// descriptors name what the init's standard descriptors are, as the kernel names
// it: "pipe:[42]", "/dev/null".
func (f *files) descriptors() (names []string) {
	for _, n := range stdioNames {
		lend(f.byName[n], func(fd int) error { //nolint:errcheck // unknown then
			name, _ := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", fd))
			names = append(names, name)
			return nil
		})
	}
	return names
}

// null says which standard descriptors are the null device.
func (f *files) null() (is [3]bool) {
	for i, n := range stdioNames {
		lend(f.byName[n], func(fd int) error { //nolint:errcheck // then it is not
			var st unix.Stat_t
			err := unix.Fstat(fd, &st)
			is[i] = err == nil && st.Mode&unix.S_IFMT == unix.S_IFCHR && st.Rdev == unix.Mkdev(1, 3)
			return nil
		})
	}
	return is
}

// Descriptors are what the init's standard descriptors were when it was created:
// "pipe:[42]", "/dev/null". Nil for a container of an earlier version.
func (c *Container) Descriptors() []string { return c.rec.Descriptors }
