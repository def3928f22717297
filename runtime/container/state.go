package container

import (
	"os"
	"path/filepath"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/runtime-spec/specs-go"

	"gantry/runtime/cgroup"
	"gantry/runtime/validate"
)

// StatePaused is a status that the specification lacks and runc has.
const StatePaused specs.ContainerState = "paused"

// Load finds a container that this or another process created;
// errdefs.ErrNotFound when there is none.
func Load(root, id string) (*Container, error) {
	if err := validate.ID(id); err != nil {
		return nil, err
	}
	rec, err := loadRecord(root, id)
	if err != nil {
		return nil, err
	}
	return &Container{root: root, id: id, rec: rec, pidfd: rec.openInit(), filter: keptCompiler(filepath.Join(root, id), rec.Spec.Linux.Seccomp)}, nil
}

// List loads all containers of a root; those it can't load are left out.
func List(root string) ([]*Container, error) {
	entries, err := os.ReadDir(root)
	if os.IsNotExist(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var list []*Container
	for _, e := range entries {
		if IsPassing(e.Name()) {
			continue
		}
		if c, err := Load(root, e.Name()); err == nil {
			list = append(list, c)
		}
	}
	return list, nil
}

func (c *Container) dir() string { return filepath.Join(c.root, c.id) }

// State is the container's state as the OCI runtime specification has it.
// Status may also be StatePaused.
func (c *Container) State() (specs.State, error) {
	status := c.status()
	s := c.hookState(status)
	if status == specs.StateStopped {
		s.Pid = 0
	}
	return s, nil
}

// hookState is the state under another status.
func (c *Container) hookState(status specs.ContainerState) specs.State {
	return specs.State{
		Version: specs.Version, ID: c.id, Status: status, Pid: c.Pid(),
		Bundle: c.rec.Bundle, Annotations: c.rec.Spec.Annotations,
	}
}

func (c *Container) status() specs.ContainerState {
	if c.Pid() == 0 { // being created, or its creator has died
		return specs.StateCreating
	}
	if ended(c.PidFD()) {
		return specs.StateStopped
	}
	if m, err := c.cgroup(); err == nil {
		if frozen, err := m.Frozen(); err == nil && frozen {
			return StatePaused
		}
	}
	if _, err := os.Lstat(filepath.Join(c.dir(), listenerName)); err == nil {
		return specs.StateCreated
	}
	return specs.StateRunning
}

// cgroup is the container's, found once.
func (c *Container) cgroup() (*cgroup.Manager, error) {
	c.mu.Lock()
	m := c.cg
	c.mu.Unlock()
	if m != nil {
		return m, nil
	}
	m, err := c.loadCgroup()
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.cg = m
	return m, nil
}

func (c *Container) loadCgroup() (*cgroup.Manager, error) {
	if !c.rec.hasCgroup() {
		return cgroup.Absent(), nil
	}
	if c.rec.Scope != nil {
		return cgroup.LoadScope(c.rec.Cgroups, *c.rec.Scope)
	}
	return cgroup.Load(c.rec.Cgroups)
}

// Spec is the container's configuration; not to be changed.
func (c *Container) Spec() *specs.Spec { return c.rec.Spec }

// Bundle is the directory that the container came from, Rootfs its
// spec.root.path, absolute, and Owner the uid of its creator.
func (c *Container) Bundle() string { return c.rec.Bundle }

// Rootfs: see Bundle.
func (c *Container) Rootfs() string { return c.rec.Rootfs }

// Owner: see Bundle.
func (c *Container) Owner() int { return c.rec.Owner }

// Pids are the processes of the container's cgroup, in our pid namespace; without
// a cgroup those of its pid namespace.
func (c *Container) Pids() ([]int, error) {
	m, err := c.cgroup()
	if err != nil {
		return nil, err
	}
	if m.Absent() {
		return c.pidsOf()
	}
	pids, err := m.Pids()
	if errdefs.IsNotFound(err) {
		return nil, nil
	}
	return pids, err
}

// Stats are the counters of the container's cgroup.
func (c *Container) Stats() (*cgroup.Stats, error) {
	m, err := c.cgroup()
	if err != nil {
		return nil, err
	}
	return m.Stats()
}

// OOM tells when the container runs out of memory; see cgroup.Manager.OOM.
func (c *Container) OOM() (events <-chan struct{}, stop func(), err error) {
	m, err := c.cgroup()
	if err != nil {
		return nil, nil, err
	}
	return m.OOM()
}

// OOMKilled counts the container's processes that were killed for lack of memory.
func (c *Container) OOMKilled() (uint64, error) {
	m, err := c.cgroup()
	if err != nil {
		return 0, err
	}
	return m.OOMKilled()
}
