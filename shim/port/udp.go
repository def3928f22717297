package port

import (
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"
)

const (
	// udpIdle is how long a client's way back stays open without traffic.
	udpIdle     = 90 * time.Second
	maxDatagram = 64 << 10
)

// maxSessions bounds the clients of one port; beyond, the one that has been silent for
// the longest time makes room.
var maxSessions = 4096

// udpRelay gives each client a socket of its own towards the container, so that
// answers find their way.
type udpRelay struct {
	front *net.UDPConn
	to    *net.UDPAddr
	log   *slog.Logger
	wg    sync.WaitGroup

	mu       sync.Mutex
	closed   bool                           // guarded by mu
	sessions map[netip.AddrPort]*udpSession // guarded by mu
}

// udpSession is a client's way to the container and back.
type udpSession struct {
	*net.UDPConn
	heard time.Time // when the client was last heard; guarded by udpRelay.mu
}

func relayUDP(f *os.File, to string, log *slog.Logger) (holder, error) {
	addr, err := net.ResolveUDPAddr("udp", to)
	if err != nil {
		return nil, err
	}
	pc, err := net.FilePacketConn(f)
	if err != nil {
		return nil, err
	}
	r := &udpRelay{front: pc.(*net.UDPConn), to: addr, log: log, sessions: map[netip.AddrPort]*udpSession{}}
	r.wg.Go(r.forward)
	return r, nil
}

func (r *udpRelay) close() {
	r.front.Close()
	r.mu.Lock()
	r.closed = true
	for _, c := range r.sessions {
		c.Close()
	}
	r.mu.Unlock()
	r.wg.Wait()
}

func (r *udpRelay) forward() {
	buf := make([]byte, maxDatagram)
	for {
		n, client, err := r.front.ReadFromUDPAddrPort(buf)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue // the error of an earlier answer to a client that has gone
		}
		c, err := r.session(client)
		if err != nil {
			r.log.Debug("relay datagram", "to", r.to.String(), "err", err)
			continue
		}
		c.SetReadDeadline(time.Now().Add(udpIdle))
		c.Write(buf[:n]) //nolint:errcheck // datagrams may be lost
	}
}

// session returns the client's socket, a new one if need be.
func (r *udpRelay) session(client netip.AddrPort) (*udpSession, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if c := r.sessions[client]; c != nil {
		c.heard = time.Now()
		return c, nil
	}
	if r.closed {
		return nil, net.ErrClosed
	}
	if len(r.sessions) >= maxSessions {
		r.dropOldest()
	}
	conn, err := net.DialUDP("udp", nil, r.to)
	if err != nil {
		return nil, err
	}
	c := &udpSession{UDPConn: conn, heard: time.Now()}
	r.sessions[client] = c
	r.wg.Go(func() { r.backward(client, c) })
	return c, nil
}

// dropOldest ends the session whose client has been silent longest. Called with mu held.
func (r *udpRelay) dropOldest() {
	var oldest netip.AddrPort
	var at time.Time
	for client, c := range r.sessions {
		if at.IsZero() || c.heard.Before(at) {
			oldest, at = client, c.heard
		}
	}
	if c := r.sessions[oldest]; c != nil {
		delete(r.sessions, oldest)
		c.Close() // ends backward
	}
}

// backward carries answers until the client has been idle.
func (r *udpRelay) backward(client netip.AddrPort, c *udpSession) {
	defer func() {
		r.mu.Lock()
		if r.sessions[client] == c {
			delete(r.sessions, client)
		}
		r.mu.Unlock()
		c.Close()
	}()
	buf := make([]byte, maxDatagram)
	for {
		n, err := c.Read(buf)
		var netErr net.Error
		switch {
		case err == nil:
			c.SetReadDeadline(time.Now().Add(udpIdle))
			r.front.WriteToUDPAddrPort(buf[:n], client) //nolint:errcheck // datagrams may be lost
		case errors.Is(err, net.ErrClosed), errors.As(err, &netErr) && netErr.Timeout():
			return
		}
		// else: refused for now (ICMP); the container may listen later
	}
}
