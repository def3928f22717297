package port_test

import (
	"bytes"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"syscall"
	"testing"
	"time"

	"gantry/api/errdefs"
	"gantry/api/shimwire"
	"gantry/shim/port"
)

func newSet(t *testing.T) *port.Set {
	s := port.New(slog.New(slog.DiscardHandler))
	t.Cleanup(s.Release)
	return s
}

// tcpFile returns a bound socket and its address.
func tcpFile(t *testing.T) (*os.File, string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	f, err := l.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	return f, l.Addr().String()
}

func TestHold(t *testing.T) {
	s := newSet(t)
	f, addr := tcpFile(t)
	if err := s.Hold([]shimwire.Port{{File: f, Proto: "tcp"}}); err != nil {
		t.Fatal(err)
	}
	if l, err := net.Listen("tcp", addr); err == nil {
		l.Close()
		t.Error("a held port could be taken")
	}
	s.Release()
	l, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatalf("a released port could not be taken: %v", err)
	}
	l.Close()
}

func TestRefuses(t *testing.T) {
	s := newSet(t)
	for name, p := range map[string]shimwire.Port{
		"protocol": {Proto: "icmp"},
		"kind":     {Proto: "udp"},
		"address":  {Proto: "tcp", Relay: "nowhere"},
	} {
		p.File, _ = tcpFile(t)
		if err := s.Hold([]shimwire.Port{p}); !errdefs.IsInvalidArgument(err) {
			t.Errorf("%s: %v", name, err)
		}
	}
	f, err := os.Open("/dev/null")
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Hold([]shimwire.Port{{File: f, Proto: "tcp"}}); !errdefs.IsInvalidArgument(err) {
		t.Errorf("no socket: %v", err)
	}
}

// TestRelayTCP pins that each direction ends on its own.
func TestRelayTCP(t *testing.T) {
	server, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	go func() {
		for {
			c, err := server.Accept()
			if err != nil {
				return
			}
			go func() { // answers after the client's end
				defer c.Close()
				all, _ := io.ReadAll(c)
				c.Write(append([]byte("got: "), all...))
			}()
		}
	}()
	s := newSet(t)
	f, addr := tcpFile(t)
	if err := s.Hold([]shimwire.Port{{File: f, Proto: "tcp", Relay: server.Addr().String()}}); err != nil {
		t.Fatal(err)
	}
	text := bytes.Repeat([]byte("0123456789"), 100_000)
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := c.Write(text); err != nil {
		t.Fatal(err)
	}
	c.(*net.TCPConn).CloseWrite()
	got, err := io.ReadAll(c)
	if err != nil || !bytes.Equal(got, append([]byte("got: "), text...)) {
		t.Errorf("got %d bytes, %v", len(got), err)
	}

	open, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer open.Close()
	open.Write([]byte("x"))
	s.Release()
	open.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := open.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("a connection outlived the release: %v", err)
	}
}

func TestRelayTCPRefused(t *testing.T) {
	gone, to := tcpFile(t)
	gone.Close()
	s := newSet(t)
	f, addr := tcpFile(t)
	if err := s.Hold([]shimwire.Port{{File: f, Proto: "tcp", Relay: to}}); err != nil {
		t.Fatal(err)
	}
	c, err := net.Dial("tcp", addr)
	if errors.Is(err, syscall.ECONNRESET) {
		return // so soon
	}
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("got %v, want a reset", err)
	}
}

func TestRelayUDP(t *testing.T) {
	server, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	go func() {
		buf := make([]byte, 1<<16)
		for {
			n, from, err := server.ReadFrom(buf)
			if err != nil {
				return
			}
			server.WriteTo(append([]byte(from.String()+" "), buf[:n]...), from)
		}
	}()
	front, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f, err := front.(*net.UDPConn).File()
	if err != nil {
		t.Fatal(err)
	}
	front.Close()
	s := newSet(t)
	if err := s.Hold([]shimwire.Port{{File: f, Proto: "udp", Relay: server.LocalAddr().String()}}); err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, text := range []string{"a", "b"} {
		c, err := net.Dial("udp", front.LocalAddr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		c.SetDeadline(time.Now().Add(10 * time.Second))
		for range 2 {
			buf := make([]byte, 100)
			c.Write([]byte(text))
			n, err := c.Read(buf)
			if err != nil || !bytes.HasSuffix(buf[:n], []byte(" "+text)) {
				t.Fatalf("got %q, %v", buf[:n], err)
			}
			seen[string(buf[:n])] = true
		}
	}
	if len(seen) != 2 {
		t.Errorf("clients share or change their way: %v", seen)
	}
}
