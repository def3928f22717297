package container

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"gantry/api/errdefs"
	"gantry/api/undo"
	"gantry/daemon/mountpoint"
	"gantry/daemon/spec"
)

// A shareable container's /dev/shm is a tmpfs in its own directory on the host, so that
// others can bind it too; a private one's is made by the runtime.

func (s *Service) shmPath(id string) string { return filepath.Join(s.dir(id), "shm") }

// shareShm binds /dev/shm where it is not the container's own alone.
func (s *Service) shareShm(c *Snapshot, in *spec.Input, steps *undo.Stack) error {
	if mountpoint.At(c.Mounts, "/dev/shm") {
		return nil
	}
	source, err := s.shmSource(c, steps)
	if source == "" || err != nil {
		return err
	}
	in.Mounts = append(in.Mounts, spec.Mount{Source: source, Destination: "/dev/shm", Writable: true, Propagation: "rprivate"})
	return nil
}

func (s *Service) shmSource(c *Snapshot, steps *undo.Stack) (string, error) {
	switch mode := c.Host.IpcMode; {
	case mode.IsHost():
		return hostShm()
	case mode.IsShareable():
		return s.mountShm(c, steps)
	case mode.IsContainer():
		donor, err := s.donor(mode.Container())
		if err != nil {
			return "", fmt.Errorf("failed to join IPC namespace: %w", err)
		}
		switch {
		case donor.Host.IpcMode.IsHost():
			return hostShm()
		case donor.Host.IpcMode.IsShareable():
			return s.shmPath(donor.ID), nil
		}
		return "", errdefs.InvalidArgument("failed to join IPC namespace: container %s: non-shareable IPC (hint: use IpcMode:shareable for the donor container)", mode.Container())
	}
	return "", nil
}

func hostShm() (string, error) {
	if _, err := os.Stat("/dev/shm"); err != nil {
		return "", errors.New("/dev/shm is not mounted, but must be for --ipc=host")
	}
	return "/dev/shm", nil
}

func (s *Service) mountShm(c *Snapshot, steps *undo.Stack) (string, error) {
	dir := s.shmPath(c.ID)
	s.unmountShm(c.ID) // of a run that was cut off
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", err
	}
	uid, gid := c.IDs.RootPair()
	data := fmt.Sprintf("mode=1777,size=%d,uid=%d,gid=%d", c.Host.ShmSize, uid, gid)
	if err := unix.Mount("shm", dir, "tmpfs", unix.MS_NOEXEC|unix.MS_NOSUID|unix.MS_NODEV, data); err != nil {
		return "", fmt.Errorf("mounting shm tmpfs: %w", err)
	}
	steps.Add("unmount shm", func(context.Context) error { s.unmountShm(c.ID); return nil })
	return dir, nil
}

// unmountShm is fine when nothing is mounted.
func (s *Service) unmountShm(id string) {
	for unix.Unmount(s.shmPath(id), unix.MNT_DETACH) == nil {
	}
}
