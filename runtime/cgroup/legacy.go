package cgroup

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// legacy drives the v1 hierarchies, and on hybrid hosts the unified one with
// them.
type legacy struct {
	dirs     []dir // ordered by key; create drops those it may not make (rootless)
	rootless bool
	before   before
}

func (c *legacy) paths() map[string]string { return keyed(c.dirs) }

// dirOf finds a controller's directory.
func (c *legacy) dirOf(controller string) (string, bool) {
	for _, d := range c.dirs {
		if d.has(controller) {
			return d.path, true
		}
	}
	return "", false
}

func (c *legacy) exists() bool {
	return slices.ContainsFunc(c.dirs, func(d dir) bool { return exists(d.path, "") })
}

func (c *legacy) create() (err error) {
	var made, dropped []string
	defer func() {
		if err != nil {
			for _, p := range slices.Backward(made) {
				_ = unix.Rmdir(p)
			}
		}
	}()
	for _, d := range c.dirs {
		m, err := makeDirs(d)
		made = append(made, m...)
		if c.rootless && unreachable(err) {
			dropped = append(dropped, d.path)
			continue
		}
		if err != nil {
			return err
		}
	}
	c.dirs = slices.DeleteFunc(c.dirs, func(d dir) bool { return slices.Contains(dropped, d.path) })
	if len(c.dirs) == 0 {
		return fmt.Errorf("no cgroup hierarchy may be written: %w", errdefs.ErrPermissionDenied)
	}
	return nil
}

// unreachable are the errors of a hierarchy that this process can't have a cgroup in:
// one that it may not write, or that lies below another mount.
func unreachable(err error) bool { return denied(err) || errors.Is(err, fs.ErrNotExist) }

// denied are the errors of a hierarchy that this process may not write.
func denied(err error) bool {
	return errors.Is(err, unix.EACCES) || errors.Is(err, unix.EPERM) || errors.Is(err, unix.EROFS)
}

// makeDirs makes a directory and those above it up to the mount point, and gives
// the ones that were not there. In a cpuset each takes its parent's processors
// and nodes over, without which nothing can join.
func makeDirs(d dir) (made []string, err error) {
	rel, err := filepath.Rel(d.mount.point, d.path)
	if err != nil {
		return nil, err
	}
	parent := d.mount.point
	for name := range strings.SplitSeq(rel, "/") {
		path := filepath.Join(parent, name)
		switch err := os.Mkdir(path, 0o755); {
		case err == nil:
			made = append(made, path)
		case !errors.Is(err, fs.ErrExist):
			return made, err
		}
		if d.has("cpuset") {
			if err := inheritCpuset(parent, path); err != nil {
				return made, err
			}
		}
		parent = path
	}
	return made, nil
}

func inheritCpuset(parent, child string) error {
	for _, file := range []string{"cpuset.cpus", "cpuset.mems"} {
		have, err := readFile(child, file)
		if err != nil {
			return err
		}
		if have != "" {
			continue
		}
		from, err := readFile(parent, file)
		if err != nil {
			return err
		}
		if err := writeFile(child, file, from); err != nil {
			return err
		}
	}
	return nil
}

func (c *legacy) set(res *specs.LinuxResources, first bool) ([]Warning, error) {
	ss, warnings, err := planV1(res, c.state())
	if err != nil {
		return nil, err
	}
	ss, dirOf, err := c.borrow(ss, res)
	if err != nil {
		return nil, err
	}
	if c.rootless && first {
		var left []Warning
		ss, left = possible(ss, dirOf)
		warnings = append(warnings, left...)
	}
	rules, err := c.deviceRules(res, first)
	if err != nil {
		return nil, err
	}
	if c.before != nil {
		if ss, err = c.before(ss, rules); err != nil {
			return nil, err
		}
	}
	dev, err := c.planDevices(rules)
	if err != nil {
		return nil, err
	}
	err = apply(dev, c.dirOf)
	if c.rootless && denied(err) {
		warnings, err = append(warnings, "device rules can't be set: left out"), nil
	}
	switch {
	case err == nil && first:
		err = apply(ss, dirOf)
	case err == nil:
		err = change(ss, dirOf)
	}
	if errors.Is(err, unix.EBUSY) {
		err = c.explainBusy(err)
	}
	return warnings, err
}

// explainBusy adds the figures to what the kernel says of a memory limit below
// the usage.
func (c *legacy) explainBusy(err error) error {
	dir, ok := c.dirOf("memory")
	if !ok {
		return err
	}
	usage, e1 := readUint(dir, "memory.usage_in_bytes")
	peak, e2 := readUint(dir, "memory.max_usage_in_bytes")
	if e1 != nil || e2 != nil {
		return err
	}
	return fmt.Errorf("%w (current memory usage: %d, peak usage: %d): %w", err, usage, peak, errdefs.ErrFailedPrecondition)
}

func (c *legacy) state() (now v1State) {
	now.noSwap = true
	if dir, ok := c.dirOf("memory"); ok {
		if n, err := readUint(dir, "memory.memsw.limit_in_bytes"); err == nil {
			now = v1State{memsw: n}
		}
	}
	return now
}

// deviceRules are those to be set; none if those in force stay.
func (c *legacy) deviceRules(res *specs.LinuxResources, first bool) ([]deviceRule, error) {
	if !first && len(specDevices(res)) == 0 {
		return nil, nil
	}
	if _, ok := c.dirOf("devices"); !ok { // rules that can't be enforced are refused, unless nobody wrote any
		if c.rootless || len(specDevices(res)) == 0 {
			return nil, nil
		}
		return nil, fmt.Errorf("set device rules: the cgroup controller \"devices\" is not available: %w", errdefs.ErrUnavailable)
	}
	return deviceRules(specDevices(res), true)
}

func (c *legacy) planDevices(rules []deviceRule) ([]setting, error) {
	dir, ok := c.dirOf("devices")
	if !ok || rules == nil {
		return nil, nil
	}
	want, err := listOf(rules)
	if err != nil {
		return nil, err
	}
	f, err := os.Open(filepath.Join(dir, "devices.list"))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	now, err := parseList(f)
	if err != nil {
		return nil, err
	}
	return planDevicesV1(now, want), nil
}

func specDevices(res *specs.LinuxResources) []specs.LinuxDeviceCgroup {
	if res == nil {
		return nil
	}
	return res.Devices
}

// joinFDs: tasks moves a thread, which is all of a fresh child; the unified
// hierarchy has cgroup.procs for that.
func (c *legacy) joinFDs() (fds []*os.File, err error) {
	for _, d := range c.dirs {
		file := "tasks"
		if d.mount.unified {
			file = "cgroup.procs"
		}
		f, err := openPlain(filepath.Join(d.path, file), unix.O_WRONLY)
		if c.rootless && denied(err) {
			continue
		}
		if err != nil {
			for _, f := range fds {
				f.Close()
			}
			return nil, notFound(err)
		}
		fds = append(fds, f)
	}
	return fds, nil
}

// gone are the errors of a directory that is not there, or no more.
func gone(err error) bool { return errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENODEV) }

// notFound gives a missing directory or file its class.
func notFound(err error) error {
	if gone(err) {
		return fmt.Errorf("%w: %w", err, errdefs.ErrNotFound)
	}
	return err
}

func (c *legacy) dirFD() (*os.File, error) { return nil, nil }

func (c *legacy) addPid(pid int) error {
	for _, d := range c.dirs {
		if err := addPid(d.path, pid); err != nil && !(c.rootless && denied(err)) {
			return notFound(err)
		}
	}
	return nil
}

// main is the directory whose processes stand for the container's: one that
// every container has and nobody moves processes out of.
func (c *legacy) main() string {
	for _, k := range []string{"devices", "freezer", "pids", "memory", "name=systemd"} {
		if p, ok := c.dirOf(k); ok {
			return p
		}
	}
	return c.dirs[0].path
}

func (c *legacy) pids() ([]int, error) { return pidsBelow(c.main()) }

// freezer is v1's, or on hybrid without that controller the unified one.
func (c *legacy) freezer() (freezer, error) {
	if p, ok := c.dirOf("freezer"); ok {
		return v1Freezer(p), nil
	}
	if p, ok := c.dirOf(""); ok {
		return v2Freezer(p), nil
	}
	return nil, fmt.Errorf("the cgroup controller \"freezer\" is not available: %w", errdefs.ErrUnavailable)
}

func (c *legacy) freeze(ctx context.Context) error {
	f, err := c.freezer()
	if err != nil {
		return err
	}
	return notFound(freezeAll(ctx, f))
}

func (c *legacy) thaw(context.Context) error {
	f, err := c.freezer()
	if err != nil {
		return err
	}
	return notFound(f.thaw())
}

func (c *legacy) frozen() (bool, error) {
	f, err := c.freezer()
	if err != nil {
		return false, err
	}
	ok, err := f.asked()
	return ok, notFound(err)
}

// kill freezes, so that nothing forks away and no pid is used anew, signals, and
// thaws, since what is frozen does not die. Without a freezer it signals until
// nothing new turns up.
func (c *legacy) kill(ctx context.Context) error {
	list := func() ([]int, error) {
		pids, err := c.pids()
		if errdefs.IsNotFound(err) {
			return nil, nil
		}
		return pids, err
	}
	pids, err := list()
	if err != nil || len(pids) == 0 {
		return err
	}
	f, err := c.freezer()
	if err != nil {
		return killAll(ctx, list)
	}
	return killFrozen(ctx, f, list)
}

// killFrozen goes on when freezing fails: the signal matters more.
func killFrozen(ctx context.Context, f freezer, list func() ([]int, error)) error {
	_ = f.ask()
	err := killAll(ctx, list)
	if e := f.thaw(); e != nil && !gone(e) && err == nil {
		err = fmt.Errorf("thaw: %w", e)
	}
	if err != nil {
		return err
	}
	return killAll(ctx, list) // what forked before the freezer had it
}

func (c *legacy) remove(ctx context.Context) error {
	var errs []error
	for _, d := range c.dirs {
		if err := removeTree(ctx, d.path); err != nil && !(c.rootless && denied(err)) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}
