// Package server puts the core together: the plugin graph, its configuration,
// the listeners, and the order in which they start and stop. It is embedded by
// the engine and can stand alone.
//
// Start order: directories, plugins in the order of their Requires (running
// shims are adopted on the way), the ttrpc socket that shims report to, the gRPC
// socket, health "serving". Stop is the reverse: health "not serving", gRPC and
// ttrpc drain for a bounded time, then every plugin that can be closed is closed,
// last first. Shims and what they run go on.
//
// Directories: <root>/<plugin URI> and <state>/<plugin URI> belong to a plugin;
// <state>/s holds shims' sockets, when its path is short enough for one. Both
// directories are locked (flock) while a core has them.
package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/containerd/plugin"
	"github.com/containerd/ttrpc"
	"google.golang.org/grpc"
	"google.golang.org/grpc/test/bufconn"

	"gantry/api/errdefs"
	"gantry/libctr/mount"
	"gantry/libctr/services/health"
)

// Server is a core. Make it with New, then Start it, then Stop it; it does not
// start twice.
type Server struct {
	cfg    Config
	log    *slog.Logger
	graph  *graph
	health *health.Service // nil when the plugin is disabled
	stop   *stopping

	grpc    *grpc.Server
	local   *Local
	ttrpc   *ttrpc.Server
	memory  *bufconn.Listener
	https   []*http.Server // debug and metrics
	serving sync.WaitGroup
	sockets []*socket

	once    sync.Once
	stopErr error
}

// New checks the configuration, makes the directories, and initialises every
// plugin. A plugin that fails is listed with its error and does not stop the
// rest, unless it is required. When New fails nothing is left open.
func New(ctx context.Context, cfg Config) (_ *Server, err error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	cfg = cfg.withDefaults()
	cfg.reportIgnored(ctx)
	if err := makeDirs(cfg); err != nil {
		return nil, err
	}
	s := &Server{
		cfg:    cfg,
		log:    cfg.Log,
		graph:  &graph{set: plugin.NewPluginSet(), log: cfg.Log},
		memory: bufconn.Listen(memoryBuffer),
		stop:   newStopping(),
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.graph.close(context.WithoutCancel(ctx)))
		}
	}()
	if err := s.lockDirs(ctx); err != nil {
		return nil, err
	}
	if err := mount.SweepTemp(); err != nil {
		s.log.WarnContext(ctx, "unmount what a core has left", "err", err)
	}
	b := &builder{cfg: cfg, log: cfg.Log, graph: s.graph}
	if err := s.graph.init(ctx, cfg, b.registrations()); err != nil {
		return nil, err
	}
	return s, s.makeServers()
}

// memoryBuffer is what an in-memory connection holds each way, in bytes.
const memoryBuffer = 256 << 10

func makeDirs(cfg Config) error {
	for _, dir := range []string{cfg.Root, cfg.State} {
		if err := os.MkdirAll(dir, 0o711); err != nil {
			return fmt.Errorf("make core directories: %w", err)
		}
	}
	if dir := socketDir(cfg.State); dir != "" {
		if err := os.MkdirAll(dir, 0o711); err != nil {
			return fmt.Errorf("make core directories: %w", err)
		}
	}
	return nil
}

// lockDirs takes the directories, to be given back last of all.
func (s *Server) lockDirs(ctx context.Context) error {
	t, err := timeoutsOf(s.cfg.Timeouts)
	if err != nil {
		return err
	}
	for _, dir := range []string{s.cfg.Root, s.cfg.State} {
		f, err := lock(ctx, dir, t.boltOpen)
		if err != nil {
			return err
		}
		s.graph.onClose("lock of "+dir, func(context.Context) error { return f.Close() })
	}
	return nil
}

// makeServers builds the gRPC and ttrpc servers and lets every plugin that is a
// service register itself.
func (s *Server) makeServers() error {
	m := newCallMetrics(s.cfg.Metrics)
	m.answered = s.cfg.Answered
	s.grpc, s.local = grpc.NewServer(s.grpcOptions(m)...), newLocal(m.unary, s.unary)
	var err error
	if s.ttrpc, err = ttrpc.NewServer(ttrpc.WithUnaryServerInterceptor(s.ttrpcInterceptor)); err != nil {
		return fmt.Errorf("make ttrpc server: %w", err)
	}
	for _, p := range s.graph.set.GetAll() {
		v, err := p.Instance()
		if err != nil {
			continue
		}
		if r, ok := v.(interface{ Register(grpc.ServiceRegistrar) }); ok && p.Registration.Type == typeGRPC {
			r.Register(registrars{s.grpc, s.local})
		}
		if r, ok := v.(interface{ RegisterTTRPC(*ttrpc.Server) }); ok && p.Registration.Type == typeGRPC {
			r.RegisterTTRPC(s.ttrpc)
		}
		if h, ok := v.(*health.Service); ok {
			s.health = h
		}
	}
	s.https = s.httpServers(m)
	return nil
}

// Start listens and serves in the background until Stop. When it fails, Stop is
// still to be called.
func (s *Server) Start() error {
	ttrpcSocket, err := s.listen(s.cfg.TTRPC.Address, s.cfg.TTRPC.UID, s.cfg.TTRPC.GID)
	if err != nil {
		return err
	}
	s.serve("ttrpc", func() error { return s.ttrpc.Serve(context.Background(), ttrpcSocket) })
	grpcSocket, err := s.listen(s.cfg.GRPC.Address, s.cfg.GRPC.UID, s.cfg.GRPC.GID)
	if err != nil {
		return err
	}
	s.serve("grpc", func() error { return s.grpc.Serve(grpcSocket) })
	s.serve("grpc in memory", func() error { return s.grpc.Serve(s.memory) })
	if s.cfg.GRPC.TCPAddress != "" {
		l, err := listenTLS(s.cfg.GRPC)
		if err != nil {
			return err
		}
		s.serve("grpc over tcp", func() error { return s.grpc.Serve(l) })
	}
	for _, h := range s.https {
		l, err := s.listenHTTP(h.Addr)
		if err != nil {
			return err
		}
		s.serve("http", func() error { return h.Serve(l) })
	}
	s.graph.serve()
	if s.health != nil {
		s.health.Set(true)
	}
	s.log.Info("core serves", "address", s.cfg.GRPC.Address)
	return nil
}

// serve runs fn until the server is stopped; Stop waits for it.
func (s *Server) serve(name string, fn func() error) {
	s.serving.Go(func() {
		err := fn()
		if err == nil || errors.Is(err, net.ErrClosed) || errors.Is(err, ttrpc.ErrServerClosed) ||
			errors.Is(err, http.ErrServerClosed) || errors.Is(err, grpc.ErrServerStopped) || s.stop.begun() {
			return
		}
		s.log.Error("listener ended", "listener", name, "err", err)
	})
}

// Dial connects in memory; see client.WithDialer.
func (s *Server) Dial(ctx context.Context) (net.Conn, error) { return s.memory.DialContext(ctx) }

// Local answers calls of this process; see client.WithLocal.
func (s *Server) Local() *Local { return s.local }

// Address is the path of the gRPC socket.
func (s *Server) Address() string { return s.cfg.GRPC.Address }

// Plugin returns the instance of the plugin of that URI, for an embedder that
// wants to work in process.
func (s *Server) Plugin(uri string) (any, error) {
	for _, p := range s.graph.set.GetAll() {
		if p.Registration.URI() == uri {
			return p.Instance()
		}
	}
	return nil, errdefs.NotFound("plugin %s not found", uri)
}

// Stop ends what Start began and closes the plugins. Calls that still run when
// the configured time or ctx is over are cut off; calls that wait for something
// to happen are cut off at once. It returns the first error and goes on to the
// end all the same. Stopping again does nothing.
func (s *Server) Stop(ctx context.Context) error {
	s.once.Do(func() { s.stopErr = s.shutDown(ctx) })
	return s.stopErr
}

func (s *Server) shutDown(ctx context.Context) error {
	if s.health != nil {
		s.health.Stop()
	}
	s.stop.begin()
	drain, cancel := context.WithTimeout(ctx, s.cfg.StopTimeout)
	defer cancel()
	s.local.drain(drain)
	s.drainGRPC(drain)
	if err := s.ttrpc.Shutdown(drain); err != nil {
		_ = s.ttrpc.Close() // its listeners and connections are gone either way
	}
	for _, h := range s.https {
		_ = h.Close()
	}
	_ = s.memory.Close()
	for _, l := range s.sockets {
		l.remove()
	}
	s.serving.Wait()
	return s.graph.close(context.WithoutCancel(ctx))
}

func (s *Server) drainGRPC(ctx context.Context) {
	done := make(chan struct{})
	go func() { // ends with the calls, or with Stop below
		defer close(done)
		s.grpc.GracefulStop()
	}()
	select {
	case <-done:
	case <-ctx.Done():
		s.grpc.Stop()
		<-done
	}
}

func (s *Server) listen(path string, uid, gid int) (*socket, error) {
	l, err := listenUnix(path, uid, gid)
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", path, err)
	}
	s.sockets = append(s.sockets, l)
	return l, nil
}

// listenHTTP takes a unix socket's absolute path or a TCP address.
func (s *Server) listenHTTP(address string) (net.Listener, error) {
	if filepath.IsAbs(address) {
		return s.listen(address, s.cfg.Debug.UID, s.cfg.Debug.GID)
	}
	l, err := net.Listen("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", address, err)
	}
	return l, nil
}

// stopping tells calls that would wait for ever that the server stops.
type stopping struct {
	ctx context.Context
	now context.CancelFunc
}

func newStopping() *stopping {
	ctx, cancel := context.WithCancel(context.Background())
	return &stopping{ctx, cancel}
}

func (s *stopping) begin()      { s.now() }
func (s *stopping) begun() bool { return s.ctx.Err() != nil }

// errStopping ends such a call.
var errStopping = errdefs.Unavailable("the core is stopping")

// bound returns a context that ends with ctx or when the server stops.
func (s *stopping) bound(ctx context.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	release := context.AfterFunc(s.ctx, func() { cancel(errStopping) })
	return ctx, func() {
		release()
		cancel(nil)
	}
}

// readHeaderTimeout keeps idle HTTP clients from holding a connection's set-up.
const readHeaderTimeout = 10 * time.Second
