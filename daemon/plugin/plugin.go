// Package plugin finds the processes that extend the engine by Docker's plugin protocol,
// and talks to them: POST requests with JSON bodies, over a unix socket or TCP.
//
// A plugin NAME is a socket
//
//	<sockets>/NAME.sock or <sockets>/NAME/NAME.sock
//
// or else a file in one of the directories of descriptions,
//
//	<specs>/NAME.spec   its address, "unix:///run/x.sock" or "tcp://127.0.0.1:1234"
//	<specs>/NAME.json   {"Name", "Addr", "TLSConfig": {"InsecureSkipVerify", "CAFile", "CertFile", "KeyFile"}}
//
// also in a subdirectory called NAME. What a plugin can do it says itself, in its answer
// to Plugin.Activate.
package plugin

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"gantry/api/errdefs"
)

// ErrNotImplemented says that a plugin does not do what it is wanted for.
var ErrNotImplemented = errors.New("Plugin does not implement the requested driver") //nolint:revive,staticcheck // Docker's words

// Directories say where plugins are looked for, the first that has one counts.
type Directories struct {
	Sockets []string
	Specs   []string
}

// Get finds a plugin and wakes it; kind is what it must implement, "authz" for one. A
// plugin that is not there, or does not answer yet, is waited for until ctx ends.
func Get(ctx context.Context, dirs Directories, name, kind string) (*Client, error) {
	if name == "" || strings.ContainsRune(name, '/') || strings.HasPrefix(name, ".") {
		return nil, errdefs.InvalidArgument("invalid plugin name %q", name)
	}
	c, err := wait(ctx, dirs, name)
	if err != nil {
		return nil, err
	}
	var says struct{ Implements []string }
	if err := c.Call(ctx, "Plugin.Activate", nil, &says); err != nil {
		c.Close()
		return nil, fmt.Errorf("legacy plugin: %w", err)
	}
	if !slices.Contains(says.Implements, kind) {
		c.Close()
		return nil, fmt.Errorf("legacy plugin: %w: plugin=%q, requested implementation=%q", ErrNotImplemented, name, kind)
	}
	return c, nil
}

// look is how often a plugin that is not there is looked for.
const look = 250 * time.Millisecond

func wait(ctx context.Context, dirs Directories, name string) (*Client, error) {
	for {
		p, err := find(dirs, name)
		if err == nil {
			return newClient(name, p)
		}
		if !errors.Is(err, errdefs.ErrNotFound) {
			return nil, err
		}
		select {
		case <-time.After(look):
		case <-ctx.Done():
			return nil, err
		}
	}
}
