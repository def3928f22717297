package network

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	networktypes "github.com/docker/docker/api/types/network"
	"github.com/docker/go-connections/nat"
)

// TestAllocateUndone lets each step of an allocation fail; what the steps before it
// made is gone, and the next container gets the first address.
func TestAllocateUndone(t *testing.T) {
	f := newFixture(t, 9)
	s := f.service(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	taken := fmt.Sprint(l.Addr().(*net.TCPAddr).Port)
	for _, tt := range []struct {
		name string
		make func(t *testing.T, r *Request) // so that it fails
		err  string
	}{
		{"namespace", func(t *testing.T, _ *Request) { block(t, f.cfg.Dir) }, "not a directory"},
		{"link", func(_ *testing.T, r *Request) {
			r.Endpoints = map[string]*networktypes.EndpointSettings{"bridge": {MacAddress: "zz"}}
		}, "zz"},
		{"port", func(_ *testing.T, r *Request) {
			r.PortBindings["81/tcp"] = []nat.PortBinding{{HostIP: "127.0.0.1", HostPort: taken}}
		}, "address already in use"},
		{"files", func(_ *testing.T, r *Request) { r.Dir = filepath.Join(r.Dir, "nope") }, "no such file"},
		{"firewall", func(t *testing.T, _ *Request) {
			if err := s.table.Remove(); err != nil {
				t.Fatal(err)
			}
		}, "programming external connectivity"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := request(t, "c1")
			r.Exposed = nat.PortSet{"80/tcp": {}, "81/tcp": {}}
			r.PortBindings = nat.PortMap{"80/tcp": {{HostIP: "127.0.0.1"}}}
			tt.make(t, &r)
			sb, err := s.Allocate(context.Background(), r)
			if err == nil {
				sb.CloseHeld()
				s.Release(context.Background(), "c1")
				t.Fatal("does not fail")
			}
			if !strings.Contains(err.Error(), tt.err) {
				t.Errorf("failed with %v", err)
			}
			if len(s.endpoints) > 0 {
				t.Errorf("endpoints left: %v", s.endpoints)
			}
		})
		checkEmpty(t, s)
	}
}

// block puts a file where the directory is to be, until the end of the test.
func block(t *testing.T, dir string) {
	t.Helper()
	os.RemoveAll(dir)
	if err := os.WriteFile(dir, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		os.Remove(dir)
		os.Mkdir(dir, 0o755)
	})
}
