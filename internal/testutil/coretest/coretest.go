// Package coretest runs a core for the tests of what stands on it: ours in this
// process, or a real containerd. Both are reached over gRPC.
package coretest

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"gantry/internal/testutil/need"
	"gantry/libctr/client"
	"gantry/libctr/server"
)

// Namespace is the one the clients work in.
const Namespace = "moby"

// Start runs our core on directories of its own and stops it with the test.
func Start(t testing.TB) *client.Client {
	t.Helper()
	return connect(t, Serve(t))
}

// Serve is Start for a test that makes its own connections, to the socket returned. Each
// change is made to the configuration first.
func Serve(t testing.TB, changes ...func(*server.Config)) string {
	t.Helper()
	need.Root(t, "mounts overlayfs")
	dir := shortDir(t)
	cfg := server.Config{
		Root:            filepath.Join(dir, "root"),
		State:           filepath.Join(dir, "state"),
		RequiredPlugins: server.Essential(),
		Log:             Log(t),
	}
	for _, change := range changes {
		change(&cfg)
	}
	s, err := server.New(context.Background(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Stop(context.Background()); err != nil {
			t.Errorf("stop core: %v", err)
		}
	})
	if err := s.Start(); err != nil {
		t.Fatal(err)
	}
	return s.Address()
}

// Containerd runs Debian's containerd instead, or the one that GANTRY_CONTAINERD names.
func Containerd(t testing.TB) *client.Client {
	t.Helper()
	return connect(t, ServeContainerd(t))
}

// ServeContainerd is Containerd for a test that makes its own connections.
func ServeContainerd(t testing.TB) string {
	t.Helper()
	need.Root(t, "mounts overlayfs")
	path := os.Getenv("GANTRY_CONTAINERD")
	if path == "" {
		path = need.Command(t, "containerd")
	}
	dir := shortDir(t)
	socket := filepath.Join(dir, "c.sock")
	config := fmt.Sprintf("version = 2\nroot = %q\nstate = %q\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n[grpc]\naddress = %q\n",
		filepath.Join(dir, "root"), filepath.Join(dir, "state"), socket)
	if err := os.WriteFile(filepath.Join(dir, "config.toml"), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(path, "--config", filepath.Join(dir, "config.toml"), "--log-level", "warn")
	cmd.Stderr = lines{t}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(unix.SIGTERM)
		if err := cmd.Wait(); err != nil {
			t.Logf("containerd: %v", err)
		}
	})
	return socket
}

func connect(t testing.TB, address string) *client.Client {
	t.Helper()
	c, err := client.New(address, client.WithNamespace(Namespace))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if err := c.Ready(ctx); err != nil {
		t.Fatal(err)
	}
	return c
}

// shortDir is a directory whose sockets fit sun_path.
func shortDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "core")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// Log writes into the test's output.
func Log(t testing.TB) *slog.Logger {
	return slog.New(slog.NewTextHandler(lines{t}, nil))
}

type lines struct{ t testing.TB }

func (l lines) Write(p []byte) (int, error) {
	l.t.Log(strings.TrimRight(string(p), "\n"))
	return len(p), nil
}
