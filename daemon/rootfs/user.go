package rootfs

import (
	"bytes"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/moby/sys/user"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"gantry/api/errdefs"
	"gantry/libctr/core/mount"
)

// maxUserFile bounds what is read of /etc/passwd and /etc/group, in bytes.
const maxUserFile = 8 << 20

// LookupUser turns Docker's user ("", name, uid, each with an optional :group or :gid)
// and additional groups into ids, by the passwd and group files of the tree, which may
// be missing. "" is uid 0. The additional gids begin with the primary one, as Docker
// has it since 20.10. home is "/" when the user has none. A name that is in no file is
// InvalidArgument with Docker's words.
func (r *Root) LookupUser(spec string, groups []string) (u specs.User, home string, err error) {
	return lookup(r.userFile("/etc/passwd"), r.userFile("/etc/group"), spec, groups)
}

// LookupUser does the same for what a snapshotter gave out, and mounts it only when the
// files can't be read from its layers.
func LookupUser(mounts []mount.Mount, spec string, groups []string) (u specs.User, home string, err error) {
	files, err := readUnmounted(mounts, "etc", []string{"passwd", "group"}, maxUserFile)
	if err == nil {
		return lookup(files[0], files[1], spec, groups)
	}
	r, err := Open(mounts)
	if err != nil {
		return u, "", err
	}
	defer r.Close()
	return r.LookupUser(spec, groups)
}

func lookup(passwd, group []byte, spec string, groups []string) (u specs.User, home string, err error) {
	found, err := user.GetExecUser(spec, nil, reader(passwd), reader(group))
	if err != nil {
		return u, "", errdefs.WithClass(errdefs.ErrInvalidArgument, err)
	}
	u.UID, u.GID = uint32(found.Uid), uint32(found.Gid) //nolint:gosec // 0 to 2^31-1, checked by the parser
	u.AdditionalGids = []uint32{u.GID}
	if slices.Contains(groups, "") { // which the library does not survive
		return u, "", errdefs.InvalidArgument("unable to find additional groups %q: a group has no name", groups)
	}
	more, err := user.GetAdditionalGroups(groups, reader(group))
	if err != nil {
		return u, "", errdefs.WithClass(errdefs.ErrInvalidArgument, err)
	}
	for _, g := range append(found.Sgids, more...) {
		u.AdditionalGids = append(u.AdditionalGids, uint32(g)) //nolint:gosec // as above
	}
	if home = found.Home; home == "" {
		home = "/"
	}
	return u, home, nil
}

// LookupOwner turns Docker's user into the ids that files copied for it get. A uid that
// no file knows is taken as it is, with gid 0; a name must be known.
func (r *Root) LookupOwner(spec string) (uid, gid int, err error) {
	name, group, _ := strings.Cut(spec, ":")
	if name != "" {
		if uid, gid, err = r.ownerUser(name); err != nil {
			return 0, 0, err
		}
	}
	if group != "" {
		gid, err = r.ownerGroup(group)
	}
	return uid, gid, err
}

func (r *Root) ownerUser(name string) (uid, gid int, err error) {
	id, isID := number(name)
	all, err := user.ParsePasswdFilter(bytes.NewReader(r.userFile("/etc/passwd")), func(u user.User) bool {
		return isID && u.Uid == id || !isID && u.Name == name
	})
	switch {
	case err == nil && len(all) > 0:
		return all[0].Uid, all[0].Gid, nil
	case isID:
		return id, 0, nil
	case err == nil:
		err = user.ErrNoPasswdEntries
	}
	return 0, 0, fmt.Errorf("failed to look up user %q in container: %w", name, err)
}

func (r *Root) ownerGroup(name string) (int, error) {
	if id, isID := number(name); isID {
		return id, nil
	}
	all, err := user.ParseGroupFilter(bytes.NewReader(r.userFile("/etc/group")), func(g user.Group) bool { return g.Name == name })
	if err == nil && len(all) > 0 {
		return all[0].Gid, nil
	}
	if err == nil {
		err = user.ErrNoGroupEntries
	}
	return 0, fmt.Errorf("failed to look up group %q in container: %w", name, err)
}

func number(s string) (int, bool) {
	n, err := strconv.ParseUint(s, 10, 31)
	return int(n), err == nil
}

// userFile is nil when the file can't be read, whatever the reason: then only numbers
// are understood.
func (r *Root) userFile(path string) []byte {
	p, err := r.ReadFile(path, maxUserFile)
	if err != nil {
		return nil
	}
	if p == nil {
		p = []byte{}
	}
	return p
}

// reader keeps nil nil: the parser tells a missing file from an empty one.
func reader(p []byte) io.Reader {
	if p == nil {
		return nil
	}
	return bytes.NewReader(p)
}
