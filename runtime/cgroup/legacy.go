package cgroup

import (
	"context"
	"os"

	"github.com/containerd/errdefs"
	specs "github.com/opencontainers/runtime-spec/specs-go"
)

type legacy struct {
	dirs     []dir
	own      map[string]string
	rootless bool
}

func (c *legacy) paths() map[string]string { return nil }
func (c *legacy) exists() bool             { return false }
func (c *legacy) create() error            { return errdefs.ErrNotImplemented }
func (c *legacy) set(res *specs.LinuxResources, first bool) ([]Warning, error) {
	return nil, errdefs.ErrNotImplemented
}
func (c *legacy) joinFDs() ([]*os.File, error)          { return nil, errdefs.ErrNotImplemented }
func (c *legacy) dirFD() (*os.File, error)              { return nil, errdefs.ErrNotImplemented }
func (c *legacy) addPid(pid int) error                  { return errdefs.ErrNotImplemented }
func (c *legacy) pids() ([]int, error)                  { return nil, errdefs.ErrNotImplemented }
func (c *legacy) freeze(ctx context.Context) error      { return errdefs.ErrNotImplemented }
func (c *legacy) thaw(ctx context.Context) error        { return errdefs.ErrNotImplemented }
func (c *legacy) frozen() (bool, error)                 { return false, errdefs.ErrNotImplemented }
func (c *legacy) kill(ctx context.Context) error        { return errdefs.ErrNotImplemented }
func (c *legacy) remove(ctx context.Context) error      { return errdefs.ErrNotImplemented }
func (c *legacy) stats() (*Stats, error)                { return nil, errdefs.ErrNotImplemented }
func (c *legacy) oom() (<-chan struct{}, func(), error) { return nil, nil, errdefs.ErrNotImplemented }
func (c *legacy) oomKilled() (uint64, error)            { return 0, errdefs.ErrNotImplemented }
