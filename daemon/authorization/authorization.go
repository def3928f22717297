// Package authorization asks plugins whether a request may be done and whether its
// answer may be given: those of --authorization-plugin, one after the other, and all must
// allow it. What can't be asked is refused.
package authorization

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"gantry/api/authorization"
	"gantry/api/errdefs"
	"gantry/daemon/plugin"
)

const (
	// callTimeout bounds one question to one plugin.
	callTimeout = 30 * time.Second
	// wakeTimeout is how long a plugin is waited for where it is named: at the start and
	// at a reload.
	wakeTimeout = 10 * time.Second
)

// kind is how a plugin says that it does this.
const kind = "authz"

// Service asks the plugins. It is safe for concurrent use; the zero value asks nobody.
type Service struct {
	dirs  plugin.Directories
	log   *slog.Logger
	chain atomic.Pointer[Chain]
}

// New returns a service without plugins.
func New(dirs plugin.Directories, log *slog.Logger) *Service { return &Service{dirs: dirs, log: log} }

// Chain is a set of plugins that answered when they were woken, in their order.
type Chain struct{ plugins []*plugin.Client }

// Wake finds plugins by name and wakes them; a name said twice counts once.
func (s *Service) Wake(ctx context.Context, names []string) (*Chain, error) {
	ctx, cancel := context.WithTimeout(ctx, wakeTimeout)
	defer cancel()
	c, seen := &Chain{}, map[string]bool{}
	for _, name := range names {
		if seen[name] {
			continue
		}
		seen[name] = true
		p, err := plugin.Get(ctx, s.dirs, name, kind)
		if err != nil {
			c.close()
			return nil, fmt.Errorf("failed to validate authorization plugin: %w", err)
		}
		c.plugins = append(c.plugins, p)
	}
	return c, nil
}

func (c *Chain) close() {
	for _, p := range c.plugins {
		p.Close()
	}
}

// Use makes c the plugins that are asked from now on. A request under way asks those it
// began with.
func (s *Service) Use(c *Chain) {
	if old := s.chain.Swap(c); old != nil {
		old.close()
	}
}

// Close lets go of the plugins' connections.
func (s *Service) Close() error {
	s.Use(nil)
	return nil
}

// Asker returns what asks the plugins of now, nil when there are none.
func (s *Service) Asker() authorization.Asker {
	c := s.chain.Load()
	if c == nil || len(c.plugins) == 0 {
		return nil
	}
	return &asker{c, s.log}
}

type asker struct {
	chain *Chain
	log   *slog.Logger
}

// Request asks before the request is done.
func (a *asker) Request(ctx context.Context, r *authorization.Request) error {
	return a.ask(ctx, "AuthZPlugin.AuthZReq", r)
}

// Response asks before the answer is given.
func (a *asker) Response(ctx context.Context, r *authorization.Request) error {
	return a.ask(ctx, "AuthZPlugin.AuthZRes", r)
}

// ask has the texts of dockerd. PermissionDenied when a plugin says no, Internal when
// it can't say.
func (a *asker) ask(ctx context.Context, method string, r *authorization.Request) error {
	for _, p := range a.chain.plugins {
		err := a.one(ctx, p, method, r)
		if errors.Is(err, errdefs.ErrPermissionDenied) { // other failures are logged with the request
			a.log.WarnContext(ctx, "not authorized", "phase", method, "method", r.RequestMethod, "uri", r.RequestURI, "user", r.User, "err", err)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (a *asker) one(ctx context.Context, p *plugin.Client, method string, r *authorization.Request) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	var says authorization.Response
	err := p.Call(ctx, method, r, &says)
	switch {
	case err == nil && !says.Allow:
		return errdefs.PermissionDenied("authorization denied by plugin %s: %s", p.Name(), cmp.Or(says.Msg, says.Err))
	case err == nil && says.Err != "":
		err = errors.New(says.Err)
	case err == nil:
		return nil
	}
	return errdefs.Internal("plugin %s failed with error: %w", p.Name(), err)
}
