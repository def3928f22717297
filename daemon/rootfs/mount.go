package rootfs

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"gantry/api/thread"
	"gantry/libctr/core/mount"
)

const attrs = unix.MOUNT_ATTR_NODEV | unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NOEXEC

// detached makes a mount that is in no tree and returns its descriptor.
func detached(m mount.Mount, writable bool) (int, error) {
	switch m.Type {
	case "bind", "rbind":
		return bind(m, writable)
	case "overlay":
		return overlay(m, writable)
	}
	return -1, fmt.Errorf("mount type %q is not known here", m.Type)
}

func bind(m mount.Mount, writable bool) (int, error) {
	fd, err := unix.OpenTree(unix.AT_FDCWD, m.Source, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err != nil {
		return -1, fmt.Errorf("open_tree %s: %w", m.Source, err)
	}
	attr := unix.MountAttr{Attr_set: attrs}
	if !writable || has(m.Options, "ro") {
		attr.Attr_set |= unix.MOUNT_ATTR_RDONLY
	}
	if err := setIDs(&attr, m.Options); err != nil {
		unix.Close(fd)
		return -1, err
	}
	if err := unix.MountSetattr(fd, "", unix.AT_EMPTY_PATH, &attr); err != nil {
		unix.Close(fd)
		return -1, fmt.Errorf("mount_setattr %s: %w", m.Source, err)
	}
	return fd, nil
}

func has(options []string, name string) bool {
	for _, o := range options {
		if o == name {
			return true
		}
	}
	return false
}

// layers are an overlay's options, its directories apart from the rest.
type layers struct {
	lower       []string // topmost first
	upper, work string
	rest        []string
	readOnly    bool

	ids    []string // options that map the ids of
	mapped []string // these of the lower ones
}

func parse(options []string) layers {
	var l layers
	for _, o := range options {
		key, value, _ := strings.Cut(o, "=")
		switch key {
		case "lowerdir":
			l.lower = append(l.lower, strings.Split(value, ":")...)
		case "lowerdir+":
			l.lower = append(l.lower, value)
		case "upperdir":
			l.upper = value
		case "workdir":
			l.work = value
		case "ro":
			l.readOnly = true
		case "rw", "":
		case "uidmap", "gidmap":
			l.ids = append(l.ids, o)
		default:
			l.rest = append(l.rest, o)
		}
	}
	if len(l.ids) > 0 {
		l.mapped = l.lower
	}
	return l
}

// withoutUpper turns the upper directory into the topmost lower one. Options that only
// mean something for writing go.
func (l layers) withoutUpper() layers {
	if l.upper != "" {
		l.lower = append([]string{l.upper}, l.lower...)
	}
	l.upper, l.work, l.readOnly = "", "", true
	var rest []string
	for _, o := range l.rest {
		if o != "volatile" && o != "uuid=on" {
			rest = append(rest, o)
		}
	}
	l.rest = rest
	return l
}

// overlay mounts by descriptors of its directories: fsconfig cuts strings at 255
// bytes, and a path may hold a colon.
func overlay(m mount.Mount, writable bool) (int, error) {
	l := parse(m.Options)
	if !writable {
		l = l.withoutUpper()
	}
	return mountLayers(l)
}

func mountLayers(l layers) (int, error) {
	if l.upper == "" && len(l.lower) == 1 { // overlayfs wants two
		return bind(mount.Mount{Type: "bind", Source: l.lower[0], Options: l.idsOf(l.lower[0])}, false)
	}
	if len(l.mapped) > 0 {
		return mountMapped(l)
	}
	fd, err := fsmountOverlay(l)
	if errors.Is(err, errOldKernel) {
		return mountOverlay(l)
	}
	return fd, err
}

// openedDirs are /proc/self/fd paths of an overlay's directories.
type openedDirs struct {
	files       []*os.File
	lower       []string
	upper, work string
}

func (d *openedDirs) close() {
	for _, f := range d.files {
		f.Close()
	}
}

func (d *openedDirs) open(path string) (string, error) {
	f, err := os.OpenFile(path, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", err
	}
	d.files = append(d.files, f)
	return "/proc/thread-self/fd/" + strconv.Itoa(int(f.Fd())), nil
}

func openDirs(l layers) (_ *openedDirs, err error) {
	d := &openedDirs{}
	defer func() {
		if err != nil {
			d.close()
		}
	}()
	for _, path := range l.lower {
		p, err := d.open(path)
		if err != nil {
			return nil, err
		}
		d.lower = append(d.lower, p)
	}
	if l.upper == "" {
		return d, nil
	}
	if d.upper, err = d.open(l.upper); err != nil {
		return nil, err
	}
	d.work, err = d.open(l.work)
	return d, err
}

// errOldKernel says that lowerdir+ is missing and one string is too short.
var errOldKernel = errors.New("kernel has no lowerdir+")

// maxString is what fsconfig takes as one value, in bytes.
const maxString = 255

func fsmountOverlay(l layers) (int, error) {
	d, err := openDirs(l)
	if err != nil {
		return -1, err
	}
	defer d.close()
	fsfd, err := unix.Fsopen("overlay", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return -1, fmt.Errorf("fsopen overlay: %w", err)
	}
	defer unix.Close(fsfd)
	if err := configure(fsfd, l, d); err != nil {
		return -1, err
	}
	if err := unix.FsconfigCreate(fsfd); err != nil {
		return -1, fmt.Errorf("create overlay: %w", withLog(fsfd, err))
	}
	flags := attrs
	if l.readOnly {
		flags |= unix.MOUNT_ATTR_RDONLY
	}
	fd, err := unix.Fsmount(fsfd, unix.FSMOUNT_CLOEXEC, flags)
	if err != nil {
		return -1, fmt.Errorf("fsmount overlay: %w", err)
	}
	return fd, nil
}

func configure(fsfd int, l layers, d *openedDirs) error {
	set := func(key, value string) error {
		if err := unix.FsconfigSetString(fsfd, key, value); err != nil {
			return fmt.Errorf("set %s of overlay: %w", key, withLog(fsfd, err))
		}
		return nil
	}
	if err := setLower(fsfd, d); err != nil {
		return err
	}
	if d.upper != "" {
		if err := errors.Join(set("upperdir", d.upper), set("workdir", d.work)); err != nil {
			return err
		}
	}
	for _, o := range l.rest {
		key, value, valued := strings.Cut(o, "=")
		var err error
		if valued {
			err = set(key, value)
		} else if err = unix.FsconfigSetFlag(fsfd, key); err != nil {
			err = fmt.Errorf("set %s of overlay: %w", key, withLog(fsfd, err))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// lowerPlus says whether overlayfs takes its layers one by one. Before it spoke the
// mount API itself (6.5), fsconfig took any key and told at the end.
var lowerPlus = sync.OnceValue(func() bool {
	fsfd, err := unix.Fsopen("overlay", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return false
	}
	defer unix.Close(fsfd)
	if unix.FsconfigSetString(fsfd, "no-such-option", "x") == nil {
		return false
	}
	return unix.FsconfigSetString(fsfd, "lowerdir+", "/") == nil // a layer that is not there would go to the console
})

func setLower(fsfd int, d *openedDirs) error {
	if !lowerPlus() {
		return setLowerString(fsfd, d)
	}
	for _, p := range d.lower {
		if err := unix.FsconfigSetString(fsfd, "lowerdir+", p); err != nil {
			return fmt.Errorf("set lowerdir+ of overlay: %w", withLog(fsfd, err))
		}
	}
	return nil
}

func setLowerString(fsfd int, d *openedDirs) error {
	all := strings.Join(d.lower, ":")
	if len(all) > maxString {
		return errOldKernel
	}
	if err := unix.FsconfigSetString(fsfd, "lowerdir", all); err != nil {
		return fmt.Errorf("set lowerdir of overlay: %w", err)
	}
	return nil
}

// withLog adds what the kernel wrote into the file system context.
func withLog(fsfd int, err error) error {
	buf := make([]byte, 512)
	n, readErr := unix.Read(fsfd, buf)
	if readErr != nil || n <= 2 {
		return err
	}
	return fmt.Errorf("%w (%s)", err, strings.TrimSpace(string(buf[2:n])))
}

// mountOverlay is for kernels before 6.5 and many layers: mount(2) takes a page of
// options, but needs a place. That is made in a mount namespace of a thread's own,
// which ends with the thread.
func mountOverlay(l layers) (fd int, err error) {
	thread.Apart(func() { fd, err = mountAside(l) })
	return fd, err
}

// place is a directory that is surely there; what is mounted on it is seen by nobody.
const place = "/proc"

// mountAside opens the directories itself: overlayfs takes only those that were
// reached in its own mount namespace.
func mountAside(l layers) (int, error) {
	if err := ownMounts(); err != nil {
		return -1, err
	}
	return mountOnPlace(l)
}

// ownMounts gives the calling thread a mount namespace of its own.
func ownMounts() error {
	if err := unix.Unshare(unix.CLONE_NEWNS | unix.CLONE_FS); err != nil {
		return fmt.Errorf("unshare mount namespace: %w", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	return nil
}

func mountOnPlace(l layers) (int, error) {
	d, err := openDirs(l)
	if err != nil {
		return -1, err
	}
	defer d.close()
	options := append([]string{"lowerdir=" + strings.Join(d.lower, ":")}, l.rest...)
	if d.upper != "" {
		options = append(options, "upperdir="+d.upper, "workdir="+d.work)
	}
	flags := uintptr(unix.MS_NODEV | unix.MS_NOSUID | unix.MS_NOEXEC)
	if l.readOnly {
		flags |= unix.MS_RDONLY
	}
	data := strings.Join(options, ",")
	if err := unix.Mount("overlay", place, "overlay", flags, data); err != nil {
		return -1, fmt.Errorf("mount overlay of %d layers: %w", len(d.lower), err)
	}
	fd, err := unix.OpenTree(unix.AT_FDCWD, place, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err != nil {
		return -1, fmt.Errorf("open_tree overlay: %w", err)
	}
	return fd, nil
}
