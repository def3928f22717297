package server_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/types/known/emptypb"

	"gantry/api/errdefs"
	"gantry/api/rpcstatus"
	"gantry/libctr/client"
	"gantry/libctr/core/container"
	"gantry/libctr/core/event"
	"gantry/libctr/server"
)

func TestNamespaces(t *testing.T) {
	c := start(t, newConfig(t))
	one := container.Container{ID: "x", Runtime: container.Runtime{Name: "io.containerd.runc.v2"}, Spec: anyJSON(t, "Spec", spec("/", "x"))}
	if _, err := c.client.Containers().Create(inNamespace(t.Context(), "a"), one); err != nil {
		t.Fatal(err)
	}
	if _, err := c.client.Containers().Get(inNamespace(t.Context(), "b"), "x"); !errdefs.IsNotFound(err) ||
		err.Error() != `container "x" in namespace "b": not found` {
		t.Errorf("from another namespace: %v", err)
	}
	if _, err := c.client.Containers().Get(inNamespace(t.Context(), "../b"), "x"); !errdefs.IsInvalidArgument(err) {
		t.Errorf("namespace that is a path: %v", err)
	}
	bare, err := client.New(c.Address())
	if err != nil {
		t.Fatal(err)
	}
	defer bare.Close()
	if _, err := bare.Tasks().List(t.Context()); !errdefs.IsFailedPrecondition(err) {
		t.Errorf("no namespace: %v", err)
	}
}

func TestInMemory(t *testing.T) {
	c := start(t, newConfig(t))
	mem, err := client.New("core", client.WithDialer(c.Dial), client.WithNamespace("a"))
	if err != nil {
		t.Fatal(err)
	}
	defer mem.Close()
	if v, _, err := mem.Introspection().Version(t.Context()); err != nil || v != "2.4.2+gantry.1.2.3" {
		t.Errorf("version %q, %v", v, err)
	}
}

// TestWithoutConnection: a client in the process gets the answers of one on the socket.
func TestWithoutConnection(t *testing.T) {
	c := start(t, newConfig(t))
	near, err := client.New(c.Address(), client.WithNamespace("a"), client.WithLocal(c.Local()))
	if err != nil {
		t.Fatal(err)
	}
	defer near.Close()
	for name, cl := range map[string]*client.Client{"local": near, "socket": c.client} {
		ctx := inNamespace(t.Context(), "a")
		one := container.Container{ID: name, Runtime: container.Runtime{Name: "io.containerd.runc.v2"}, Spec: anyJSON(t, "Spec", spec("/", "x"))}
		if _, err := cl.Containers().Create(ctx, one); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := cl.Containers().Create(ctx, one); !errdefs.IsAlreadyExists(err) || err.Error() != `container "`+name+`": already exists` {
			t.Errorf("%s: again: %v", name, err)
		}
		if got, err := cl.Containers().Get(ctx, name); err != nil || string(got.Spec.GetValue()) != string(one.Spec.GetValue()) {
			t.Errorf("%s: %v, %v", name, got, err)
		}
		if _, err := cl.Containers().Get(inNamespace(ctx, "../b"), name); !errdefs.IsInvalidArgument(err) {
			t.Errorf("%s: namespace that is a path: %v", name, err)
		}
		ended, cancel := context.WithCancel(ctx)
		cancel()
		if _, err := cl.Containers().Get(ended, name); !errors.Is(err, context.Canceled) {
			t.Errorf("%s: with an ended context: %v", name, err)
		}
	}
}

// TestStopEndsWhatWaits: calls that wait for something to happen do not hold up
// the stop, and say why they ended.
func TestStopEndsWhatWaits(t *testing.T) {
	cfg := newConfig(t)
	cfg.StopTimeout = time.Minute
	c := start(t, cfg)
	_, errs := c.client.Events().Subscribe(inNamespace(t.Context(), "a"))
	if err := c.Stop(context.Background()); err != nil {
		t.Error(err)
	}
	if err := <-errs; !errors.Is(err, errdefs.ErrUnavailable) {
		t.Errorf("subscription ended with %v", err)
	}
	for _, path := range []string{c.Address(), c.Address() + ".ttrpc"} {
		if _, err := os.Stat(path); !os.IsNotExist(err) {
			t.Errorf("%s is left: %v", path, err)
		}
	}
	if err := c.Stop(context.Background()); err != nil {
		t.Errorf("stopped again: %v", err)
	}
}

func TestSecondCoreIsRefused(t *testing.T) {
	c := start(t, newConfig(t))
	cfg := newConfig(t)
	cfg.GRPC.Address = c.Address()
	s, err := server.New(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Stop(context.Background())
	if err := s.Start(); err == nil || !strings.Contains(err.Error(), "another process listens there") {
		t.Errorf("got %v", err)
	}
}

func TestSubscriptionStandsWhenSubscribeReturns(t *testing.T) {
	c := start(t, newConfig(t))
	for range 20 {
		ctx, cancel := context.WithCancel(inNamespace(t.Context(), "a"))
		events, _ := c.client.Events().Subscribe(ctx, `topic=="/x/y"`)
		if err := c.client.Events().Publish(ctx, "/x/y", &emptypb.Empty{}); err != nil {
			t.Fatal(err)
		}
		select {
		case e := <-events:
			if e.Namespace != "a" || e.Event.GetTypeUrl() != "google.protobuf.Empty" {
				t.Errorf("got %+v", e)
			}
		case <-time.After(10 * time.Second):
			t.Fatal("the event was missed")
		}
		cancel()
	}
	_, errs := c.client.Events().Subscribe(t.Context(), "((")
	if err := <-errs; !errdefs.IsInvalidArgument(err) {
		t.Errorf("bad filter: %v", err)
	}
	if err := c.client.Events().Forward(t.Context(), &event.Envelope{Topic: "/x"}); !errdefs.IsInvalidArgument(err) {
		t.Errorf("empty envelope: %v", err)
	}
}

// TestProxySnapshotter: a snapshotter in another process is a plugin like ours.
func TestProxySnapshotter(t *testing.T) {
	back := start(t, newConfig(t))
	cfg := newConfig(t)
	cfg.ProxyPlugins = map[string]server.ProxyPlugin{
		"far": {Type: "snapshot", Address: back.Address(), Exports: map[string]string{"k": "v"}},
		"odd": {Type: "teleport", Address: back.Address()},
	}
	front := start(t, cfg)
	plugins, err := front.client.Introspection().Plugins(t.Context(), `id==far`)
	if err != nil || len(plugins) != 1 || plugins[0].GetExports()["k"] != "v" || plugins[0].GetInitErr() != nil {
		t.Errorf("plugins %v, %v", plugins, err)
	}
	// The far side has none of that name; that it says so shows that it was asked.
	_, err = front.client.Snapshotter("far").Prepare(inNamespace(t.Context(), "a"), "key", "", nil)
	_, farErr := back.client.Snapshotter("far").Prepare(inNamespace(t.Context(), "a"), "key", "", nil)
	if err == nil || farErr == nil || !strings.Contains(err.Error(), farErr.Error()) {
		t.Errorf("got %v, the far side says %v", err, farErr)
	}
}

func TestDebugAndMetrics(t *testing.T) {
	cfg := newConfig(t)
	cfg.Debug.Address = filepath.Join(cfg.State, "debug.sock")
	cfg.Metrics.Address = freePort(t)
	cfg.Metrics.GRPCHistogram = true
	start(t, cfg)
	overUnix := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", cfg.Debug.Address)
	}}}
	for _, tc := range []struct {
		client    *http.Client
		url, want string
	}{
		{overUnix, "http://core/debug/pprof/goroutine?debug=1", "goroutine profile"},
		{overUnix, "http://core/debug/vars", "memstats"},
		{http.DefaultClient, "http://" + cfg.Metrics.Address + "/v1/metrics", `grpc_server_handled_total{grpc_code="OK",grpc_method="Check"`},
		{http.DefaultClient, "http://" + cfg.Metrics.Address + "/v1/metrics", "grpc_server_handling_seconds_count"},
	} {
		resp, err := tc.client.Get(tc.url)
		if err != nil {
			t.Error(err)
			continue
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || resp.StatusCode != http.StatusOK || !strings.Contains(string(body), tc.want) {
			t.Errorf("%s: %s, %v, no %q", tc.url, resp.Status, err, tc.want)
		}
		tc.client.CloseIdleConnections()
	}
}

func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func TestPluginsByURI(t *testing.T) {
	cfg := newConfig(t)
	cfg.RequiredPlugins = nil
	cfg.DisabledPlugins = []string{"io.containerd.grpc.v1.diff"}
	c := start(t, cfg)
	if _, err := c.Plugin("io.containerd.grpc.v1.diff"); !errdefs.IsNotFound(err) {
		t.Errorf("disabled plugin: %v", err)
	}
	if v, err := c.Plugin("io.containerd.runtime.v2.task"); err != nil || v == nil {
		t.Errorf("task manager: %v, %v", v, err)
	}
	_, err := c.client.Differ().Compare(inNamespace(t.Context(), "a"), nil, nil, diffOptions)
	if !errdefs.IsNotImplemented(err) {
		t.Errorf("a disabled service: %v", err)
	}
}

// TestErrorsCrossTheWire walks every class over a real connection.
func TestErrorsCrossTheWire(t *testing.T) {
	var reply error
	srv := grpc.NewServer(grpc.UnknownServiceHandler(func(any, grpc.ServerStream) error { return rpcstatus.To(reply) }))
	l, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	go srv.Serve(l)
	defer srv.Stop()
	c, err := client.New(l.Addr().String(), client.WithNamespace("a"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for _, class := range []error{
		errdefs.ErrInvalidArgument, errdefs.ErrNotFound, errdefs.ErrAlreadyExists, errdefs.ErrPermissionDenied,
		errdefs.ErrResourceExhausted, errdefs.ErrFailedPrecondition, errdefs.ErrConflict, errdefs.ErrNotModified,
		errdefs.ErrNotImplemented, errdefs.ErrUnauthenticated, errdefs.ErrUnavailable, errdefs.ErrInternal,
		errdefs.ErrDataLoss, errdefs.ErrAborted, errdefs.ErrOutOfRange,
	} {
		reply = errdefs.WithClass(class, errors.New("a text: with: colons"))
		_, unaryErr := c.Tasks().Get(t.Context(), "x", "")
		_, errs := c.Events().Subscribe(t.Context())
		for name, err := range map[string]error{"unary": unaryErr, "stream": <-errs} {
			if errdefs.Class(err) != class || err.Error() != "a text: with: colons" {
				t.Errorf("%s: %v became %v, %q", name, class, errdefs.Class(err), err)
			}
		}
	}
}

// TestHeaders pins what a call carries.
func TestHeaders(t *testing.T) {
	got := make(chan metadata.MD, 1)
	srv := grpc.NewServer(grpc.UnknownServiceHandler(func(_ any, s grpc.ServerStream) error {
		md, _ := metadata.FromIncomingContext(s.Context())
		got <- md
		return errors.New("done")
	}))
	l, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	go srv.Serve(l)
	defer srv.Stop()
	c, err := client.New(l.Addr().String(), client.WithNamespace("default"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for _, tc := range []struct {
		ctx  context.Context
		want map[string]string
	}{
		{t.Context(), map[string]string{"containerd-namespace": "default", "containerd-lease": "", "gantry-request-id": ""}},
		{requestContext(t), map[string]string{"containerd-namespace": "other", "containerd-lease": "l1", "gantry-request-id": "r1"}},
	} {
		_, _ = c.Tasks().Get(tc.ctx, "x", "")
		md := <-got
		for key, want := range tc.want {
			if v := strings.Join(md.Get(key), ","); v != want {
				t.Errorf("%s is %q, want %q", key, v, want)
			}
		}
	}
}
