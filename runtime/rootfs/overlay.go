package rootfs

import (
	"fmt"
	"path"
	"strings"
	"sync"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"gantry/runtime/program"
)

// Options are facts about the host.
type Options struct {
	// LowerPlus says that overlayfs takes its layers one by one ("lowerdir+"); see
	// HasLowerPlus.
	LowerPlus bool
	// MountPoint is an existing directory that a mount(2) may cover, needed where
	// the layers are too many or too long for fsconfig.
	MountPoint string
}

// HasLowerPlus asks the kernel whether overlayfs knows "lowerdir+". Before overlayfs
// spoke the mount API itself (6.5), fsconfig took any key and told at the end.
var HasLowerPlus = sync.OnceValue(func() bool {
	fs, err := unix.Fsopen("overlay", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return false
	}
	defer unix.Close(fs)
	if unix.FsconfigSetString(fs, "no-such-option", "x") == nil {
		return false
	}
	return unix.FsconfigSetString(fs, "lowerdir+", "/") == nil // a layer that is not there would go to the console
})

const fsStringMax = 255 // bytes of a value that fsconfig takes

// Root adds the ops that mount m, whose Target is left aside, and gives its
// register: a detached mount, or one that is attached already at o.MountPoint. Where m has
// id maps (IDMaps), the program needs InIDMap.
// The class of an error is InvalidArgument.
func Root(p *program.Program, m Mount, o Options) (root program.Reg, attached bool, err error) {
	if _, _, err := IDMaps(m); err != nil {
		return 0, false, err
	}
	f := ParseOptions(withoutIDMaps(m.Options))
	switch {
	case f.Bind || m.Type == "bind" || m.Type == "rbind":
		return bind(p, m, f), false, nil
	case m.Type == "overlay":
		return overlay(p, f, o, NeedsIDMap(m))
	case NeedsIDMap(m):
		return 0, false, fmt.Errorf("mount of type %q can't have id maps: %w", m.Type, errdefs.ErrInvalidArgument)
	case m.Type == "":
		return 0, false, fmt.Errorf("mount %q of the root filesystem has no type: %w", m.Source, errdefs.ErrInvalidArgument)
	}
	p.Label("mount root filesystem %s", m.Type)
	r, err := New(p, "root", m.Type, m.Source, f)
	return r, false, err
}

func bind(p *program.Program, m Mount, f Flags) program.Reg {
	p.Label("bind root filesystem %s", m.Source)
	how := uint(unix.OPEN_TREE_CLONE | unix.AT_RECURSIVE)
	r, _ := p.OpenTree("root", program.Cwd, m.Source, how)
	if NeedsIDMap(m) {
		p.SetAttr(r, program.Attr{Set: unix.MOUNT_ATTR_IDMAP, UserNS: p.Input(InIDMap)}, false)
	}
	if !f.Attr.Zero() {
		p.SetAttr(r, f.Attr, false)
	}
	if !f.Recursive.Zero() {
		p.SetAttr(r, f.Recursive, true)
	}
	Propagate(p, r, f)
	return r
}

// Propagate adds the ops that set a mount's propagation: several in turn, since a mount may
// be a slave and shared.
func Propagate(p *program.Program, r program.Reg, f Flags) {
	for _, how := range f.Propagation {
		p.SetAttr(r, program.Attr{Propagation: how &^ unix.MS_REC}, how&unix.MS_REC != 0)
	}
}

// New adds the ops that make a detached mount of a new filesystem.
func New(p *program.Program, name, fstype, source string, f Flags) (program.Reg, error) {
	fs, _ := p.FSOpen("fs", fstype)
	r := p.Reg(name)
	return r, NewIn(p, r, fs, source, f)
}

// NewIn is New for a configuration that has been opened, into a register that is there.
func NewIn(p *program.Program, r, fs program.Reg, source string, f Flags) error {
	if err := Configure(p, fs, source, f); err != nil {
		return err
	}
	p.FSMountTo(r, fs, f.Attr.Set)
	return nil
}

// Configure adds the ops that hand a filesystem its source and options. One on a device is
// itself read-only, not its mount alone: a device may be.
func Configure(p *program.Program, fs program.Reg, source string, f Flags) error {
	if source != "" {
		if err := set(p, fs, "source="+source); err != nil {
			return err
		}
	}
	if strings.HasPrefix(source, "/") && f.ReadOnly() {
		p.FSFlag(fs, "ro")
	}
	for _, s := range f.Super {
		p.FSFlag(fs, s).Detail("option %s", s)
	}
	for _, d := range f.Data {
		if err := set(p, fs, d); err != nil {
			return err
		}
	}
	return nil
}

func set(p *program.Program, fs program.Reg, option string) error {
	key, value, ok := strings.Cut(option, "=")
	switch {
	case !ok:
		p.FSFlag(fs, key).Detail("option %s", key)
	case len(value) > fsStringMax:
		return fmt.Errorf("mount option %s: value longer than %d bytes: %w", key, fsStringMax, errdefs.ErrInvalidArgument)
	default:
		p.FSString(fs, key, value).Detail("option %s", option)
	}
	return nil
}

func overlay(p *program.Program, f Flags, o Options, mapped bool) (program.Reg, bool, error) {
	lower, rest := splitLower(f.Data)
	if mapped {
		mapInPlace(p, lower)
	}
	p.Label("mount root filesystem overlay")
	if fits(lower, rest, o.LowerPlus) {
		return overlayByConfig(p, f, lower, rest), false, nil
	}
	if o.MountPoint == "" {
		return 0, false, fmt.Errorf("overlay of %d layers needs a directory to mount on: %w", len(lower), errdefs.ErrInvalidArgument)
	}
	return overlayByMount(p, f, lower, rest, o)
}

// splitLower takes the layers, top first, out of the options; "\:" is a colon
// in a name.
func splitLower(data []string) (lower, rest []string) {
	for _, d := range data {
		v, ok := strings.CutPrefix(d, "lowerdir=")
		if !ok {
			rest = append(rest, d)
			continue
		}
		for _, l := range strings.Split(strings.ReplaceAll(v, `\:`, "\x00"), ":") {
			lower = append(lower, strings.ReplaceAll(l, "\x00", ":"))
		}
	}
	return lower, rest
}

func fits(lower, rest []string, plus bool) bool {
	for _, d := range rest {
		if _, v, _ := strings.Cut(d, "="); len(v) > fsStringMax {
			return false
		}
	}
	if !plus {
		return len(joinLower(lower)) <= fsStringMax
	}
	for _, l := range lower {
		if len(l) > fsStringMax {
			return false
		}
	}
	return true
}

func joinLower(lower []string) string {
	escaped := make([]string, len(lower))
	for i, l := range lower {
		escaped[i] = strings.ReplaceAll(l, ":", `\:`)
	}
	return strings.Join(escaped, ":")
}

func overlayByConfig(p *program.Program, f Flags, lower, rest []string) program.Reg {
	fs, _ := p.FSOpen("fs", "overlay")
	p.FSString(fs, "source", "overlay")
	if len(joinLower(lower)) <= fsStringMax {
		p.FSString(fs, "lowerdir", joinLower(lower))
	} else {
		for _, l := range lower {
			p.FSString(fs, "lowerdir+", l)
		}
	}
	for _, d := range rest {
		if k, v, ok := strings.Cut(d, "="); ok {
			p.FSString(fs, k, v)
		} else {
			p.FSFlag(fs, k)
		}
	}
	r, _ := p.FSMount("root", fs, f.Attr.Set)
	return r
}

// overlayByMount has one page for all options: layers are named relative to the
// directory they share.
func overlayByMount(p *program.Program, f Flags, lower, rest []string, o Options) (program.Reg, bool, error) {
	dir := commonDir(lower)
	short := make([]string, len(lower))
	for i, l := range lower {
		short[i] = strings.TrimPrefix(strings.TrimPrefix(l, dir), "/")
	}
	options := strings.Join(append([]string{"lowerdir=" + joinLower(short)}, rest...), ",")
	if len(options) >= 4096 {
		return 0, false, fmt.Errorf("overlay of %d layers: %d bytes of options do not fit a page: %w", len(lower), len(options), errdefs.ErrInvalidArgument)
	}
	p.Call("chdir", unix.SYS_CHDIR, program.Str(dir))
	p.Mount("overlay", o.MountPoint, "overlay", mountFlags(f.Attr.Set), options)
	p.Call("chdir", unix.SYS_CHDIR, program.Str("/"))
	r, _ := p.Open("root", program.Cwd, o.MountPoint, unix.O_PATH|unix.O_DIRECTORY)
	return r, true, nil
}

// commonDir is the deepest directory above all paths, which are absolute.
func commonDir(paths []string) string {
	dir := path.Dir(paths[0])
	for _, p := range paths[1:] {
		for dir != "/" && !strings.HasPrefix(p, dir+"/") {
			dir = path.Dir(dir)
		}
	}
	return dir
}

// mountFlags are the MS_ flags of the MOUNT_ATTR_ ones, which differ above
// noexec.
func mountFlags(attr uint64) uintptr {
	flags := attr & (unix.MS_RDONLY | unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC)
	if attr&unix.MOUNT_ATTR__ATIME == unix.MOUNT_ATTR_NOATIME {
		flags |= unix.MS_NOATIME
	}
	return uintptr(flags)
}
