package stream

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"sync"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"

	"gantry/api/errdefs"
	"gantry/api/shimwire"
)

// Prober is a Host that runs probes.
type Prober interface {
	// Probe runs a process to its end and leaves nothing of it; the end of ctx kills it
	// with all it has begun.
	Probe(ctx context.Context, p *specs.Process, o shimwire.Probe) (shimwire.Probed, error)
}

// Lister is a Host that knows its execs.
type Lister interface{ Execs() []shimwire.Exec }

func (s *Server) execs(conn net.Conn) error {
	host, ok := s.host.(Lister)
	if !ok {
		return s.answer(conn, errdefs.Unavailable("no execs are known here"))
	}
	conn.SetDeadline(time.Now().Add(helloTimeout))
	return shimwire.WriteExecs(conn, host.Execs())
}

// probes runs what the client asks for, one at a time, until it has gone; then what
// still runs ends.
func (s *Server) probes(conn *net.UnixConn, process []byte) error {
	host, ok := s.host.(Prober)
	if !ok {
		return s.answer(conn, errdefs.NotImplemented("no probes here"))
	}
	spec := new(specs.Process)
	if err := json.Unmarshal(process, spec); err != nil {
		return s.answer(conn, errdefs.InvalidArgument("process of probe: %w", err))
	}
	if !s.idle(conn) {
		return s.answer(conn, errdefs.NotFound("the container has been deleted"))
	}
	if err := s.answer(conn, nil); err != nil {
		return err
	}
	var running sync.WaitGroup
	defer running.Wait()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	busy := make(chan struct{}, 1)
	in := shimwire.NewProbeReader(conn)
	for {
		o, err := in.Next()
		switch {
		case errors.Is(err, io.EOF), errors.Is(err, net.ErrClosed):
			return nil
		case err != nil:
			return err
		}
		select {
		case busy <- struct{}{}:
		default:
			return errors.New("client asks for two probes at once")
		}
		running.Go(func() { // ends with the process; ctx ends that
			r, err := host.Probe(ctx, spec, o)
			<-busy
			frame := shimwire.AppendProbed(nil, r)
			if err != nil {
				frame = shimwire.AppendResult(nil, err)
			}
			conn.Write(frame) // a client that has gone is noticed by the reading
		})
	}
}

// idle notes a client that is owed nothing when the container goes; false when it has
// gone already.
func (s *Server) idle(conn net.Conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	s.conns[conn] = true
	return true
}

// dropIdle ends the clients that idle noted.
func (s *Server) dropIdle() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	for c, idle := range s.conns {
		if idle {
			c.Close()
		}
	}
}
