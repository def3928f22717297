// Package routertest serves routes with fake backends on a real socket.
package routertest

import (
	"context"
	"net"
	"path/filepath"
	"testing"
	"time"

	"gantry/router/route"
	"gantry/router/server"
)

// Serve starts a server for the resources on a unix socket and stops it with the
// test. It returns how to connect.
func Serve(t testing.TB, resources ...route.Resource) func() (net.Conn, error) {
	t.Helper()
	s, err := server.New(server.Config{Version: "0.1.0"}, resources...)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "api.sock")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- s.Serve(l) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := s.Shutdown(ctx); err != nil {
			t.Errorf("shutdown: %v", err)
		}
		if err := <-served; err != nil {
			t.Errorf("serve: %v", err)
		}
	})
	return func() (net.Conn, error) { return net.Dial("unix", path) }
}
