package container

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/containerd/errdefs"
)

// emptyCgroup refuses a cgroup that others are in, or that is frozen: what is in a container's
// cgroup ends with the container, also with one that could not be created. A container of
// the same id is for makeDir to refuse. The words are runc's.
func (k *creation) emptyCgroup() error {
	if _, err := os.Lstat(filepath.Join(k.c.dir(), recordName)); err == nil || !k.cg.Exists() {
		return nil
	}
	pids, err := k.cg.Pids()
	switch {
	case errdefs.IsNotFound(err):
	case err != nil:
		return fmt.Errorf("unable to get cgroup PIDs: %w", err)
	case len(pids) > 0:
		return fmt.Errorf("container's cgroup is not empty: %d process(es) found: %w", len(pids), errdefs.ErrFailedPrecondition)
	}
	if frozen, err := k.cg.Frozen(); err == nil && frozen {
		return fmt.Errorf("container's cgroup unexpectedly frozen: %w", errdefs.ErrFailedPrecondition)
	}
	return nil
}
