package server_test

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/containerd/typeurl/v2"

	"gantry/api/reqctx"
	"gantry/libctr/client"
	"gantry/libctr/core/diff"
	"gantry/libctr/core/lease"
	"gantry/libctr/server"
)

// core is a running core on directories of its own.
type core struct {
	*server.Server
	cfg     server.Config
	client  *client.Client
	runtime string      // of the containers that tests make
	options typeurl.Any // of that runtime, nil for none
}

// newConfig names short directories: a socket's path must fit sun_path.
func newConfig(t *testing.T) server.Config {
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
	return server.Config{
		Root:            filepath.Join(dir, "root"),
		State:           filepath.Join(dir, "state"),
		RequiredPlugins: server.Essential(),
		Log:             slog.New(slog.NewTextHandler(testWriter{t}, &slog.HandlerOptions{Level: slog.LevelDebug})),
		Build:           server.Build{Version: "1.2.3", Revision: "abc"},
		// The name of runc's shim is to mean that here, not ours.
		Plugins: map[string]any{"io.containerd.runtime.v2.task": map[string]any{"aliases": map[string]any{"io.containerd.runc.v2": "io.containerd.runc.v2"}}},
	}
}

type testWriter struct{ t *testing.T }

func (w testWriter) Write(p []byte) (int, error) {
	w.t.Log(string(p[:len(p)-1]))
	return len(p), nil
}

func start(t *testing.T, cfg server.Config) *core {
	t.Helper()
	s, err := server.New(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	c := &core{Server: s, cfg: cfg, runtime: "io.containerd.runc.v2"}
	t.Cleanup(func() { c.stop(t) })
	if err := s.Start(); err != nil {
		t.Fatal(err)
	}
	c.client, err = client.New(s.Address(), client.WithNamespace("moby"))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := c.client.Ready(ctx); err != nil {
		t.Fatal(err)
	}
	return c
}

func (c *core) stop(t *testing.T) {
	t.Helper()
	if c.client != nil {
		c.client.Close()
	}
	if err := c.Stop(context.Background()); err != nil {
		t.Errorf("stop: %v", err)
	}
}

func inNamespace(ctx context.Context, ns string) context.Context {
	return reqctx.WithNamespace(ctx, ns)
}

func TestServes(t *testing.T) {
	cfg := newConfig(t)
	c := start(t, cfg)
	plugins, err := c.client.Introspection().Plugins(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range plugins {
		if p.GetInitErr() != nil {
			t.Errorf("%s.%s: %v", p.GetType(), p.GetID(), p.GetInitErr().GetMessage())
		}
	}
	v, rev, err := c.client.Introspection().Version(t.Context())
	if err != nil || v != "2.4.2+gantry.1.2.3" || rev != "abc" {
		t.Errorf("version %q %q %v", v, rev, err)
	}
	first, err := c.client.Introspection().Server(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	c.stop(t)
	again, err := start(t, cfg).client.Introspection().Server(t.Context())
	if err != nil || first.GetUUID() == "" || first.GetUUID() != again.GetUUID() {
		t.Errorf("identity %v then %v, %v", first, again, err)
	}
}

// requestContext is a request under a namespace, a lease and an id.
func requestContext(t *testing.T) context.Context {
	return lease.With(reqctx.WithRequestID(inNamespace(t.Context(), "other"), "r1"), "l1")
}

var diffOptions = diff.CompareOptions{}
