package tasks

import (
	"context"
	"os"
	"path/filepath"
	"sync"

	"gantry/api/errdefs"
	"gantry/api/reqctx"
)

// unpacked are the directories of checkpoints from the content store. That of a task is
// there until the task is started, which is when it is restored, or deleted. None
// outlives the core that has made it: the task could not be told where else to look.
type unpacked struct {
	dir string

	mu sync.Mutex
	of map[string]string // directory by namespace and container; guarded by mu
}

// clear removes what an earlier core has left.
func (u *unpacked) clear() error {
	if u.dir == "" {
		return nil
	}
	return os.RemoveAll(u.dir)
}

// temp makes a directory that is the caller's.
func (u *unpacked) temp() (string, error) {
	if err := os.MkdirAll(u.dir, 0o700); err != nil {
		return "", err
	}
	return os.MkdirTemp(u.dir, "")
}

func (u *unpacked) key(ctx context.Context, id string) string {
	return filepath.Join(reqctx.Namespace(ctx), id)
}

// make makes the directory of a task. AlreadyExists while it has one.
func (u *unpacked) make(ctx context.Context, id string) (string, error) {
	dir, err := u.temp()
	if err != nil {
		return "", err
	}
	k := u.key(ctx, id)
	u.mu.Lock()
	_, taken := u.of[k]
	if !taken {
		u.of[k] = dir
	}
	u.mu.Unlock()
	if taken {
		os.Remove(dir)
		return "", errdefs.AlreadyExists("task %s already exists", id)
	}
	return dir, nil
}

// drop removes the directory of a task, if it has one.
func (u *unpacked) drop(ctx context.Context, id string) {
	u.mu.Lock()
	dir := u.of[u.key(ctx, id)]
	u.mu.Unlock()
	u.dropThis(ctx, id, dir)
}

// dropThis removes dir if it is the task's.
func (u *unpacked) dropThis(ctx context.Context, id, dir string) {
	k := u.key(ctx, id)
	u.mu.Lock()
	theirs := dir != "" && u.of[k] == dir
	if theirs {
		delete(u.of, k)
	}
	u.mu.Unlock()
	if theirs {
		os.RemoveAll(dir)
	}
}
