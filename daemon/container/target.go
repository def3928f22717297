package container

import (
	"context"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"gantry/api/errdefs"
)

// Target is a running container as its execs need it.
type Target struct {
	*Snapshot
	Socket string // of its shim's streams
	Kept   bool   // by a keeper, since its shim knows no such socket
	// LinkEnv is what its processes are told of those that it is linked to.
	LinkEnv []string
}

// Target finds a container that can run something more. Conflict with Docker's words
// when it is not running, paused or about to restart.
func (s *Service) Target(ref string) (Target, error) {
	e, err := s.find(ref)
	if err != nil {
		return Target{}, err
	}
	c := e.snapshot()
	switch c.Status {
	case Running:
		env, err := s.LinkEnv(c)
		return Target{Snapshot: c, Socket: s.socket(e.id), Kept: s.kept(e.id), LinkEnv: env}, err
	case Paused:
		return Target{}, errdefs.Conflict("Container %s is paused, unpause the container before exec", ref)
	case Restarting:
		return Target{}, errRestarting(e.id)
	}
	return Target{}, errNotRunning(e.id)
}

// LookupUser resolves a user, and the container's additional groups, in its files.
func (s *Service) LookupUser(ctx context.Context, c *Snapshot, user string) (specs.User, string, error) {
	mounts, err := s.rootMounts(ctx, c)
	if err != nil {
		return specs.User{}, "", err
	}
	return s.UserIn(mounts, user, c.Host.GroupAdd)
}

// Snapshot returns a container as it is; reads need no lock.
func (s *Service) Snapshot(ref string) (*Snapshot, error) {
	e, err := s.find(ref)
	if err != nil {
		return nil, err
	}
	return e.snapshot(), nil
}

// All returns every container as it is, newest first.
func (s *Service) All() []*Snapshot { return s.sorted() }
