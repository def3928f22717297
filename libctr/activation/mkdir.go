package activation

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/cyphar/filepath-securejoin/pathrs-lite"
	"golang.org/x/sys/unix"

	"gantry/api/errdefs"
	"gantry/libctr/core/mount"
)

const (
	optionMkdir = "X-containerd.mkdir."
	optionMkfs  = "X-containerd.mkfs."
)

// mkdir makes the directories that options name, and takes those options away.
func (m *Manager) mkdir(mt mount.Mount) (mount.Mount, error) {
	var rest []string
	for _, o := range mt.Options {
		what, ours := strings.CutPrefix(o, optionMkdir)
		if !ours {
			rest = append(rest, o)
			continue
		}
		d, err := parseDirectory(what)
		if err != nil {
			return mt, fmt.Errorf("option %.200q: %w", o, err)
		}
		if err := m.makeDirectory(d); err != nil {
			return mt, err
		}
	}
	mt.Options = rest
	return mt, nil
}

type directory struct {
	path     string
	mode     uint32
	uid, gid int
}

// parseDirectory reads path=PATH[:MODE[:UID:GID]].
func parseDirectory(text string) (directory, error) {
	value, ok := strings.CutPrefix(text, "path=")
	if !ok {
		return directory{}, errdefs.InvalidArgument("only path= is known")
	}
	d := directory{mode: 0o700, uid: os.Getuid(), gid: os.Getgid()}
	parts := strings.SplitN(value, ":", 5)
	d.path = parts[0]
	switch len(parts) {
	case 1:
		return d, nil
	case 2, 4:
	default:
		return d, errdefs.InvalidArgument("want PATH[:MODE[:UID:GID]]")
	}
	mode, err := strconv.ParseUint(parts[1], 8, 32)
	if err != nil || mode&^0o777 != 0 {
		return d, errdefs.InvalidArgument("invalid mode %.20q", parts[1])
	}
	d.mode = uint32(mode)
	if len(parts) == 4 {
		uid, err := strconv.ParseUint(parts[2], 10, 31)
		if err != nil {
			return d, errdefs.InvalidArgument("invalid uid %.20q", parts[2])
		}
		gid, err := strconv.ParseUint(parts[3], 10, 31)
		if err != nil {
			return d, errdefs.InvalidArgument("invalid gid %.20q", parts[3])
		}
		d.uid, d.gid = int(uid), int(gid)
	}
	return d, nil
}

// makeDirectory makes the last part of a path below one of the roots. What is there is
// left as it is, and must be what is wanted.
func (m *Manager) makeDirectory(d directory) error {
	parent, name, err := m.openParent(d.path)
	if err != nil {
		return fmt.Errorf("directory %s: %w", d.path, err)
	}
	defer parent.Close()
	made := true
	if err := unix.Mkdirat(int(parent.Fd()), name, 0o700); errors.Is(err, unix.EEXIST) {
		made = false
	} else if err != nil {
		return fmt.Errorf("make directory %s: %w", d.path, err)
	}
	fd, err := unix.Openat(int(parent.Fd()), name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open directory %s: %w", d.path, err)
	}
	defer unix.Close(fd)
	if !made {
		return d.check(fd)
	}
	if err := unix.Fchown(fd, d.uid, d.gid); err != nil {
		return fmt.Errorf("give directory %s to %d:%d: %w", d.path, d.uid, d.gid, err)
	}
	if err := unix.Fchmod(fd, d.mode); err != nil {
		return fmt.Errorf("mode of directory %s: %w", d.path, err)
	}
	return nil
}

func (d directory) check(fd int) error {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return fmt.Errorf("directory %s: %w", d.path, err)
	}
	if st.Mode&0o777 != d.mode || int(st.Uid) != d.uid || int(st.Gid) != d.gid {
		return errdefs.FailedPrecondition("directory %s is there with mode %o of %d:%d, not %o of %d:%d",
			d.path, st.Mode&0o777, st.Uid, st.Gid, d.mode, d.uid, d.gid)
	}
	return nil
}

// openParent opens the directory of a path that is to lie below one of the roots, and
// returns the path's last name. No link leads out of the root.
func (m *Manager) openParent(path string) (*os.File, string, error) {
	clean := filepath.Clean(path)
	if !filepath.IsAbs(path) || len(path) > unix.PathMax {
		return nil, "", errdefs.InvalidArgument("path %.200q is not absolute", path)
	}
	for _, root := range m.cfg.Roots {
		below, err := filepath.Rel(root, clean)
		if err != nil || below == "." || below == ".." || strings.HasPrefix(below, "../") {
			continue
		}
		f, err := pathrs.OpenInRoot(root, filepath.Dir(below))
		return f, filepath.Base(below), err
	}
	return nil, "", errdefs.NotImplemented("it is below none of the directories %q", m.cfg.Roots)
}
