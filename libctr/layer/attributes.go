package layer

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// paxXattr is the prefix of the PAX records that carry extended attributes.
const paxXattr = "SCHILY.xattr."

func newDirectory(name string, hdr *tar.Header) directory {
	access, mod := times(hdr)
	return directory{path: name, access: access, mod: mod}
}

// attributes sets owner, mode and extended attributes, in the order in which they
// survive each other: chown clears setuid and capabilities.
func (a *applier) attributes(f *os.File, hdr *tar.Header) error {
	if err := unix.Fchown(int(f.Fd()), hdr.Uid, hdr.Gid); err != nil {
		return fmt.Errorf("set owner: %w", err)
	}
	if err := unix.Fchmod(int(f.Fd()), uint32(hdr.Mode&0o7777)); err != nil {
		return fmt.Errorf("set mode: %w", err)
	}
	return a.xattrs(opened(f), hdr)
}

// attributesAt does the same for what can't be opened: links and devices.
func (a *applier) attributesAt(parent *os.File, base string, hdr *tar.Header) error {
	fd := int(parent.Fd())
	if err := unix.Fchownat(fd, base, hdr.Uid, hdr.Gid, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return fmt.Errorf("set owner: %w", err)
	}
	if hdr.Typeflag != tar.TypeSymlink {
		// Just made by us in a directory that is open: no link.
		if err := unix.Fchmodat(fd, base, uint32(hdr.Mode&0o7777), 0); err != nil {
			return fmt.Errorf("set mode: %w", err)
		}
	}
	if err := a.xattrs(childOf(parent, base), hdr); err != nil {
		return err
	}
	access, mod := times(hdr)
	if err := unix.UtimesNanoAt(fd, base, []unix.Timespec{access, mod}, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return fmt.Errorf("set times: %w", err)
	}
	return nil
}

func (a *applier) xattrs(file ref, hdr *tar.Header) error {
	for record, value := range hdr.PAXRecords {
		name, ok := strings.CutPrefix(record, paxXattr)
		if !ok || reserved(name) {
			continue
		}
		if err := setXattr(file, name, []byte(value)); err != nil {
			return err
		}
	}
	return nil
}

// reserved attributes are overlayfs's own, which from a layer could redirect a lookup or
// uncover what a lower layer hides, and this package's.
func reserved(name string) bool {
	return strings.HasPrefix(name, "trusted.overlay.") || strings.HasPrefix(name, "user.overlay.") || name == xattrImplied
}

// setXattr sets one attribute. What the filesystem does not have, or does not take
// on this kind of file, is left out, as every unpacker does.
func setXattr(file ref, name string, value []byte) error {
	set := unix.Lsetxattr
	if file.follow {
		set = unix.Setxattr
	}
	err := set(file.path, name, value, 0)
	if errors.Is(err, unix.ENOTSUP) || errors.Is(err, unix.EPERM) && strings.HasPrefix(name, "user.") {
		return nil
	}
	if err != nil {
		return fmt.Errorf("set attribute %.100q: %w", name, err)
	}
	return nil
}

// listXattrs reads all attributes; overlayfs's own are left out.
func listXattrs(file ref) (map[string][]byte, error) {
	list, get := unix.Llistxattr, unix.Lgetxattr
	if file.follow {
		list, get = unix.Listxattr, unix.Getxattr
	}
	names, err := grow(func(p []byte) (int, error) { return list(file.path, p) })
	if errors.Is(err, unix.ENOTSUP) || errors.Is(err, unix.EPERM) {
		return map[string][]byte{}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list attributes: %w", err)
	}
	out := make(map[string][]byte)
	for name := range bytes.SplitSeq(names, []byte{0}) {
		if len(name) == 0 || reserved(string(name)) {
			continue
		}
		v, err := grow(func(p []byte) (int, error) { return get(file.path, string(name), p) })
		if errors.Is(err, unix.ENODATA) || errors.Is(err, unix.ENOTSUP) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("read attribute %q: %w", name, err)
		}
		out[string(name)] = v
	}
	return out, nil
}

// grow calls get until the buffer is large enough; 64 KiB is the kernel's bound.
func grow(get func(p []byte) (int, error)) ([]byte, error) {
	for size := 256; ; size *= 4 {
		p := make([]byte, size)
		n, err := get(p)
		if errors.Is(err, unix.ERANGE) && size < 1<<17 {
			continue
		}
		if err != nil {
			return nil, err
		}
		return p[:n], nil
	}
}

// times are the entry's; an access time that is missing or older is the
// modification time.
func times(hdr *tar.Header) (access, mod unix.Timespec) {
	at := hdr.AccessTime
	if at.Before(hdr.ModTime) {
		at = hdr.ModTime
	}
	return timespec(at), timespec(hdr.ModTime)
}

// timespec puts what no filesystem can keep at the epoch.
func timespec(t time.Time) unix.Timespec {
	if t.Unix() < 0 || t.Unix() > 1<<40 {
		t = time.Unix(0, 0)
	}
	return unix.Timespec{Sec: t.Unix(), Nsec: int64(t.Nanosecond())}
}

func futimens(f *os.File, access, mod unix.Timespec) error {
	return unix.UtimesNanoAt(unix.AT_FDCWD, opened(f).path, []unix.Timespec{access, mod}, 0)
}
