package container

import (
	"context"
	"errors"
	"os"

	"golang.org/x/sys/unix"

	"gantry/runtime/plan"
	"gantry/runtime/program"
)

// startBeside starts p, an exec's program. When the container has handed its
// cgroup's controllers to cgroups below, the kernel lets no process into it
// (EBUSY): then p goes where the init is, as with runc, if the cgroup may be another.
func (c *Container) startBeside(p *program.Program, fs *files, another bool) (*program.Process, error) {
	proc, err := program.Start(p, fs.byName)
	if errors.Is(err, unix.EACCES) && c.approach() {
		proc, err = program.Start(p, fs.byName)
	}
	if !another || !errors.Is(err, unix.EBUSY) {
		return proc, err
	}
	m, e := c.cgroup()
	if e != nil {
		return nil, err
	}
	dir, e := m.DirOf(c.Pid())
	if e != nil {
		return nil, err
	}
	fd, e := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if e != nil {
		return nil, err
	}
	fs.add(plan.InCgroup, os.NewFile(uintptr(fd), dir))
	return program.Start(p, fs.byName)
}

// approach moves us where we may clone into the cgroup, if that can be.
func (c *Container) approach() bool {
	m, err := c.cgroup()
	return err == nil && m.Approach(context.Background()) == nil
}
