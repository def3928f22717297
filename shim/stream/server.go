// Package stream serves a container's stream socket (api/shimwire): live output
// and stdin of its processes, and the sockets that reserve its ports.
package stream

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"gantry/api/errdefs"
	"gantry/api/shimwire"
	"gantry/shim/output"
)

// helloTimeout bounds how long a client may take to say what it wants.
const helloTimeout = 10 * time.Second

// Stdin is where clients write. Safe for concurrent use.
type Stdin interface {
	// Write takes all of p or fails; it blocks while the process does not read.
	Write(p []byte) (int, error)
	// CloseSoon ends the stream after the writes that have begun.
	CloseSoon()
}

// Host is the container behind the socket. Safe for concurrent use.
type Host interface {
	// Streams returns the ends of a process, "" being the init; stdin is nil when
	// it has none. ErrNotFound when there is no such process or it has no stream.
	Streams(proc string) (output.Output, Stdin, error)
	// HoldPorts takes the files over, in place of earlier ones, and closes them
	// also on error. An empty list releases.
	HoldPorts([]shimwire.Port) error
}

// Keeper is a Host whose processes' streams are fifos, opened and ended by the engine.
type Keeper interface {
	OpenFifos(shimwire.Fifos) error
	EndFifos(proc string) error
}

// Server accepts clients until Close.
type Server struct {
	path string
	l    *net.UnixListener
	host Host
	log  *slog.Logger

	accepting sync.WaitGroup
	clients   sync.WaitGroup
	draining  atomic.Bool

	mu     sync.Mutex
	conns  map[net.Conn]bool // guarded by mu; true: see idle
	closed bool              // guarded by mu
}

// Listen makes the socket and begins to serve.
func Listen(path string, host Host, log *slog.Logger) (*Server, error) {
	l, err := shimwire.Listen(path)
	if err != nil {
		return nil, err
	}
	return Serve(path, l, host, log), nil
}

// Serve begins to serve on a socket that listens already, at path; it owns both.
func Serve(path string, l *net.UnixListener, host Host, log *slog.Logger) *Server {
	s := &Server{path: path, l: l, host: host, log: log, conns: map[net.Conn]bool{}}
	s.accepting.Go(s.accept)
	return s
}

// Close removes the socket and takes no more clients; those that are there go on, but
// for probers.
func (s *Server) Close() error {
	err := os.Remove(s.path)
	s.l.Close()
	s.accepting.Wait()
	s.dropIdle()
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}

// stall is how long a client that is behind may read nothing while the container is over:
// its next run waits for this one's shim. dockerd waits as long.
const stall = 2 * time.Second

// Drain waits until the clients have gone, and ends those that do not read any more, and
// with ctx all. It comes after Close.
func (s *Server) Drain(ctx context.Context) {
	s.draining.Store(true)
	s.mu.Lock()
	for c := range s.conns {
		c.SetWriteDeadline(time.Now().Add(stall))
	}
	s.mu.Unlock()
	stop := context.AfterFunc(ctx, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		for c := range s.conns {
			c.Close()
		}
	})
	defer stop()
	s.clients.Wait()
}

func (s *Server) accept() {
	for {
		conn, err := s.l.AcceptUnix()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil { // out of descriptors, most likely: clients wait in the backlog
			s.log.Warn("accept stream client", "err", err)
			time.Sleep(100 * time.Millisecond)
			continue
		}
		s.mu.Lock()
		s.conns[conn] = false
		s.mu.Unlock()
		s.clients.Go(func() {
			s.serve(conn)
			conn.Close()
			s.mu.Lock()
			delete(s.conns, conn)
			s.mu.Unlock()
		})
	}
}

func (s *Server) serve(conn *net.UnixConn) {
	conn.SetDeadline(time.Now().Add(helloTimeout))
	req, err := shimwire.ReadRequest(conn)
	if err != nil {
		if !errors.Is(err, io.ErrUnexpectedEOF) {
			s.log.Warn("read request of stream client", "err", err)
		}
		return
	}
	conn.SetDeadline(time.Time{})
	switch {
	case req.Hello != nil:
		err = s.stream(conn, *req.Hello)
	case req.Execs:
		err = s.execs(conn)
	case req.Prober != nil:
		err = s.probes(conn, req.Prober)
	case req.Release:
		err = s.answer(conn, s.host.HoldPorts(nil))
	case req.Ports != nil:
		err = s.answer(conn, s.host.HoldPorts(req.Ports))
	default:
		err = s.answer(conn, s.fifos(req))
	}
	if err != nil {
		s.log.Debug("stream client", "err", err)
	}
}

func (s *Server) fifos(req shimwire.Request) error {
	k, ok := s.host.(Keeper)
	switch {
	case !ok:
		return errdefs.NotImplemented("this shim keeps no fifos")
	case req.Fifos != nil:
		return k.OpenFifos(*req.Fifos)
	}
	return k.EndFifos(*req.End)
}

func (s *Server) answer(conn net.Conn, result error) error {
	_, err := conn.Write(shimwire.AppendResult(nil, result))
	return err
}

// stream serves one client until the end of output or the loss of the client.
func (s *Server) stream(conn *net.UnixConn, h shimwire.Hello) error {
	out, stdin, err := s.host.Streams(h.Proc)
	if err == nil && h.Stdin && stdin == nil {
		err = errdefs.FailedPrecondition("process has no open stdin")
	}
	if err != nil {
		return s.answer(conn, err)
	}
	if !h.Stdin {
		stdin = nil
	}
	r := out.NewReader(h)
	defer r.Close()
	if _, err := conn.Write(shimwire.AppendWelcome(nil, r.Start())); err != nil {
		return err
	}
	var input sync.WaitGroup
	input.Go(func() {
		if err := copyIn(stdin, conn); err != nil {
			s.log.Debug("input of stream client", "err", err)
		}
		r.Close()
	})
	err = s.copyOut(conn, r)
	conn.Close() // ends the input, unless it waits for the process to read
	return err
}

func (s *Server) copyOut(conn net.Conn, r output.Reader) error {
	var buf []byte
	for {
		var err error
		if buf, err = r.Next(buf[:0]); len(buf) > 0 {
			if s.draining.Load() {
				conn.SetWriteDeadline(time.Now().Add(stall))
			}
			if _, werr := conn.Write(buf); werr != nil {
				return werr
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// copyIn carries the client's input to the process until the client has gone.
// What a process no longer reads is dropped, as by a terminal nobody listens to.
func copyIn(stdin Stdin, conn net.Conn) error {
	in := shimwire.NewInputReader(bufio.NewReaderSize(conn, 4<<10))
	for {
		piece, err := in.Next()
		switch {
		case errors.Is(err, io.EOF), errors.Is(err, net.ErrClosed):
			return nil
		case err != nil:
			return err
		case stdin == nil:
			return fmt.Errorf("input from a client that did not ask for stdin")
		case piece.Close:
			stdin.CloseSoon()
		default:
			stdin.Write(piece.Data)
		}
	}
}
