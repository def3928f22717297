// Package intelrdt puts containers into groups of the resctrl filesystem, by which the
// kernel divides caches and memory bandwidth: OCI runtime-spec, config-linux.md, IntelRdt.
//
//	<root>/info/last_cmd_status        why the last write failed
//	      /<closID or container id>/   a control group; "/" is the root itself
//	                /schemata          one line per resource: "L3:0=7f0;1=1f"
//	                /tasks             who is in it; "0" is who writes
//	                /mon_groups/<container id>/tasks
package intelrdt

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/moby/sys/mountinfo"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// Tree is the place where resctrl is mounted.
type Tree string

const usual = "/sys/fs/resctrl"

// Find looks for a mounted resctrl. Class: FailedPrecondition when there is none.
func Find() (Tree, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(usual, &st); err == nil && st.Type == unix.RDTGROUP_SUPER_MAGIC {
		return usual, nil
	}
	mounts, err := mountinfo.GetMounts(mountinfo.FSTypeFilter("resctrl"))
	if err != nil {
		return "", fmt.Errorf("look for resctrl: %w", err)
	}
	if len(mounts) == 0 {
		return "", fmt.Errorf("linux.intelRdt: no resctrl filesystem is mounted: %w", errdefs.ErrFailedPrecondition)
	}
	return Tree(mounts[0].Mountpoint), nil
}

// Group is where a container is. The exported part is what must be kept to remove it.
type Group struct {
	Control string `json:"control"`           // its directory
	Monitor string `json:"monitor,omitempty"` // the directory of its monitoring group
	Own     bool   `json:"own,omitempty"`     // Control goes with the container

	made []string // directories to take back, in the order they were made
}

// Create makes or finds the group that r asks for and sets its schemata. A group that is
// there already must have them. Classes: InvalidArgument, NotFound.
func (t Tree) Create(id string, r *specs.LinuxIntelRdt) (_ *Group, err error) {
	if err := Validate(r); err != nil {
		return nil, err
	}
	name, lines := r.ClosID, schemata(r)
	if name == "" {
		name = id
	}
	if reserved[name] {
		return nil, fmt.Errorf("linux.intelRdt: %q is no name for a group: %w", name, errdefs.ErrInvalidArgument)
	}
	g := &Group{Control: filepath.Join(string(t), name)}
	defer func() {
		if err != nil {
			g.Undo()
		}
	}()
	made := false
	if r.ClosID == "" || len(lines) > 0 && name != "/" {
		if made, err = g.mkdir(g.Control); err != nil {
			return nil, t.explain(err)
		}
	} else if _, err := os.Stat(g.Control); err != nil {
		return nil, fmt.Errorf("linux.intelRdt: the group of closID %q must be there when no schemata are given: %w", name, err)
	}
	g.Own = made && r.ClosID == ""
	if err := t.set(g.Control, lines, made || r.ClosID == ""); err != nil {
		return nil, err
	}
	if r.EnableMonitoring {
		dir := filepath.Join(g.Control, "mon_groups", id)
		if _, err := g.mkdir(dir); err != nil {
			return nil, t.explain(err)
		}
		g.Monitor = dir
	}
	return g, nil
}

// reserved are the kernel's own directories beside groups.
var reserved = map[string]bool{"info": true, "mon_groups": true, "mon_data": true}

func (g *Group) mkdir(dir string) (made bool, err error) {
	err = os.Mkdir(dir, 0o755)
	if errors.Is(err, fs.ErrExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("make resctrl group: %w", err)
	}
	g.made = append(g.made, dir)
	return true, nil
}

// schemata are the lines to write, in the specification's order.
func schemata(r *specs.LinuxIntelRdt) (lines []string) {
	for _, l := range append([]string{r.L3CacheSchema, r.MemBwSchema}, r.Schemata...) {
		if l != "" {
			lines = append(lines, l)
		}
	}
	return lines
}

// set writes the lines to a group of the container's own and compares them in another.
func (t Tree) set(dir string, lines []string, own bool) error {
	if len(lines) == 0 {
		return nil
	}
	file := filepath.Join(dir, "schemata")
	if own {
		return t.write(file, lines)
	}
	b, err := os.ReadFile(file)
	if err != nil {
		return fmt.Errorf("read schemata: %w", err)
	}
	for _, l := range lines {
		if !holds(string(b), l) {
			return fmt.Errorf("linux.intelRdt: %q differs from what the group %s has: %w", l, filepath.Base(dir), errdefs.ErrInvalidArgument)
		}
	}
	return nil
}

func (t Tree) write(file string, lines []string) error {
	if err := os.WriteFile(file, []byte(strings.Join(lines, "\n")+"\n"), 0o600); err != nil {
		return t.explain(fmt.Errorf("write schemata %q: %w", lines, err))
	}
	return nil
}

// Update replaces the schemata of a container's group.
func (t Tree) Update(g *Group, r *specs.LinuxIntelRdt) error {
	if err := Validate(r); err != nil {
		return err
	}
	return t.set(g.Control, schemata(r), true)
}

// explain adds the kernel's words for the last failure.
func (t Tree) explain(err error) error {
	b, rerr := os.ReadFile(filepath.Join(string(t), "info", "last_cmd_status"))
	text := strings.TrimSpace(string(b))
	if rerr != nil || text == "" || text == "ok" {
		return err
	}
	return fmt.Errorf("%w: %s", err, text)
}

// Tasks opens the files that a process writes "0" to, to be in the group.
func (g *Group) Tasks() (files []*os.File, err error) {
	dirs := []string{g.Control}
	if g.Monitor != "" {
		dirs = append(dirs, g.Monitor)
	}
	for _, d := range dirs {
		f, err := os.OpenFile(filepath.Join(d, "tasks"), os.O_WRONLY, 0)
		if err != nil {
			for _, f := range files {
				f.Close()
			}
			return nil, fmt.Errorf("resctrl group: %w", err)
		}
		files = append(files, f)
	}
	return files, nil
}

// Remove removes what goes with the container. What is gone already is no error.
func (g *Group) Remove() error {
	var errs []error
	for _, dir := range []string{g.Monitor, g.ownControl()} {
		if dir != "" {
			errs = append(errs, remove(dir))
		}
	}
	return errors.Join(errs...)
}

func (g *Group) ownControl() string {
	if g.Own {
		return g.Control
	}
	return ""
}

// Undo takes back what Create has made.
func (g *Group) Undo() {
	for i := len(g.made) - 1; i >= 0; i-- {
		remove(g.made[i])
	}
}

func remove(dir string) error {
	if err := unix.Rmdir(dir); err != nil && err != unix.ENOENT {
		return fmt.Errorf("remove resctrl group %s: %w", dir, err)
	}
	return nil
}
