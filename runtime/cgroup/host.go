package cgroup

import (
	"bufio"
	"bytes"
	"cmp"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/moby/sys/mountinfo"
)

// Kind is how a host's hierarchies are laid out.
type Kind int

// The kinds. The zero value: no cgroup file system is mounted.
const (
	V1 Kind = iota + 1
	Hybrid
	V2
)

func (k Kind) String() string {
	switch k {
	case V1:
		return "v1"
	case Hybrid:
		return "hybrid"
	case V2:
		return "v2"
	default:
		return "none"
	}
}

// Mode is the kind of this host, read anew each time; zero when nothing is
// mounted or /proc can't be read.
func Mode() Kind {
	h, err := readHost()
	if err != nil {
		return 0
	}
	return h.kind
}

// mount is one mounted hierarchy.
type mount struct {
	point   string   // where it is mounted
	root    string   // the cgroup that shows there, "/" or that of an outer container
	keys    []string // its controllers, or its one name ("name=systemd"); [""] when unified
	unified bool
}

// options are what mounts a v1 hierarchy anew.
func (m mount) options() []string {
	if strings.HasPrefix(m.keys[0], "name=") {
		return append([]string{"none"}, m.keys...)
	}
	return m.keys
}

// dir is a container's directory in one hierarchy.
type dir struct {
	mount mount
	path  string
}

func (d dir) has(controller string) bool { return slices.Contains(d.mount.keys, controller) }

// host is what a process sees of the cgroup file systems.
type host struct {
	kind   Kind
	mounts []mount
	own    map[string]string // this process's cgroup by key, as in /proc/self/cgroup
}

func readHost() (*host, error) {
	cg, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return nil, err
	}
	mi, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	defer mi.Close()
	lines, err := cgroupLines(mi)
	if err != nil {
		return nil, err
	}
	return parseHost(lines, bytes.NewReader(cg))
}

// cgroupLines leaves the lines of mountinfo out that can't be a cgroup file system's:
// a host has hundreds, which take long to parse, and memory to hold. One that is longer
// than the reader's buffer is none of them.
func cgroupLines(mountInfo io.Reader) (io.Reader, error) {
	few := new(bytes.Buffer)
	r := bufio.NewReaderSize(mountInfo, 4<<10)
	for whole := true; ; {
		line, err := r.ReadSlice('\n')
		if whole && bytes.Contains(line, []byte(" - cgroup")) {
			few.Write(line)
		}
		whole = err == nil
		if err == io.EOF {
			return few, nil
		}
		if err != nil && err != bufio.ErrBufferFull {
			return nil, fmt.Errorf("read mountinfo: %w", err)
		}
	}
}

// parseHost joins the two files' knowledge: what is mounted where, and which of
// a mount's options are controllers.
func parseHost(mountInfo, selfCgroup io.Reader) (*host, error) {
	own, err := parseSelf(selfCgroup)
	if err != nil {
		return nil, err
	}
	infos, err := mountinfo.GetMountsFromReader(mountInfo, mountinfo.FSTypeFilter("cgroup", "cgroup2"))
	if err != nil {
		return nil, fmt.Errorf("read mountinfo: %w", err)
	}
	h := &host{own: own}
	seen := map[string]bool{}
	for _, in := range infos {
		m := mount{point: in.Mountpoint, root: in.Root}
		if in.FSType == "cgroup2" {
			m.unified, m.keys = true, []string{""}
		} else {
			for _, o := range strings.Split(in.VFSOptions, ",") {
				if _, ok := own[o]; ok && o != "" {
					m.keys = append(m.keys, o)
				}
			}
		}
		if len(m.keys) == 0 || seen[m.keys[0]] { // mounted twice: the first is as good
			continue
		}
		seen[m.keys[0]] = true
		h.mounts = append(h.mounts, m)
	}
	h.kind, err = h.classify()
	return h, err
}

func (h *host) classify() (Kind, error) {
	uni := slices.ContainsFunc(h.mounts, func(m mount) bool { return m.unified })
	leg := slices.ContainsFunc(h.mounts, func(m mount) bool { return !m.unified })
	switch {
	case uni && leg:
		return Hybrid, nil
	case uni:
		return V2, nil
	case leg:
		return V1, nil
	default:
		return 0, fmt.Errorf("no cgroup file system is mounted: %w", errdefs.ErrUnavailable)
	}
}

// parseSelf reads lines of "4:cpu,cpuacct:/path" into path by key; the unified
// hierarchy ("0::/path") has the key "".
func parseSelf(r io.Reader) (map[string]string, error) {
	b, err := io.ReadAll(io.LimitReader(r, 1<<20))
	if err != nil {
		return nil, fmt.Errorf("read own cgroup: %w", err)
	}
	own := map[string]string{}
	for line := range strings.Lines(string(b)) {
		f := strings.SplitN(strings.TrimSuffix(line, "\n"), ":", 3)
		if len(f) != 3 {
			return nil, fmt.Errorf("own cgroup: bad line %q", line)
		}
		for _, k := range strings.Split(f[1], ",") {
			own[k] = f[2]
		}
	}
	return own, nil
}

// dirs gives the directories that path names, one per hierarchy, ordered by key.
func (h *host) dirs(path string) ([]dir, error) {
	if path == "" {
		return nil, fmt.Errorf("empty cgroup path: %w", errdefs.ErrInvalidArgument)
	}
	if strings.ContainsAny(path, "\x00\n") || len(path) > 4000 {
		return nil, fmt.Errorf("cgroup path %q: %w", path, errdefs.ErrInvalidArgument)
	}
	inner := filepath.Join("/", path) // cleaned; ".." stays inside
	if inner == "/" {
		return nil, fmt.Errorf("cgroup path %q is the root: %w", path, errdefs.ErrInvalidArgument)
	}
	var ds []dir
	for _, m := range h.mounts {
		base := m.point
		if !filepath.IsAbs(path) {
			base = filepath.Join(m.point, h.beside(m))
		}
		ds = append(ds, dir{m, filepath.Join(base, inner)})
	}
	sortDirs(ds)
	return ds, nil
}

func sortDirs(ds []dir) {
	slices.SortFunc(ds, func(a, b dir) int { return cmp.Compare(a.mount.keys[0], b.mount.keys[0]) })
}

// beside is the cgroup that relative paths begin at: ours, or on v2 the one above
// it. Ours has processes, so the kernel would hand no controllers on from it.
func (h *host) beside(m mount) string {
	own := h.ownBelow(m)
	if h.kind == V2 {
		return filepath.Dir(own)
	}
	return own
}

// ownBelow is this process's cgroup as seen below the mount point; the mount
// point itself when it lies outside of what is mounted.
func (h *host) ownBelow(m mount) string {
	rel, err := filepath.Rel(m.root, h.own[m.keys[0]])
	if err != nil || rel == ".." || strings.HasPrefix(rel, "../") {
		return "/"
	}
	return rel
}

// load finds the directories that dirs once gave. Keys whose hierarchy is not
// mounted any more are dropped.
func (h *host) load(paths map[string]string) ([]dir, error) {
	var ds []dir
	for _, m := range h.mounts {
		for _, k := range m.keys {
			p, ok := paths[k]
			if !ok {
				continue
			}
			if rel, err := filepath.Rel(m.point, p); err != nil || rel == "." || rel == ".." || strings.HasPrefix(rel, "../") {
				return nil, fmt.Errorf("cgroup %q is not below %s: %w", p, m.point, errdefs.ErrInvalidArgument)
			}
			ds = append(ds, dir{m, filepath.Clean(p)})
			break
		}
	}
	if len(ds) == 0 {
		return nil, fmt.Errorf("none of the cgroup's hierarchies is mounted: %w", errdefs.ErrInvalidArgument)
	}
	sortDirs(ds)
	return ds, nil
}

// keyed is the reverse of load.
func keyed(ds []dir) map[string]string {
	m := map[string]string{}
	for _, d := range ds {
		for _, k := range d.mount.keys {
			m[k] = d.path
		}
	}
	return m
}
