package cgroup

import (
	"context"
	"os"

	"github.com/containerd/errdefs"
	specs "github.com/opencontainers/runtime-spec/specs-go"
)

type unified struct {
	mount    mount
	path     string
	rootless bool
}

func (c *unified) paths() map[string]string { return nil }
func (c *unified) exists() bool             { return false }
func (c *unified) create() error            { return errdefs.ErrNotImplemented }
func (c *unified) set(res *specs.LinuxResources, first bool) ([]Warning, error) {
	return nil, errdefs.ErrNotImplemented
}
func (c *unified) joinFDs() ([]*os.File, error)          { return nil, errdefs.ErrNotImplemented }
func (c *unified) dirFD() (*os.File, error)              { return nil, errdefs.ErrNotImplemented }
func (c *unified) addPid(pid int) error                  { return errdefs.ErrNotImplemented }
func (c *unified) pids() ([]int, error)                  { return nil, errdefs.ErrNotImplemented }
func (c *unified) freeze(ctx context.Context) error      { return errdefs.ErrNotImplemented }
func (c *unified) thaw(ctx context.Context) error        { return errdefs.ErrNotImplemented }
func (c *unified) frozen() (bool, error)                 { return false, errdefs.ErrNotImplemented }
func (c *unified) kill(ctx context.Context) error        { return errdefs.ErrNotImplemented }
func (c *unified) remove(ctx context.Context) error      { return errdefs.ErrNotImplemented }
func (c *unified) stats() (*Stats, error)                { return nil, errdefs.ErrNotImplemented }
func (c *unified) oom() (<-chan struct{}, func(), error) { return nil, nil, errdefs.ErrNotImplemented }
func (c *unified) oomKilled() (uint64, error)            { return 0, errdefs.ErrNotImplemented }
