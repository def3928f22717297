package storage

import (
	"context"
	"errors"
	"io/fs"
	"path/filepath"
	"syscall"

	"gantry/libctr/core/snapshot"
)

// DiskUsage sums what a directory tree takes on its filesystem: allocated blocks,
// and inodes, each hard-linked file counted once. What goes meanwhile is not counted.
func DiskUsage(ctx context.Context, root string) (u snapshot.Usage, err error) {
	type inode struct{ dev, ino uint64 }
	linked := make(map[inode]bool)
	err = filepath.WalkDir(root, func(_ string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err := errors.Join(err, ctx.Err()); err != nil {
			return err
		}
		fi, err := d.Info()
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		st, ok := fi.Sys().(*syscall.Stat_t)
		if !ok {
			return nil
		}
		if st.Nlink > 1 && !d.IsDir() {
			id := inode{uint64(st.Dev), st.Ino}
			if linked[id] {
				return nil
			}
			linked[id] = true
		}
		u.Inodes++
		u.Size += st.Blocks * 512
		return nil
	})
	return u, err
}
