package hostpath

import (
	"strings"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
)

// silentTypes are file systems with a server that may stop answering; those of FUSE
// begin with "fuse".
var silentTypes = map[string]bool{
	"9p": true, "afs": true, "autofs": true, "beegfs": true, "ceph": true, "cifs": true, "coda": true,
	"gfs2": true, "glusterfs": true, "gpfs": true, "lustre": true, "ncpfs": true, "nfs": true, "nfs4": true,
	"ocfs2": true, "orangefs": true, "prl_fs": true, "smb3": true, "smbfs": true, "vboxsf": true, "virtiofs": true,
}

func silent(i *mountinfo.Info) bool {
	return silentTypes[i.FSType] || strings.HasPrefix(i.FSType, "fuse") && i.FSType != "fusectl"
}

// silentMounted says whether such a file system is mounted at all.
func silentMounted() (bool, error) {
	list, err := mountinfo.GetMounts(func(i *mountinfo.Info) (skip, stop bool) { return !silent(i), silent(i) })
	return len(list) > 0, err
}

// maySilence says whether an open file is on such a file system. That of a device with a
// driver is not, and saves the look at the mounts.
func maySilence(fd int) (bool, error) {
	var st unix.Statx_t
	err := unix.Statx(fd, "", unix.AT_EMPTY_PATH|unix.AT_STATX_DONT_SYNC|unix.AT_NO_AUTOMOUNT, unix.STATX_TYPE|unix.STATX_MNT_ID, &st)
	if err != nil || st.Dev_major != 0 {
		return err != nil, err
	}
	list, err := mountinfo.GetMounts(func(i *mountinfo.Info) (skip, stop bool) {
		found := uint64(i.ID) == st.Mnt_id
		return !found, found
	})
	if err != nil || len(list) == 0 { // a mount of another namespace, or none any more
		return true, err
	}
	return silent(list[0]), nil
}
