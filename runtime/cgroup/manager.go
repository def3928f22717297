package cgroup

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"

	"github.com/containerd/errdefs"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"gantry/runtime/cgroup/systemd"
)

// Options say how a new cgroup is made.
type Options struct {
	// Systemd asks systemd for a scope instead of making directories; the path is
	// "slice:prefix:name", empty for a scope of the container's ID. With Rootless it
	// is the user's systemd, which takes v2.
	Systemd bool
	// ID is the container's, and Annotations its spec's; for systemd.
	ID          string
	Annotations map[string]string
	// Rootless tolerates EACCES, EPERM and EROFS on hierarchies that this process
	// may not write; limits that need them are left out with a warning. When there
	// is none that it may write, Create makes the Manager an Absent one.
	Rootless bool
}

// Warning says what was left out, in words for the user.
type Warning = string

// Manager is one container's cgroup. What the host has mounted is read when it is
// made, and not again.
type Manager struct {
	host     *host
	drv      driver
	rootless bool
}

// driver is what v1 (with hybrid) and v2 do differently.
type driver interface {
	paths() map[string]string
	exists() bool
	create() error
	set(res *specs.LinuxResources, first bool) ([]Warning, error)
	joinFDs() ([]*os.File, error)
	dirFD() (*os.File, error)
	addPid(pid int) error
	pids() ([]int, error)
	freeze(ctx context.Context) error
	thaw(ctx context.Context) error
	frozen() (bool, error)
	kill(ctx context.Context) error
	remove(ctx context.Context) error
	stats() (*Stats, error)
	oom() (<-chan struct{}, func(), error)
	oomKilled() (uint64, error)
}

// New names the cgroup at path (a spec's linux.cgroupsPath); nothing is made
// before Create. An empty path is refused without Systemd: the caller chooses a
// default. Classes: InvalidArgument, Unavailable (no cgroups are mounted, or no
// systemd is there).
func New(path string, opts Options) (*Manager, error) {
	host, err := readHost()
	if opts.Rootless && errdefs.IsUnavailable(err) {
		return Absent(), nil
	}
	if err != nil {
		return nil, err
	}
	var sc *scope
	if opts.Systemd {
		if sc, path, err = newScope(host, path, opts); err != nil {
			return nil, err
		}
	}
	dirs, err := host.dirs(path)
	if err != nil {
		return nil, err
	}
	drv := newDriver(host, dirs, opts.Rootless)
	if sc != nil {
		drv = sc.over(drv)
	}
	return &Manager{host: host, rootless: opts.Rootless, drv: drv}, nil
}

// LoadScope is Load for a cgroup that systemd keeps, as Unit gave it.
func LoadScope(paths map[string]string, unit systemd.Unit) (*Manager, error) {
	m, err := Load(paths)
	if err == nil {
		m.drv = loadScope(m.host, unit).over(m.drv)
	}
	return m, err
}

// Unit is the one that systemd keeps the cgroup as; nil without systemd.
func (m *Manager) Unit() *systemd.Unit {
	if s, ok := m.drv.(*scope); ok {
		return &s.unit
	}
	return nil
}

// Load takes up a cgroup made earlier, by what its Paths gave. The directories
// may be gone.
func Load(paths map[string]string) (*Manager, error) {
	host, err := readHost()
	if err != nil {
		return nil, err
	}
	dirs, err := host.load(paths)
	if err != nil {
		return nil, err
	}
	return &Manager{host: host, drv: newDriver(host, dirs, false)}, nil
}

func newDriver(h *host, dirs []dir, rootless bool) driver {
	if h.kind == V2 {
		return &unified{mount: dirs[0].mount, path: dirs[0].path, rootless: rootless}
	}
	return &legacy{dirs: dirs, rootless: rootless}
}

// Create makes the directories; those that exist are taken over as they are.
// What was made is removed again on error.
func (m *Manager) Create() error {
	err := m.drv.create()
	if m.rootless && (unreachable(err) || errdefs.IsPermissionDenied(err)) {
		m.drv = absent{m.host.kind}
		return nil
	}
	return err
}

// Set applies all limits and the device rules; call it before the first process
// joins. The devices that every container has (null, zero, full, random,
// urandom, tty, ptmx, pts, console) and mknod are added to the device rules;
// everything else is denied unless res allows it. Nil sets the device rules only.
// Classes: InvalidArgument, Unavailable (a limit's controller is not there).
func (m *Manager) Set(res *specs.LinuxResources) ([]Warning, error) { return m.drv.set(res, true) }

// Joined says that the container's first process is in. Call it once after Set;
// Delete does when that is not to come. It may lower a limit that left room for what
// was there before.
func (m *Manager) Joined() error {
	if s, ok := m.drv.(*scope); ok {
		return s.joined()
	}
	return nil
}

// Approach moves this process where it may clone others into the cgroup: a user's
// processes can't be moved to his part of the tree from elsewhere, but by systemd.
// Class: Unavailable when the cgroup is not one that the user's systemd keeps.
func (m *Manager) Approach(ctx context.Context) error {
	if s, ok := m.drv.(*scope); ok && s.unit.User {
		return s.approach(ctx)
	}
	return fmt.Errorf("the cgroup is none of the user's systemd: %w", errdefs.ErrUnavailable)
}

// Update applies what res sets and leaves the rest, the device rules too unless
// res has some, which then replace the old ones without a gap for what both
// allow.
func (m *Manager) Update(res *specs.LinuxResources) error {
	_, err := m.drv.set(res, false)
	return err
}

// JoinFDs opens the files that a process joins by writing "0", one per v1
// directory, write-only and close-on-exec; the caller closes them. Nil on v2.
func (m *Manager) JoinFDs() ([]*os.File, error) { return m.drv.joinFDs() }

// DirFD opens the v2 directory for CLONE_INTO_CGROUP; the caller closes it. Nil
// on v1 and hybrid.
func (m *Manager) DirFD() (*os.File, error) { return m.drv.dirFD() }

// AddPid moves a process with all its threads in.
func (m *Manager) AddPid(pid int) error { return m.drv.addPid(pid) }

// Pids lists the processes here and in the cgroups below, in no order.
// Class: NotFound.
func (m *Manager) Pids() ([]int, error) { return m.drv.pids() }

// Freeze stops all processes and returns when the kernel says that they are
// stopped; when ctx ends first, they are thawed again.
func (m *Manager) Freeze(ctx context.Context) error { return m.drv.freeze(ctx) }

// Thaw undoes Freeze.
func (m *Manager) Thaw(ctx context.Context) error { return m.drv.thaw(ctx) }

// Frozen says whether Freeze is in force (complete or under way).
func (m *Manager) Frozen() (bool, error) { return m.drv.frozen() }

// Kill sends SIGKILL to every process here and below, thaws, and returns once
// each has got it; they may not be reaped yet. No cgroup, no processes: no error.
func (m *Manager) Kill(ctx context.Context) error { return m.drv.kill(ctx) }

// Signal sends sig to every process here and below, and says how many got it.
// No cgroup, no processes: no error.
func (m *Manager) Signal(sig unix.Signal) (int, error) {
	return SignalAll(func() ([]int, error) {
		pids, err := m.Pids()
		if errdefs.IsNotFound(err) {
			return nil, nil
		}
		return pids, err
	}, sig)
}

// SignalAll sends sig to every process that list gives, and says how many got it.
func SignalAll(list func() ([]int, error), sig unix.Signal) (int, error) {
	pids, err := list()
	if err != nil {
		return 0, err
	}
	return signal(pids, list, sig)
}

// Delete removes the directories and those below, waiting a bounded time for
// dying processes to leave. Gone already is no error.
func (m *Manager) Delete(ctx context.Context) error { return m.drv.remove(ctx) }

// Paths gives the directories by controller; see the package comment for the keys.
func (m *Manager) Paths() map[string]string { return maps.Clone(m.drv.paths()) }

// Kind is that of the host.
func (m *Manager) Kind() Kind { return m.host.kind }

// Hierarchy is a v1 hierarchy of the host that the cgroup has a directory in.
type Hierarchy struct {
	Name    string   // the last part of where it is mounted
	Options []string // those that mount it
	Path    string   // the directory
}

// Hierarchies gives the v1 hierarchies in the order of the host's mounts; where
// the cgroup has no directory, that of this process.
func (m *Manager) Hierarchies() (list []Hierarchy) {
	paths := m.drv.paths()
	for _, at := range m.host.mounts {
		if at.unified {
			continue
		}
		path := paths[at.keys[0]]
		if path == "" {
			path = filepath.Join(at.point, m.host.ownBelow(at))
		}
		list = append(list, Hierarchy{Name: filepath.Base(at.point), Options: at.options(), Path: path})
	}
	return list
}

// Exists says whether any of the directories is there.
func (m *Manager) Exists() bool { return m.drv.exists() }

// Stats reads the counters; what the host does not count stays zero or nil.
func (m *Manager) Stats() (*Stats, error) { return m.drv.stats() }

// OOM tells when the kernel has run out of the cgroup's memory: on v1 when
// it is out, on v2 when it has killed. Events that come close together may be
// told once. The channel is closed when the cgroup goes away or stop is called;
// stop waits until nothing is left behind. Call it once the cgroup exists.
// Class: NotImplemented without a memory controller.
func (m *Manager) OOM() (events <-chan struct{}, stop func(), err error) { return m.drv.oom() }

// OOMKilled counts the processes that were killed for lack of memory.
func (m *Manager) OOMKilled() (uint64, error) { return m.drv.oomKilled() }

var errNoDir = errors.New("no such cgroup")
