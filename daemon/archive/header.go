package archive

import (
	"archive/tar"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"gantry/daemon/userns"
)

const capability = "security.capability"

// header describes a file in PAX form, with the ids that it has inside; caps is its
// security.capability.
func (p *packer) header(name string, st *unix.Stat_t, caps []byte) *tar.Header {
	uid, gid := userns.Inside(p.ids, st.Uid, st.Gid)
	h := &tar.Header{
		Format: tar.FormatPAX, Name: name,
		Mode: int64(st.Mode & 0o7777), Uid: uid, Gid: gid,
		ModTime: time.Unix(st.Mtim.Sec, 0),
	}
	switch kind(st) {
	case unix.S_IFREG:
		h.Typeflag, h.Size = tar.TypeReg, st.Size
	case unix.S_IFDIR:
		h.Typeflag = tar.TypeDir
	case unix.S_IFLNK:
		h.Typeflag = tar.TypeSymlink
	case unix.S_IFIFO:
		h.Typeflag = tar.TypeFifo
	case unix.S_IFCHR:
		h.Typeflag = tar.TypeChar
	case unix.S_IFBLK:
		h.Typeflag = tar.TypeBlock
	}
	if h.Typeflag == tar.TypeChar || h.Typeflag == tar.TypeBlock {
		h.Devmajor, h.Devminor = int64(unix.Major(st.Rdev)), int64(unix.Minor(st.Rdev))
	}
	if len(caps) > 0 {
		h.PAXRecords = map[string]string{paxXattr + capability: string(rootless(caps))}
	}
	return h
}

// rootless turns a capability that holds in one user namespace (revision 3, 24 bytes,
// see linux/capability.h) into one without (revision 2, 20 bytes).
func rootless(caps []byte) []byte {
	const revision, size2 = 3, 20
	if len(caps) > size2 && caps[revision] == 3 {
		caps[revision] = 2
		return caps[:size2]
	}
	return caps
}

// capSize is more than any revision has.
const capSize = 64

func openedCap(f *os.File) []byte {
	buf := make([]byte, capSize)
	n, err := unix.Fgetxattr(int(f.Fd()), capability, buf)
	if err != nil {
		return nil
	}
	return buf[:n]
}

func childCap(dir *os.File, base string) []byte {
	buf := make([]byte, capSize)
	n, err := unix.Lgetxattr(childPath(dir, base), capability, buf)
	if err != nil {
		return nil
	}
	return buf[:n]
}
