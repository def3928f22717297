package container

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"gantry/runtime/cgroup"
	"gantry/runtime/plan"
)

// execCgroup opens the way into the container's cgroup, or with sub into cgroups
// below it; see ExecOptions.Cgroup.
func (f *files) execCgroup(m *cgroup.Manager, sub map[string]string) (tasks int, dir bool, err error) {
	if len(sub) == 0 {
		return f.cgroup(m)
	}
	below, err := subCgroups(m.Paths(), sub)
	if err != nil {
		return 0, false, err
	}
	list, err := m.JoinFDs()
	if err != nil {
		return 0, false, err
	}
	defer closeAll(list)
	unified := unifiedDir(m)
	for _, file := range list {
		at := filepath.Dir(file.Name())
		if at == unified && unified != "" {
			continue
		}
		if err := f.openPath(plan.InTasks(tasks), filepath.Join(below[at], filepath.Base(file.Name())), unix.O_WRONLY); err != nil {
			return 0, false, err
		}
		tasks++
	}
	if unified == "" {
		return tasks, false, nil
	}
	return tasks, true, f.openPath(plan.InCgroup, below[unified], unix.O_PATH|unix.O_DIRECTORY)
}

func closeAll(list []*os.File) {
	for _, file := range list {
		file.Close()
	}
}

// subCgroups gives for each of a container's directories the one below it to be
// joined. sub is by controller, "" is for all; paths is by controller too.
func subCgroups(paths, sub map[string]string) (below map[string]string, err error) {
	below = map[string]string{}
	all, common := sub[""]
	for _, dir := range paths {
		below[dir] = dir
		if common {
			if below[dir], err = within(dir, all); err != nil {
				return nil, err
			}
		}
	}
	for controller, path := range sub {
		dir, ok := paths[controller]
		if common {
			continue
		}
		if !ok {
			return nil, fmt.Errorf("unknown controller %s: %w", controller, errdefs.ErrInvalidArgument)
		}
		to, err := within(dir, path)
		if err != nil {
			return nil, err
		}
		if was := below[dir]; was != dir && was != to {
			return nil, fmt.Errorf("controller %s shares its hierarchy with one that has another path: %w", controller, errdefs.ErrInvalidArgument)
		}
		below[dir] = to
	}
	return below, nil
}

// within joins path to dir, which it must not leave.
func within(dir, path string) (string, error) {
	joined := filepath.Join(dir, path)
	if joined != dir && !strings.HasPrefix(joined, dir+"/") {
		return "", fmt.Errorf("bad sub cgroup path: %s: %w", path, errdefs.ErrInvalidArgument)
	}
	return joined, nil
}
