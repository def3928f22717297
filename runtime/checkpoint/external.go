package checkpoint

import (
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/checkpoint-restore/go-criu/v8/rpc"
	securejoin "github.com/cyphar/filepath-securejoin"
	pathrs "github.com/cyphar/filepath-securejoin/pathrs-lite"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"gantry/runtime/cgroup"
	"gantry/runtime/plan"
)

// outside is a mount of the container that shows a path of the host.
type outside struct {
	place  string // in the container, as the spec has it
	source string // on the host
}

// outsides lists what Create binds from the host, masked files aside.
func outsides(spec *specs.Spec, shown []cgroup.Hierarchy) (list []outside) {
	for _, m := range spec.Mounts {
		switch {
		case plan.IsBind(m):
			list = append(list, outside{m.Destination, m.Source})
		case m.Type == "cgroup" || m.Type == "cgroup2":
			for _, h := range shown {
				list = append(list, outside{path.Join(m.Destination, h.Name), h.Path})
			}
		}
	}
	if plan.HasUserNS(spec) {
		for _, d := range plan.Devices(spec) {
			list = append(list, outside{d, d})
		}
	}
	return list
}

// nullDevice is the name of the one outside mount that masks files.
const nullDevice = "/dev/null"

// resolver gives the real path, from the container's root, of a path in it.
type resolver func(path string) (string, error)

// running resolves in the root of a process, symbolic links and mounts minded.
func running(root *os.File) resolver {
	top := pathOf(root)
	return func(p string) (string, error) {
		f, err := pathrs.OpenatInRoot(root, p)
		if err != nil {
			return "", err
		}
		defer f.Close()
		return "/" + strings.TrimLeft(strings.TrimPrefix(pathOf(f), top), "/"), nil
	}
}

func pathOf(f *os.File) string {
	p, _ := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", f.Fd()))
	return p
}

// stored resolves in a root directory that nothing is mounted in yet.
func stored(root string) resolver {
	return func(p string) (string, error) {
		full, err := securejoin.SecureJoin(root, p)
		return "/" + strings.TrimLeft(strings.TrimPrefix(full, filepath.Clean(root)), "/"), err
	}
}

// dumpMounts names what a dump leaves out.
func dumpMounts(spec *specs.Spec, shown []cgroup.Hierarchy, real resolver) (list []*rpc.ExtMountMap, err error) {
	for _, m := range outsides(spec, shown) {
		at, err := real(m.place)
		if err != nil {
			return nil, fmt.Errorf("find mount %s: %w", m.place, err)
		}
		list = append(list, extMount(at, at))
	}
	return list, nil
}

// maskedFiles names the masks of files; directories have a file system of their own
// for a mask.
func maskedFiles(spec *specs.Spec, root *os.File) (list []*rpc.ExtMountMap) {
	real := running(root)
	for _, p := range spec.Linux.MaskedPaths {
		at, err := real(p)
		if err != nil {
			continue // not there, so not masked
		}
		var st unix.Stat_t
		if f, err := pathrs.OpenatInRoot(root, at); err == nil {
			unix.Fstat(int(f.Fd()), &st)
			f.Close()
		}
		if st.Mode&unix.S_IFMT != unix.S_IFDIR {
			list = append(list, extMount(at, nullDevice))
		}
	}
	return list
}

// restoreMounts gives what a dump has left out.
func restoreMounts(spec *specs.Spec, shown []cgroup.Hierarchy, real resolver) (list []*rpc.ExtMountMap, err error) {
	for _, m := range outsides(spec, shown) {
		at, err := real(m.place)
		if err != nil {
			return nil, fmt.Errorf("find mount %s: %w", m.place, err)
		}
		list = append(list, extMount(at, m.source))
	}
	if len(spec.Linux.MaskedPaths) > 0 {
		list = append(list, extMount(nullDevice, nullDevice))
	}
	return list, nil
}

func extMount(key, val string) *rpc.ExtMountMap { return &rpc.ExtMountMap{Key: &key, Val: &val} }

// external namespaces are those that may be joined by path and then stay outside of
// the checkpoint.
var external = []struct {
	kind specs.LinuxNamespaceType
	name string // CRIU's
	key  string // runc's, and by that part of the image's format
	min  int
}{
	{specs.NetworkNamespace, "net", "extRootNetNS", versionExtNet},
	{specs.PIDNamespace, "pid", "extRootPidNS", versionExtPid},
}

// joinNames are CRIU's for namespaces that a restore joins by path.
var joinNames = map[specs.LinuxNamespaceType]string{
	specs.IPCNamespace: "ipc", specs.UTSNamespace: "uts", specs.UserNamespace: "user",
	specs.TimeNamespace: "time", specs.MountNamespace: "mnt",
}

func joinedPath(spec *specs.Spec, kind specs.LinuxNamespaceType) string {
	for _, n := range spec.Linux.Namespaces {
		if n.Type == kind {
			return n.Path
		}
	}
	return ""
}

// dumpNamespaces names the namespaces that a dump leaves out.
func dumpNamespaces(spec *specs.Spec, version int) (list []string, err error) {
	for _, e := range external {
		p := joinedPath(spec, e.kind)
		if p == "" {
			continue
		}
		if version < e.min {
			return nil, fmt.Errorf("criu lacks support for external %s namespace: %w", e.name, atLeast(version, e.min))
		}
		var st unix.Stat_t
		if err := unix.Stat(p, &st); err != nil {
			return nil, fmt.Errorf("%s namespace %s: %w", e.name, p, err)
		}
		list = append(list, fmt.Sprintf("%s[%d]:%s", e.name, st.Ino, e.key))
	}
	return list, nil
}

// given are namespaces for a restore.
type given struct {
	files   []*os.File
	inherit []*rpc.InheritFd
	join    []*rpc.JoinNamespace
}

func (g *given) close() {
	for _, f := range g.files {
		f.Close()
	}
}

// restoreNamespaces opens what a dump has left out, for descriptors from first on.
func restoreNamespaces(spec *specs.Spec, version, first int) (g given, err error) {
	defer func() {
		if err != nil {
			g.close()
		}
	}()
	for _, e := range external {
		p := joinedPath(spec, e.kind)
		if p == "" {
			continue
		}
		if version < e.min {
			return g, fmt.Errorf("criu lacks support for external %s namespace: %w", e.name, atLeast(version, e.min))
		}
		f, err := os.Open(p)
		if err != nil {
			return g, fmt.Errorf("%s namespace: %w", e.name, err)
		}
		g.inherit = append(g.inherit, &rpc.InheritFd{Key: ptr(e.key), Fd: ptr(int32(first + len(g.files)))})
		g.files = append(g.files, f)
	}
	for _, n := range spec.Linux.Namespaces {
		switch name := joinNames[n.Type]; {
		case n.Path == "" || n.Type == specs.NetworkNamespace || n.Type == specs.PIDNamespace:
		case name == "":
			return g, fmt.Errorf("restore into the %s namespace %s: criu can't", n.Type, n.Path)
		default:
			g.join = append(g.join, &rpc.JoinNamespace{Ns: ptr(name), NsFile: ptr(n.Path)})
		}
	}
	return g, nil
}
