// Package sink is receivers of logs for tests: syslog, fluentd's forward protocol, GELF
// and the journal's native protocol, each decoded by a reader of its own.
package sink

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// Message is one entry that has come.
type Message struct {
	// Text is the message: the whole of it with syslog, the container's line otherwise.
	Text string
	// Fields are what came with it.
	Fields map[string]string
	// Tag and Time are fluentd's; Time is zero where the protocol's own was not used.
	Tag  string
	Time time.Time
	// Conn is the number of the connection, from 1; 0 for datagrams.
	Conn int
}

// Sink receives, from one connection after the other, so that what was sent first comes
// first. Safe for concurrent use.
type Sink struct {
	// Network and Addr are what it listens on.
	Network, Addr string
	// Deaf has connections accepted and not read.
	Deaf atomic.Bool
	// Pause is how long it takes over each message, a time.Duration.
	Pause atomic.Int64
	// TLS is spoken where it is not nil. Set by the constructor.
	TLS *tls.Config
	// Mute acknowledges nothing, where the protocol would.
	Mute atomic.Bool

	decode func(s *Sink, c net.Conn, number int)
	packet func(s *Sink, p []byte, oob []byte)

	mu     sync.Mutex
	come   *sync.Cond
	got    []Message
	conns  map[net.Conn]bool
	count  int
	before chan struct{} // closed when the last connection so far has ended
	closer io.Closer
	work   sync.WaitGroup
}

func newSink(t testing.TB, network, addr string, conf *tls.Config) *Sink {
	s := &Sink{Network: network, Addr: addr, TLS: conf}
	s.come = sync.NewCond(&s.mu)
	t.Cleanup(s.Close)
	return s
}

// Open listens, also again after Close, at the same address. The constructors have done
// so.
func (s *Sink) Open(t testing.TB) {
	t.Helper()
	if err := s.open(); err != nil {
		t.Fatal(err)
	}
}

func (s *Sink) open() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.conns = map[net.Conn]bool{}
	if s.Network == "unix" || s.Network == "unixgram" {
		os.Remove(s.Addr)
	}
	switch s.Network {
	case "udp", "unixgram":
		conn, err := again(func() (net.PacketConn, error) { return net.ListenPacket(s.Network, s.Addr) })
		if err != nil {
			return err
		}
		if u, ok := conn.(*net.UDPConn); ok {
			u.SetReadBuffer(4 << 20)
		}
		s.Addr, s.closer = conn.LocalAddr().String(), conn
		s.work.Go(func() { s.receive(conn) })
	default:
		l, err := again(func() (net.Listener, error) { return net.Listen(s.Network, s.Addr) })
		if err != nil {
			return err
		}
		s.Addr, s.closer = l.Addr().String(), l
		s.work.Go(func() { s.accept(l) })
	}
	return nil
}

// again tries for some seconds: somebody may hold the port of one that was closed.
func again[T any](listen func() (T, error)) (l T, err error) {
	for range 200 {
		if l, err = listen(); err == nil {
			break
		}
		time.Sleep(20 * time.Millisecond)
	}
	return l, err
}

// Close ends the sink, its connections at once, as if its process were killed. What it
// has got stays.
func (s *Sink) Close() {
	s.mu.Lock()
	if s.closer != nil {
		s.closer.Close()
		s.closer = nil
	}
	for c := range s.conns {
		if tc, ok := c.(*net.TCPConn); ok {
			tc.SetLinger(0)
		}
		c.Close()
	}
	s.mu.Unlock()
	s.work.Wait()
}

func (s *Sink) receive(conn net.PacketConn) {
	buf, oob := make([]byte, 1<<20), make([]byte, 256)
	for {
		if u, ok := conn.(*net.UnixConn); ok {
			n, m, _, _, err := u.ReadMsgUnix(buf, oob)
			if err != nil {
				return
			}
			s.packet(s, buf[:n], oob[:m])
			continue
		}
		n, _, err := conn.ReadFrom(buf)
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return
			}
			continue
		}
		s.packet(s, buf[:n], nil)
	}
}

func (s *Sink) accept(l net.Listener) {
	for {
		raw, err := l.Accept()
		if err != nil {
			return
		}
		s.mu.Lock()
		if s.closer == nil {
			s.mu.Unlock()
			raw.Close()
			return
		}
		s.conns[raw] = true
		s.count++
		number := s.count
		before, ended := s.before, make(chan struct{})
		s.before = ended
		s.mu.Unlock()
		if s.Deaf.Load() {
			close(ended)
			continue
		}
		conn := raw
		if s.TLS != nil {
			conn = tls.Server(raw, s.TLS)
		}
		s.work.Go(func() {
			defer close(ended)
			defer raw.Close()
			if before != nil {
				<-before
			}
			s.decode(s, conn, number)
		})
	}
}

func (s *Sink) add(m Message) {
	if p := time.Duration(s.Pause.Load()); p > 0 {
		time.Sleep(p)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.got = append(s.got, m)
	s.come.Broadcast()
}

// Got returns what has come so far.
func (s *Sink) Got() []Message {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]Message(nil), s.got...)
}

// Conns is how many connections there have been.
func (s *Sink) Conns() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.count
}

// patience is how long a test waits for messages that must come.
const patience = time.Minute

// Wait waits until enough says that what has come is all.
func (s *Sink) Wait(t testing.TB, enough func([]Message) bool) []Message {
	t.Helper()
	over := false
	timer := time.AfterFunc(patience, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		over = true
		s.come.Broadcast()
	})
	defer timer.Stop()
	s.mu.Lock()
	defer s.mu.Unlock()
	for !enough(s.got) {
		if over {
			t.Fatalf("%d messages have come in %v, the last %+v", len(s.got), patience, s.got[max(0, len(s.got)-3):])
		}
		s.come.Wait()
	}
	return append([]Message(nil), s.got...)
}

// WaitN waits for n messages.
func (s *Sink) WaitN(t testing.TB, n int) []Message {
	t.Helper()
	return s.Wait(t, func(m []Message) bool { return len(m) >= n })
}
