package rootfs

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"gantry/libctr/core/mount"
)

// errMerged says that the directories don't tell by themselves what the merged view has.
var errMerged = errors.New("the merged view has to tell")

// readUnmounted reads files of one directory of the root, by their names, from the
// layers of an overlay: a mount costs ten times as much, and beside a running container
// the kernel warns of it. What is not there is nil, and a file is cut at limit bytes. An
// error means that only the merged view can tell; it is none of the caller's. Layers below
// the one that decides are not looked at, even if they would make the view an error.
//
// The rules are those of the kernel's Documentation/filesystems/overlayfs.rst.
func readUnmounted(mounts []mount.Mount, dir string, names []string, limit int64) ([][]byte, error) {
	if len(mounts) != 1 || mounts[0].Target != "" || mounts[0].Type != "overlay" {
		return nil, errMerged
	}
	l := parse(mounts[0].Options)
	if !l.plain() {
		return nil, errMerged
	}
	r := layerReader{dir: dir, xattrs: l.xattrs(), limit: limit}
	r.want(names)
	for _, layer := range l.withoutUpper().lower {
		if last, err := r.layer(layer); err != nil || last {
			return r.found, err
		}
	}
	return r.found, nil
}

// plain says whether the options change nothing in how a path is looked up, apart from
// what the attributes of the files say.
func (l layers) plain() bool {
	for _, o := range l.rest {
		key, _, _ := strings.Cut(o, "=")
		if !slices.Contains([]string{"index", "metacopy", "redirect_dir", "userxattr", "uuid", "volatile", "xino"}, key) {
			return false
		}
	}
	return !slices.Contains(l.lower, "") // lowerdir=a::b has layers of data only
}

// xattrs is the prefix of the attributes that are the overlay's own.
func (l layers) xattrs() string {
	if has(l.rest, "userxattr") {
		return "user.overlay."
	}
	return "trusted.overlay."
}

// layerReader goes through the layers of an overlay, topmost first.
type layerReader struct {
	dir, xattrs string
	limit       int64

	found   [][]byte
	pending map[string]int // in found
}

func (r *layerReader) want(names []string) {
	r.found = make([][]byte, len(names))
	r.pending = make(map[string]int, len(names))
	for i, name := range names {
		r.pending[name] = i
	}
}

// layer reads what one layer has. last says that those below don't count any more.
func (r *layerReader) layer(path string) (last bool, err error) {
	root, err := unix.Open(path, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return false, &os.PathError{Op: "open", Path: path, Err: err}
	}
	defer unix.Close(root)
	dir, err := openBelow(root, r.dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOATIME)
	if errors.Is(err, unix.ENOENT) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer unix.Close(dir)
	for name, i := range r.pending {
		known, p, err := r.file(dir, name)
		if err != nil {
			return false, err
		}
		if known {
			r.found[i] = p
			delete(r.pending, name)
		}
	}
	if len(r.pending) == 0 {
		return true, nil
	}
	return r.hidesBelow(dir)
}

// hidesBelow says whether the directory is not merged with those of lower layers.
func (r *layerReader) hidesBelow(dir int) (bool, error) {
	if err := r.lacks(dir, "redirect"); err != nil {
		return false, err
	}
	var value [1]byte
	n, err := unix.Fgetxattr(dir, r.xattrs+"opaque", value[:])
	switch {
	case noXattr(err):
		return false, nil
	case err == nil && n == 1 && value[0] == 'y':
		return true, nil
	}
	return false, errMerged // "x": whiteouts are regular files with an attribute
}

// lacks is nil when the file does not have one of the overlay's attributes.
func (r *layerReader) lacks(fd int, name string) error {
	if _, err := unix.Fgetxattr(fd, r.xattrs+name, nil); !noXattr(err) {
		return errMerged
	}
	return nil
}

func noXattr(err error) bool {
	return errors.Is(err, unix.ENODATA) || errors.Is(err, unix.EOPNOTSUPP)
}

// file reads a file of a layer's directory. known is false when a lower layer decides; a
// whiteout is known and nil. It is opened by O_PATH first: unlike a container's mounts,
// the file system of the layers may let devices be opened.
func (r *layerReader) file(dir int, name string) (known bool, p []byte, err error) {
	fd, err := openBelow(dir, name, unix.O_PATH)
	if errors.Is(err, unix.ENOENT) {
		return false, nil, nil
	}
	if err != nil {
		return false, nil, err
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return false, nil, err
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFCHR:
		if st.Rdev == 0 {
			return true, nil, nil
		}
	case unix.S_IFREG:
		p, err = r.read(fd)
		return err == nil, p, err
	}
	return false, nil, errMerged
}

// read reads the regular file behind a descriptor of O_PATH, if it is one for itself.
func (r *layerReader) read(path int) ([]byte, error) {
	f, err := os.OpenFile("/proc/thread-self/fd/"+strconv.Itoa(path), unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY|unix.O_NOATIME|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	for _, name := range []string{"metacopy", "whiteout"} {
		if err := r.lacks(int(f.Fd()), name); err != nil {
			return nil, err
		}
	}
	p, err := io.ReadAll(io.LimitReader(f, r.limit))
	if err != nil {
		return nil, fmt.Errorf("read %s of a layer: %w", r.dir, err)
	}
	return p, nil
}

// openBelow opens what a directory has under a name, if that is no link and no mount.
func openBelow(dir int, name string, flags uint64) (int, error) {
	return openat2(dir, name, &unix.OpenHow{
		Flags:   flags | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_XDEV,
	})
}
