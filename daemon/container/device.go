package container

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	containertypes "github.com/docker/docker/api/types/container"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"gantry/daemon/hostpath"
	"gantry/daemon/spec"
)

// device looks at the node at path; ok is false for anything else.
func device(path string) (d specs.LinuxDevice, ok bool, err error) {
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		return d, false, err // who asks names the path
	}
	d = specs.LinuxDevice{Path: path, UID: &st.Uid, GID: &st.Gid}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFBLK:
		d.Type = "b"
	case unix.S_IFCHR:
		d.Type = "c"
	default:
		return d, false, nil
	}
	d.Major, d.Minor = int64(unix.Major(st.Rdev)), int64(unix.Minor(st.Rdev))
	mode := fs.FileMode(st.Mode &^ unix.S_IFMT)
	d.FileMode = &mode
	return d, true, nil
}

// devices looks up HostConfig.Devices: a node, or a directory of nodes.
func devices(ctx context.Context, h *containertypes.HostConfig) (out []spec.Device, err error) {
	for _, m := range h.Devices {
		if h.Privileged && m.PathOnHost == m.PathInContainer {
			continue // all of the host's are there
		}
		if err := hostpath.Answers(ctx, m.PathOnHost); err != nil {
			return nil, err
		}
		found, err := mapping(m)
		if err != nil {
			return nil, err
		}
		out = append(out, found...)
	}
	return out, nil
}

func mapping(m containertypes.DeviceMapping) (out []spec.Device, err error) {
	access := m.CgroupPermissions
	if access == "" {
		access = "rwm"
	}
	inside := m.PathInContainer
	if inside == "" {
		inside = m.PathOnHost
	}
	real, err := filepath.EvalSymlinks(m.PathOnHost)
	if err != nil {
		real = m.PathOnHost
	}
	d, ok, err := device(real)
	if ok {
		d.Path = inside
		return []spec.Device{{LinuxDevice: d, Access: access, Host: real}}, nil
	}
	if err == nil {
		err = fmt.Errorf("not a device node")
		filepath.WalkDir(real, func(p string, _ fs.DirEntry, _ error) error { //nolint:errcheck // what can't be read is no device
			if d, ok, _ := device(p); ok {
				d.Path = inside + strings.TrimPrefix(p, real)
				out = append(out, spec.Device{LinuxDevice: d, Access: access, Host: p})
			}
			return nil
		})
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("error gathering device information while adding custom device %q: %w", m.PathOnHost, err)
	}
	return out, nil
}

// Directories of /dev that a privileged container has of its own.
var ownDev = []string{"/dev/pts", "/dev/shm", "/dev/fd", "/dev/mqueue", "/dev/.lxc", "/dev/.lxd-mounts", "/dev/.udev", "/dev/console"}

// hostDevices are the nodes below /dev that a privileged container gets.
func hostDevices() (out []specs.LinuxDevice, err error) {
	err = filepath.WalkDir("/dev", func(p string, e fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return nil // gone meanwhile
		case slices.Contains(ownDev, p):
			if e.IsDir() {
				return fs.SkipDir
			}
			return nil
		}
		if d, ok, _ := device(p); ok {
			out = append(out, d)
		}
		return nil
	})
	return out, err
}

// blockNumbers looks up the devices that blkio settings name.
func blockNumbers(ctx context.Context, paths []string) (map[string][2]int64, error) {
	out := map[string][2]int64{}
	for _, p := range paths {
		if err := hostpath.Answers(ctx, p); err != nil {
			return nil, err
		}
		var st unix.Stat_t
		if err := unix.Stat(p, &st); err != nil {
			return nil, &os.PathError{Op: "stat", Path: p, Err: err}
		}
		out[p] = [2]int64{int64(unix.Major(st.Rdev)), int64(unix.Minor(st.Rdev))}
	}
	return out, nil
}
