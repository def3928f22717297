// Package rootfs looks into a container's file system without attaching it anywhere:
// its mounts are made with fsopen and fsmount (or open_tree, for a bind), and every
// path inside is resolved by the kernel below the mount's own descriptor. What the
// tree holds is the container's and not to be trusted: links can't lead out, FIFOs
// don't block, sizes are bounded.
package rootfs

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"

	"gantry/daemon/userns"
	"gantry/libctr/core/mount"
)

// Root is a detached mount. Its methods are safe for concurrent use until Close.
type Root struct {
	dir *os.File
	own *os.File // of a running container: its root as it is inside; else nil
	ids userns.Mapping
}

// Open mounts what a snapshotter gave out, read-only: of an overlay, the upper
// directory becomes the first lower one, so that the view stays out of the way of the
// real mount. The caller closes the Root.
func Open(mounts []mount.Mount) (*Root, error) { return open(mounts, false) }

// OpenWritable mounts it as it is. It must not be mounted elsewhere at the same time.
func OpenWritable(mounts []mount.Mount) (*Root, error) { return open(mounts, true) }

func open(mounts []mount.Mount, writable bool) (*Root, error) {
	if len(mounts) != 1 || mounts[0].Target != "" {
		return nil, fmt.Errorf("mount root: want one mount, have %d", len(mounts))
	}
	fd, err := detached(mounts[0], writable)
	if err != nil {
		return nil, fmt.Errorf("mount root: %w", err)
	}
	ids, _, err := userns.FromOptions(mounts[0].Options)
	return &Root{dir: os.NewFile(uintptr(fd), "rootfs"), ids: ids}, err
}

// Close drops the mount; files opened through it stay usable.
func (r *Root) Close() error {
	if r.own != nil {
		r.own.Close()
	}
	return r.dir.Close()
}

// FD is the descriptor of the root directory, valid until Close.
func (r *Root) FD() int { return int(r.dir.Fd()) }

// tries bounds how often openat2 is repeated when the tree changes under it.
const tries = 32

// OpenInRoot opens a path as a process with this root would, links included; flags
// are those of openat(2), O_CLOEXEC is added. Nothing outside can be reached.
func (r *Root) OpenInRoot(path string, flags int) (*os.File, error) {
	return openIn(r.dir, path, flags)
}

func openIn(root *os.File, path string, flags int) (*os.File, error) {
	how := unix.OpenHow{
		Flags:   uint64(flags) | unix.O_CLOEXEC, //nolint:gosec // flags are not negative
		Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS,
	}
	if path == "" {
		path = "."
	}
	fd, err := openat2(int(root.Fd()), path, &how)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), path), nil
}

func openat2(dir int, path string, how *unix.OpenHow) (int, error) {
	for range tries {
		fd, err := unix.Openat2(dir, path, how)
		if err == nil {
			return fd, nil
		}
		if !errors.Is(err, unix.EAGAIN) && !errors.Is(err, unix.EINTR) {
			return -1, &fs.PathError{Op: "openat2", Path: path, Err: err}
		}
	}
	return -1, &fs.PathError{Op: "openat2", Path: path, Err: unix.EAGAIN}
}

// ReadFile reads a regular file of at most limit bytes; a longer one is cut there.
// Other kinds of file are an error, and are not waited for.
func (r *Root) ReadFile(path string, limit int64) ([]byte, error) {
	f, err := r.OpenInRoot(path, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, &fs.PathError{Op: "read", Path: path, Err: errors.New("not a regular file")}
	}
	return io.ReadAll(io.LimitReader(f, limit))
}
