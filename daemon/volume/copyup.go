package volume

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"gantry/daemon/rootfs"
)

// CopyUp fills an empty volume with what the image has at path, as Docker does for a
// volume's first container: the volume's directory gets path's owner, mode, attributes
// and times too. A volume with content and a path that is not there are left alone; a
// path that is no directory is an error. Two containers that start at the same time do
// it one after the other: the volume's own directory, which containers don't reach, is
// locked.
func CopyUp(ctx context.Context, root *rootfs.Root, path, volumeDir string) error {
	unlock, err := lockDir(ctx, filepath.Dir(volumeDir))
	if err != nil {
		return fmt.Errorf("copy up %s: %w", path, err)
	}
	defer unlock()
	dst, err := os.OpenFile(volumeDir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("copy up %s: %w", path, err)
	}
	defer dst.Close()
	if _, err := dst.Readdirnames(1); !errors.Is(err, io.EOF) {
		return err // nil when there is an entry
	}
	err = root.CopyTo(ctx, path, dst)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// lockDir waits with ctx for the lock of a directory.
func lockDir(ctx context.Context, path string) (func(), error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	pause := time.Millisecond
	for {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return func() { f.Close() }, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) {
			f.Close()
			return nil, &fs.PathError{Op: "flock", Path: path, Err: err}
		}
		select {
		case <-time.After(pause):
			pause = min(2*pause, 100*time.Millisecond)
		case <-ctx.Done():
			f.Close()
			return nil, ctx.Err()
		}
	}
}
