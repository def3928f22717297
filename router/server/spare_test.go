package server

import (
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"testing"
)

// scarce accepts as a process does that has no descriptor free but the spare one.
type scarce struct {
	net.Listener
	lent func() bool
}

func (s scarce) Accept() (net.Conn, error) {
	if !s.lent() {
		return nil, &net.OpError{Op: "accept", Err: os.NewSyscallError("accept4", syscall.EMFILE)}
	}
	return s.Listener.Accept()
}

// TestSpare takes away all descriptors but the spare one: clients are refused with an
// answer, and served again when there is room.
func TestSpare(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	var room atomic.Bool
	s := withSpare(l)
	open := s.open
	s.open = func() (*os.File, error) {
		if !room.Load() {
			return nil, syscall.EMFILE
		}
		return open()
	}
	s.Listener = scarce{l, func() bool { return s.spare == nil }}

	served := make(chan error)
	api := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "OK") })}
	go func() { served <- api.Serve(s) }()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true,
		Dial: func(string, string) (net.Conn, error) { return net.Dial("unix", path) }}}
	for _, c := range []struct {
		room bool
		code int
		body string
	}{
		{false, 503, "{\"message\":\"too many open files\"}\n"},
		{false, 503, "{\"message\":\"too many open files\"}\n"},
		{true, 200, "OK"},
		{true, 200, "OK"},
	} {
		room.Store(c.room)
		res, err := client.Get("http://x/_ping")
		if err != nil {
			t.Fatal(err)
		}
		raw, _ := io.ReadAll(res.Body)
		res.Body.Close()
		if res.StatusCode != c.code || string(raw) != c.body {
			t.Errorf("room %v: %d %q", c.room, res.StatusCode, raw)
		}
	}
	api.Close()
	if err := <-served; err != http.ErrServerClosed {
		t.Error(err)
	}
}
