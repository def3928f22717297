package archive

import (
	"archive/tar"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// owner is who on the host owns an entry.
func (u *unpacker) owner(hdr *tar.Header) (uid, gid int, err error) {
	uid, gid = hdr.Uid, hdr.Gid
	if u.Owner != nil {
		uid, gid = u.Owner.UID, u.Owner.GID
	}
	return u.Root.IDs().ToHost(uid, gid)
}

// attributes sets owner, extended attributes and mode of an open file. The owner comes
// first: a change of it drops set-uid bits and capabilities.
func (u *unpacker) attributes(f *os.File, hdr *tar.Header) error {
	fd := int(f.Fd())
	uid, gid, err := u.owner(hdr)
	if err == nil {
		err = unix.Fchown(fd, uid, gid)
	}
	if err != nil {
		return fmt.Errorf("set owner %d:%d: %w", uid, gid, err)
	}
	if err := setXattrs(hdr, func(name string, value []byte) error { return unix.Fsetxattr(fd, name, value, 0) }); err != nil {
		return err
	}
	if err := unix.Fchmod(fd, mode(hdr)); err != nil {
		return fmt.Errorf("set mode: %w", err)
	}
	return nil
}

func mode(hdr *tar.Header) uint32 { return uint32(hdr.Mode & 0o7777) } //nolint:gosec // twelve bits

// attributesAt does the same for links, FIFOs and devices, and sets their times.
func (u *unpacker) attributesAt(p place, hdr *tar.Header) error {
	fd := int(p.dir.Fd())
	uid, gid, err := u.owner(hdr)
	if err == nil {
		err = unix.Fchownat(fd, p.base, uid, gid, unix.AT_SYMLINK_NOFOLLOW)
	}
	if err != nil {
		return fmt.Errorf("set owner %d:%d of %s: %w", uid, gid, p.full, err)
	}
	set := func(name string, value []byte) error { return unix.Lsetxattr(childPath(p.dir, p.base), name, value, 0) }
	if err := setXattrs(hdr, set); err != nil {
		return fmt.Errorf("%s: %w", p.full, err)
	}
	if hdr.Typeflag != tar.TypeSymlink {
		if err := chmodNode(p, mode(hdr)); err != nil {
			return fmt.Errorf("set mode of %s: %w", p.full, err)
		}
	}
	if err := unix.UtimesNanoAt(fd, p.base, times(hdr), unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return fmt.Errorf("set times of %s: %w", p.full, err)
	}
	return nil
}

// chmodNode goes by a descriptor, since fchmodat follows links.
func chmodNode(p place, mode uint32) error {
	f, err := openAt(p.dir, p.base, unix.O_PATH)
	if err != nil {
		return err
	}
	defer f.Close()
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return err
	}
	if kind(&st) == unix.S_IFLNK {
		return unix.ELOOP
	}
	return unix.Chmod(openedPath(f), mode)
}

// setXattrs sets what the entry carries. Overlayfs's own are left out: in a volume they
// could mislead a later overlay. One that may not be set is left out, as in dockerd.
func setXattrs(hdr *tar.Header, set func(name string, value []byte) error) error {
	for record, value := range hdr.PAXRecords {
		name, ok := strings.CutPrefix(record, paxXattr)
		if !ok || strings.HasPrefix(name, "trusted.overlay.") || strings.HasPrefix(name, "user.overlay.") {
			continue
		}
		if err := set(name, []byte(value)); err != nil && !errors.Is(err, unix.EPERM) {
			return fmt.Errorf("set attribute %.100q: %w", name, err)
		}
	}
	return nil
}

// times are an entry's access and modification time; the first is not before the second.
func times(hdr *tar.Header) []unix.Timespec {
	at := hdr.AccessTime
	if at.Before(hdr.ModTime) {
		at = hdr.ModTime
	}
	return []unix.Timespec{timespec(at), timespec(hdr.ModTime)}
}

// timespec puts what no file system can keep at the epoch.
func timespec(t time.Time) unix.Timespec {
	if t.Unix() < 0 || t.Unix() > 1<<40 {
		t = time.Unix(0, 0)
	}
	return unix.Timespec{Sec: t.Unix(), Nsec: int64(t.Nanosecond())}
}
