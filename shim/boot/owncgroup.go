package boot

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"gantry/api/errdefs"
	"gantry/runtime/cgroup"
)

// enterCgroup moves a process, this shim, into a cgroup that is there already (option
// ShimCgroup), in every hierarchy that has it.
func enterCgroup(path string, pid int) error {
	m, err := cgroup.New(path, cgroup.Options{})
	if err != nil {
		return fmt.Errorf("shim cgroup %s: %w", path, err)
	}
	entered := false
	for _, dir := range m.Paths() {
		f, err := os.OpenFile(filepath.Join(dir, "cgroup.procs"), os.O_WRONLY, 0)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err == nil {
			_, err = f.WriteString(strconv.Itoa(pid))
			err = errors.Join(err, f.Close())
		}
		if err != nil {
			return fmt.Errorf("enter shim cgroup %s: %w", path, err)
		}
		entered = true
	}
	if !entered {
		return errdefs.NotFound("shim cgroup %s does not exist", path)
	}
	return nil
}
