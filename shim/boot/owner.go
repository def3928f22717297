package boot

import (
	"context"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"gantry/shim/process"
	"gantry/shim/stdio"
)

// owned is a runtime whose processes own their stdio's pipes (options IoUid and IoGid):
// one that is another user on the host could not open its /dev/stdout otherwise.
type owned struct {
	process.Runtime
	uid, gid int
}

// Create implements process.Runtime.
func (r owned) Create(ctx context.Context, o process.CreateOptions) (process.Container, process.Started, error) {
	if err := r.give(o.Files); err != nil {
		return nil, process.Started{}, err
	}
	c, started, err := r.Runtime.Create(ctx, o)
	if err != nil {
		return nil, started, err
	}
	return ownedContainer{c, r}, started, nil
}

// Restore implements process.Runtime.
func (r owned) Restore(ctx context.Context, o process.CreateOptions, images string) (process.Container, process.Started, error) {
	if err := r.give(o.Files); err != nil {
		return nil, process.Started{}, err
	}
	c, started, err := r.Runtime.Restore(ctx, o, images)
	if err != nil {
		return nil, started, err
	}
	return ownedContainer{c, r}, started, nil
}

// ownedContainer is a container of owned.
type ownedContainer struct {
	process.Container
	r owned
}

// Exec implements process.Container.
func (c ownedContainer) Exec(ctx context.Context, o process.ExecOptions) (process.Started, error) {
	if err := c.r.give(o.Files); err != nil {
		return process.Started{}, err
	}
	return c.Container.Exec(ctx, o)
}

// pipeMagic is the type of the file system of pipes without a name (PIPEFS_MAGIC).
const pipeMagic = 0x50495045

// give changes the owner of pipes; what has a name is left to whoever named it.
func (r owned) give(files stdio.Files) error {
	for _, f := range []*os.File{files.Stdin, files.Stdout, files.Stderr} {
		var fs unix.Statfs_t
		if f == nil || unix.Fstatfs(int(f.Fd()), &fs) != nil || fs.Type != pipeMagic {
			continue
		}
		if err := f.Chown(r.uid, r.gid); err != nil {
			return fmt.Errorf("give stdio to %d:%d: %w", r.uid, r.gid, err)
		}
	}
	return nil
}
