package container

import (
	"context"
	"fmt"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"gantry/api/errdefs"
	"gantry/daemon/rootfs"
	"gantry/daemon/userns"
	"gantry/daemon/volume"
	"gantry/libctr/core/mount"
)

type root struct{ *rootfs.Root }

func openRoot(mounts []mount.Mount) (Root, error) {
	r, err := rootfs.Open(mounts)
	if err != nil {
		return nil, err
	}
	return root{r}, nil
}

func (r root) IsDir(path string) (dir, found bool) {
	f, err := r.OpenInRoot(path, unix.O_PATH)
	if err != nil {
		return false, false
	}
	defer f.Close()
	info, err := f.Stat()
	return err == nil && info.IsDir(), err == nil
}

func (r root) CopyUp(ctx context.Context, path, dir string) error {
	return volume.CopyUp(ctx, r.Root, path, dir)
}

// makeDir makes dir and its missing parents in a root that nothing else has mounted;
// the last one is the user's.
func makeDir(mounts []mount.Mount, dir string, user specs.User) error {
	r, err := rootfs.OpenWritable(mounts)
	if err != nil {
		return err
	}
	defer r.Close()
	made, err := r.MkdirAll(dir, 0o755)
	if err != nil {
		return fmt.Errorf("make working directory %s: %w", dir, err)
	}
	defer made.Close()
	uid, gid, err := r.IDs().ToHost(int(user.UID), int(user.GID))
	if err != nil {
		return errdefs.WithClass(errdefs.ErrInvalidArgument, err)
	}
	return unix.Fchownat(int(made.Fd()), "", uid, gid, unix.AT_EMPTY_PATH)
}

// rootMounts returns what mounts a container's root. The shim of a run that has just
// ended may hold it still, and is waited for: two overlays with one upper directory do
// not go together.
func (s *Service) rootMounts(ctx context.Context, c *Snapshot) ([]mount.Mount, error) {
	if !c.FinishedAt.IsZero() && time.Since(c.FinishedAt) < letGo && !c.Status.Up() {
		if _, err := s.Tasks.Get(ctx, c.ID, ""); ignoreNotFound(err) != nil {
			return nil, err
		}
	}
	mounts, err := s.Images.Mounts(ctx, c.ID)
	if err != nil {
		return nil, err
	}
	return mounts, checkIDs(mounts, c.IDs)
}

// checkIDs wants the mounts of a container's root to have the container's ids: a
// snapshotter of another core may know nothing of the labels that ask for them.
func checkIDs(mounts []mount.Mount, ids userns.Mapping) error {
	for _, m := range mounts {
		got, _, err := userns.FromOptions(m.Options)
		if err != nil {
			return err
		}
		if !userns.Equal(got, ids) {
			return errdefs.FailedPrecondition("the snapshotter does not map ids as the container's user namespace has them")
		}
	}
	return nil
}

// letGo is when no shim of an earlier run has the root any more.
const letGo = time.Minute
