package port

import (
	"log/slog"
	"net"
	"testing"
	"time"
)

// A port that has as many clients as it may serves the next one too.
func TestUDPManyClients(t *testing.T) {
	defer func(n int) { maxSessions = n }(maxSessions)
	maxSessions = 3
	echo, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer echo.Close()
	go func() { // ends with the socket
		buf := make([]byte, 8)
		for {
			n, from, err := echo.ReadFrom(buf)
			if err != nil {
				return
			}
			echo.WriteTo(buf[:n], from)
		}
	}()
	front, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer front.Close()
	f, err := front.File()
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r, err := relayUDP(f, echo.LocalAddr().String(), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer r.close()
	for i := range 20 {
		c, err := net.Dial("udp", front.LocalAddr().String())
		if err != nil {
			t.Fatal(err)
		}
		c.SetDeadline(time.Now().Add(5 * time.Second))
		c.Write([]byte("ping"))
		buf := make([]byte, 8)
		if n, err := c.Read(buf); err != nil || string(buf[:n]) != "ping" {
			t.Errorf("client %d: %q, %v", i, buf[:n], err)
		}
		c.Close()
	}
	u := r.(*udpRelay)
	u.mu.Lock()
	defer u.mu.Unlock()
	if len(u.sessions) > maxSessions {
		t.Errorf("%d sessions", len(u.sessions))
	}
}
