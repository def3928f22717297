package plan

import (
	"fmt"
	"maps"
	"os"
	"path"
	"slices"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"gantry/runtime/program"
)

// defaultDevices are what every container gets: OCI runtime-spec,
// config-linux.md, default devices.
var defaultDevices = []specs.LinuxDevice{
	device("/dev/null", 1, 3), device("/dev/zero", 1, 5), device("/dev/full", 1, 7),
	device("/dev/random", 1, 8), device("/dev/urandom", 1, 9), device("/dev/tty", 5, 0),
}

var mode0666 = func() *os.FileMode { m := os.FileMode(0o666); return &m }()

func device(p string, major, minor int64) specs.LinuxDevice {
	return specs.LinuxDevice{Path: p, Type: "c", Major: major, Minor: minor, FileMode: mode0666}
}

var devLinks = []struct{ name, target string }{
	{"fd", "/proc/self/fd"}, {"stdin", "/proc/self/fd/0"}, {"stdout", "/proc/self/fd/1"},
	{"stderr", "/proc/self/fd/2"}, {"core", "/proc/kcore"},
}

// ownsDev says whether /dev is ours to fill: it is not when it shows the host's.
func (b *builder) ownsDev() bool {
	for _, m := range b.spec.Mounts {
		if path.Clean(m.Destination) == "/dev" && IsBind(m) {
			return false
		}
	}
	return true
}

func (b *builder) devices() error {
	given := map[string]bool{}
	for _, d := range b.spec.Linux.Devices {
		given[path.Clean(d.Path)] = true
	}
	for _, d := range defaultDevices {
		if !given[d.Path] {
			b.node(d, false)
		}
	}
	for _, d := range b.spec.Linux.Devices {
		if path.Clean(d.Path) == "/dev/ptmx" {
			continue // a link below
		}
		if _, err := deviceKind(d.Type); err != nil {
			return fmt.Errorf("device %s: %w", d.Path, err)
		}
		b.node(d, true)
	}
	b.links()
	b.Label("close device directories")
	for _, p := range slices.Sorted(maps.Keys(b.dirs)) {
		b.Close(b.dirs[p])
	}
	return nil
}

func deviceKind(t string) (uint32, error) {
	switch t {
	case "c", "u":
		return unix.S_IFCHR, nil
	case "b":
		return unix.S_IFBLK, nil
	case "p":
		return unix.S_IFIFO, nil
	}
	return 0, fmt.Errorf("unknown device type %q: %w", t, errdefs.ErrInvalidArgument)
}

// node makes a device, or shows the host's where none can be made. Strict refuses what is
// there already and is not that device: OCI runtime-spec, config-linux.md, devices.
func (b *builder) node(d specs.LinuxDevice, strict bool) {
	kind, _ := deviceKind(d.Type)
	if b.bindsDevices() && kind != unix.S_IFIFO {
		b.bindDevice(d)
		return
	}
	b.Label("make device %s", d.Path)
	mode, major, minor := kind|0o666, uint32(d.Major), uint32(d.Minor)
	if d.FileMode != nil {
		mode = kind | uint32(*d.FileMode)&0o7777
	}
	if kind == unix.S_IFIFO {
		major, minor = 0, 0
	}
	dir, name := b.dir(path.Dir(path.Clean("/"+d.Path))), path.Base(d.Path)
	o := b.Call("mknodat", unix.SYS_MKNODAT, program.From(dir), program.Str(name),
		program.Named(mode, fmt.Sprintf("%#o", mode)),
		program.Named(unix.Mkdev(major, minor), fmt.Sprintf("%d:%d", major, minor))).Tolerate(unix.EEXIST)
	own := func() { b.ownNode(dir, name, d) }
	if !strict {
		b.IfOK(o, own)
		return
	}
	b.IfElse(o, own, func() {
		is, _ := b.Open("is", program.From(dir), name, unix.O_PATH|unix.O_NOFOLLOW)
		st := b.Statx(is)
		b.Check(st, program.StatxMode, unix.S_IFMT, kind, unix.EEXIST)
		b.Check(st, program.StatxMajor, ^uint32(0), major, unix.EEXIST)
		b.Check(st, program.StatxMinor, ^uint32(0), minor, unix.EEXIST)
		b.Close(is)
	})
}

func (b *builder) ownNode(dir program.Reg, name string, d specs.LinuxDevice) {
	if uid, gid := id(d.UID), id(d.GID); uid != 0 || gid != 0 {
		b.Call("fchownat", unix.SYS_FCHOWNAT, program.From(dir), program.Str(name), program.Num(uid), program.Num(gid), nofollow)
	}
}

func (b *builder) bindDevice(d specs.LinuxDevice) {
	b.Label("bind device %s", d.Path)
	src, _ := b.OpenTree("device", program.Cwd, d.Path, unix.OPEN_TREE_CLONE)
	to, _ := b.MakeFile("to", b.root, d.Path)
	b.Attach(src, to)
	b.Close(to)
	b.Close(src)
}

var nofollow = program.Named(unix.AT_SYMLINK_NOFOLLOW, "SYMLINK_NOFOLLOW")

func id(p *uint32) uint32 {
	if p == nil {
		return 0
	}
	return *p
}

// dir opens a directory below the root, once.
func (b *builder) dir(p string) program.Reg {
	if r, ok := b.dirs[p]; ok {
		return r
	}
	r, _ := b.MakePath("dir", b.root, p, 0)
	b.dirs[p] = r
	return r
}

func (b *builder) links() {
	b.Label("make links in /dev")
	dev := program.From(b.dir("/dev"))
	for _, l := range devLinks {
		b.Call("symlinkat", unix.SYS_SYMLINKAT, program.Str(l.target), dev, program.Str(l.name)).Tolerate(unix.EEXIST)
	}
	b.Call("unlinkat", unix.SYS_UNLINKAT, dev, program.Str("ptmx"), program.Num(0)).Tolerate(unix.ENOENT)
	b.Call("symlinkat", unix.SYS_SYMLINKAT, program.Str("pts/ptmx"), dev, program.Str("ptmx"))
}

// Devices are the paths of the devices that a container gets from the spec and
// always.
func Devices(spec *specs.Spec) (paths []string) {
	given := map[string]bool{"/dev/ptmx": true}
	for _, d := range spec.Linux.Devices {
		if p := path.Clean(d.Path); !given[p] {
			given[p] = true
			paths = append(paths, p)
		}
	}
	for _, d := range defaultDevices {
		if !given[d.Path] {
			paths = append(paths, d.Path)
		}
	}
	return paths
}
