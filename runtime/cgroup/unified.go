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

// unified drives v2.
type unified struct {
	mount    mount
	path     string
	rootless bool
	before   before
}

func (c *unified) paths() map[string]string    { return map[string]string{"": c.path} }
func (c *unified) exists() bool                { return exists(c.path, "") }
func (c *unified) dirOf(string) (string, bool) { return c.path, true }

// create makes the directories and enables all controllers on the way. The
// kernel lets a directory hold either processes or enabled controllers: one on
// the way that has processes keeps its controllers from us, which only matters
// (and is told) when a limit needs one.
func (c *unified) create() error {
	rel, err := filepath.Rel(c.mount.point, c.path)
	if err != nil {
		return err
	}
	var made []string
	parent := c.mount.point
	for name := range strings.SplitSeq(rel, "/") {
		c.enable(parent)
		parent = filepath.Join(parent, name)
		err := os.Mkdir(parent, 0o755)
		if errors.Is(err, fs.ErrExist) {
			continue
		}
		if err != nil {
			for _, p := range slices.Backward(made) {
				_ = unix.Rmdir(p)
			}
			return err
		}
		made = append(made, parent)
	}
	return nil
}

// enable hands dir's controllers down; all at once, else each that goes. None where
// there are processes: those controllers that the kernel would then hand down make
// what is below threaded, where no container's process may go.
func (c *unified) enable(dir string) {
	have, err := readFile(dir, "cgroup.controllers")
	if err != nil {
		return
	}
	on, _ := readFile(dir, "cgroup.subtree_control")
	all := missing(strings.Fields(have), strings.Fields(on))
	if len(all) == 0 {
		return
	}
	err = writeFile(dir, "cgroup.subtree_control", strings.Join(all, " "))
	if err == nil || errors.Is(err, unix.EBUSY) {
		return
	}
	for _, one := range all {
		_ = writeFile(dir, "cgroup.subtree_control", one)
	}
}

// missing gives "+controller" for those that are there but not on.
func missing(have, on []string) (plus []string) {
	for _, c := range have {
		if !slices.Contains(on, c) {
			plus = append(plus, "+"+c)
		}
	}
	return plus
}

// domainControllers have no files in threaded cgroups.
var domainControllers = []string{"memory", "io", "hugetlb", "rdma", "misc"}

// checkType: below a cgroup that holds processes and hands controllers down, or that
// is threaded, there are only threaded cgroups, in which some controllers don't work.
// One that is invalid until it is made threaded takes no process.
func (c *unified) checkType(ss []setting) error {
	kind, err := readFile(c.path, "cgroup.type")
	if err != nil || kind == "domain" {
		return nil // the mount's own directory has no type
	}
	for _, s := range ss {
		if !slices.Contains(domainControllers, s.controller) {
			continue
		}
		state := "in " + kind + " mode"
		if kind == "domain invalid" {
			state = "in an invalid state"
		}
		return fmt.Errorf("cannot enter cgroupv2 %q with domain controllers -- it is %s: %w", c.path, state, errdefs.ErrFailedPrecondition)
	}
	if kind == "domain invalid" {
		return writeFile(c.path, "cgroup.type", "threaded")
	}
	return nil
}

func (c *unified) set(res *specs.LinuxResources, first bool) ([]Warning, error) {
	ss, warnings, err := planV2(res, c.state())
	if err != nil {
		return nil, err
	}
	if c.rootless && first {
		var left []Warning
		ss, left = possible(ss, c.dirOf)
		warnings = append(warnings, left...)
	}
	var rules []deviceRule
	if first || res != nil && len(res.Devices) > 0 {
		if rules, err = deviceRules(specDevices(res), true); err != nil {
			return nil, err
		}
	}
	if c.before != nil {
		if ss, err = c.before(ss, rules); err != nil {
			return nil, err
		}
	}
	if first {
		if err := c.checkType(ss); err != nil {
			return nil, err
		}
	}
	if rules != nil {
		err = attachDevices(c.path, rules)
		if c.rootless {
			err = nil // who may not set rules, for which there are many errors, can make no device nodes either
		}
		if err != nil {
			return nil, err
		}
	}
	if first {
		return warnings, apply(ss, c.dirOf)
	}
	return warnings, change(ss, c.dirOf)
}

func (c *unified) state() (now v2State) {
	now.cpuMax, _ = readFile(c.path, "cpu.max")
	now.usage, _ = readUint(c.path, "memory.current")
	return now
}

func (c *unified) joinFDs() ([]*os.File, error) { return nil, nil }

func (c *unified) dirFD() (*os.File, error) {
	f, err := os.OpenFile(c.path, unix.O_DIRECTORY|unix.O_PATH, 0)
	return f, notFound(err)
}

// addPid into a cgroup with children that have controllers is refused by the
// kernel (EBUSY), with a text that does not say so.
func (c *unified) addPid(pid int) error {
	err := addPid(c.path, pid)
	if errors.Is(err, unix.EBUSY) {
		return fmt.Errorf("%w: the cgroup hands controllers to cgroups below it, so it may hold no processes: %w", err, errdefs.ErrFailedPrecondition)
	}
	return notFound(err)
}

func (c *unified) pids() ([]int, error) { return pidsBelow(c.path) }

func (c *unified) freeze(ctx context.Context) error {
	return notFound(freezeAll(ctx, v2Freezer(c.path)))
}

func (c *unified) thaw(context.Context) error { return notFound(v2Freezer(c.path).thaw()) }

func (c *unified) frozen() (bool, error) {
	ok, err := v2Freezer(c.path).asked()
	return ok, notFound(err)
}

// kill uses cgroup.kill (Linux 5.14); it reaches frozen processes too.
func (c *unified) kill(ctx context.Context) error {
	if !c.exists() {
		return nil
	}
	err := writeFile(c.path, "cgroup.kill", "1")
	if errors.Is(err, fs.ErrNotExist) && c.exists() {
		return killFrozen(ctx, v2Freezer(c.path), func() ([]int, error) {
			pids, err := c.pids()
			if errdefs.IsNotFound(err) {
				return nil, nil
			}
			return pids, err
		})
	}
	if gone(err) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := c.thaw(ctx); err != nil && !errdefs.IsNotFound(err) {
		return err
	}
	return nil
}

func (c *unified) remove(ctx context.Context) error { return removeTree(ctx, c.path) }
