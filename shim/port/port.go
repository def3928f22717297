// Package port holds the bound sockets that reserve a container's published
// ports, and relays those that the firewall's address translation can't serve.
package port

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"sync"

	"golang.org/x/sys/unix"

	"gantry/api/errdefs"
	"gantry/api/shimwire"
)

// Set is what one container holds. Safe for concurrent use; the zero value is
// not ready, see New.
type Set struct {
	log *slog.Logger

	mu   sync.Mutex
	held []holder // guarded by mu
}

// holder is one socket.
type holder interface {
	// close ends it and its connections, and waits for its goroutines.
	close()
}

// New returns a set that holds nothing.
func New(log *slog.Logger) *Set { return &Set{log: log} }

// Hold takes ports over in place of what was held; nothing changes on error.
// The files are closed in any case, sockets live on as copies.
func (s *Set) Hold(ports []shimwire.Port) error {
	fresh, err := s.open(ports)
	for _, p := range ports {
		p.File.Close()
	}
	if err != nil {
		closeAll(fresh)
		return err
	}
	s.mu.Lock()
	old := s.held
	s.held = fresh
	s.mu.Unlock()
	closeAll(old)
	return nil
}

// Release closes everything.
func (s *Set) Release() { s.Hold(nil) } //nolint:errcheck // nothing can fail with no port

func closeAll(hs []holder) {
	for _, h := range hs {
		h.close()
	}
}

func (s *Set) open(ports []shimwire.Port) (hs []holder, err error) {
	for _, p := range ports {
		h, err := s.openOne(p)
		if err != nil {
			return hs, fmt.Errorf("hold %s port: %w", p.Proto, err)
		}
		hs = append(hs, h)
	}
	return hs, nil
}

func (s *Set) openOne(p shimwire.Port) (holder, error) {
	if err := check(p); err != nil {
		return nil, err
	}
	switch {
	case p.Relay == "":
		return hold(p.File)
	case p.Proto == "tcp":
		return relayTCP(p.File, p.Relay, s.log)
	default:
		return relayUDP(p.File, p.Relay, s.log)
	}
}

// check makes sure that a descriptor is what the port says.
func check(p shimwire.Port) error {
	kinds := map[string][2]int{
		"tcp":  {unix.SOCK_STREAM, unix.IPPROTO_TCP},
		"udp":  {unix.SOCK_DGRAM, unix.IPPROTO_UDP},
		"sctp": {unix.SOCK_STREAM, unix.IPPROTO_SCTP},
	}
	want, ok := kinds[p.Proto]
	if !ok {
		return errdefs.InvalidArgument("unknown protocol %q", p.Proto)
	}
	rc, err := p.File.SyscallConn()
	if err != nil {
		return err
	}
	var kind, proto int
	cerr := rc.Control(func(fd uintptr) {
		if kind, err = unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_TYPE); err == nil {
			proto, err = unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_PROTOCOL)
		}
	})
	if err = errors.Join(err, cerr); err != nil {
		return errdefs.InvalidArgument("descriptor is no socket: %w", err)
	}
	if proto == unix.IPPROTO_MPTCP {
		proto = unix.IPPROTO_TCP // what Go's net listens with
	}
	if kind != want[0] || proto != want[1] {
		return errdefs.InvalidArgument("descriptor is no %s socket", p.Proto)
	}
	if p.Relay == "" {
		return nil
	}
	if p.Proto == "sctp" {
		return errdefs.InvalidArgument("sctp can't be relayed")
	}
	if _, _, err := net.SplitHostPort(p.Relay); err != nil {
		return errdefs.InvalidArgument("relay address: %w", err)
	}
	return nil
}

// holding only keeps the socket open.
type holding struct{ f *os.File }

func hold(f *os.File) (holder, error) {
	rc, err := f.SyscallConn()
	if err != nil {
		return nil, err
	}
	var fd int
	cerr := rc.Control(func(old uintptr) { fd, err = unix.FcntlInt(old, unix.F_DUPFD_CLOEXEC, 0) })
	if err = errors.Join(err, cerr); err != nil {
		return nil, err
	}
	return holding{os.NewFile(uintptr(fd), f.Name())}, nil
}

func (h holding) close() { h.f.Close() }
