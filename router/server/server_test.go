package server_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"gantry/api/errdefs"
	"gantry/api/reqctx"
	"gantry/router/httputil"
	"gantry/router/route"
	"gantry/router/server"
)

type routes []route.Route

func (r routes) Routes() []route.Route { return r }

func get(path string, life route.Life, h route.Handler) route.Route {
	return route.Route{Method: http.MethodGet, Path: path, Handler: h, Life: life}
}

func start(t *testing.T, cfg server.Config, rs ...route.Route) (*server.Server, *http.Client, func() net.Conn) {
	t.Helper()
	s, err := server.New(cfg, routes(rs))
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- s.Serve(l) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		_ = s.Shutdown(ctx)
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	dial := func() net.Conn {
		c, err := net.Dial("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		return c
	}
	client := &http.Client{Transport: &http.Transport{
		DialContext:       func(context.Context, string, string) (net.Conn, error) { return net.Dial("unix", path) },
		DisableKeepAlives: true,
	}}
	return s, client, dial
}

func body(t *testing.T, c *http.Client, path string) (int, string) {
	t.Helper()
	res, err := c.Get("http://engine" + path)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(b)
}

func TestPanicIs500(t *testing.T) {
	var log bytes.Buffer
	_, c, _ := start(t, server.Config{Log: slog.New(slog.NewTextHandler(&log, nil))},
		get("/early", 0, func(context.Context, http.ResponseWriter, *http.Request) error { panic("boom") }),
		get("/late", 0, func(_ context.Context, w http.ResponseWriter, _ *http.Request) error {
			_ = httputil.Commit(w, http.StatusOK)
			panic("boom")
		}))
	code, text := body(t, c, "/v1.44/early")
	if code != 500 || text != `{"message":"internal error while handling GET /v1.44/early"}`+"\n" {
		t.Errorf("%d %s", code, text)
	}
	if !strings.Contains(log.String(), "boom") || !strings.Contains(log.String(), "server_test.go") {
		t.Errorf("log: %s", log.String())
	}
	res, err := c.Get("http://engine/late")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if _, err := io.ReadAll(res.Body); err == nil {
		t.Error("the half answer looks whole")
	}
}

func TestMinVersion(t *testing.T) {
	version := func(ctx context.Context, w http.ResponseWriter, _ *http.Request) error {
		_, err := io.WriteString(w, reqctx.Version(ctx))
		return err
	}
	_, c, _ := start(t, server.Config{MinAPIVersion: "1.44"}, get("/version", 0, version))
	for path, want := range map[string]string{
		"/version":       "1.51",
		"/v1.44/version": "1.44",
		"/v1.43/version": `{"message":"client version 1.43 is too old. Minimum supported API version is 1.44, please upgrade your client to a newer version"}` + "\n",
	} {
		if _, got := body(t, c, path); got != want {
			t.Errorf("%s: %s", path, got)
		}
	}
	for _, bad := range []string{"1.23", "1.52", "x"} {
		if _, err := server.New(server.Config{MinAPIVersion: bad}); err == nil {
			t.Errorf("took %s", bad)
		}
	}
}

// A client that leaves cancels a request, but not what has to run to its end.
func TestLives(t *testing.T) {
	results := map[string]chan error{"/request": make(chan error, 1), "/detached": make(chan error, 1), "/stream": make(chan error, 1)}
	arrived := make(chan struct{})
	goOn := make(chan struct{})
	h := func(path string) route.Handler {
		return func(ctx context.Context, _ http.ResponseWriter, _ *http.Request) error {
			arrived <- struct{}{}
			select {
			case <-ctx.Done():
				results[path] <- ctx.Err()
			case <-goOn:
				results[path] <- nil
			}
			return nil
		}
	}
	_, _, dial := start(t, server.Config{},
		get("/request", route.Request, h("/request")), get("/detached", route.Detached, h("/detached")), get("/stream", route.Stream, h("/stream")))
	for path := range results {
		c := dial()
		_, _ = io.WriteString(c, "GET "+path+" HTTP/1.1\r\nHost: x\r\n\r\n")
		<-arrived
		_ = c.Close()
	}
	for _, path := range []string{"/request", "/stream"} {
		if err := <-results[path]; !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v", path, err)
		}
	}
	close(goOn)
	if err := <-results["/detached"]; err != nil {
		t.Errorf("/detached: %v", err)
	}
}

// TestHalfCloseBeforeAnswer: a client with nothing to send may close its half at once and
// still gets the stream's output.
func TestHalfCloseBeforeAnswer(t *testing.T) {
	seen := make(chan struct{})
	_, _, dial := start(t, server.Config{},
		get("/gone", route.Request, func(ctx context.Context, _ http.ResponseWriter, _ *http.Request) error {
			<-ctx.Done() // how net/http sees such a client
			close(seen)
			return nil
		}),
		get("/hijack", route.Hijack, func(ctx context.Context, w http.ResponseWriter, req *http.Request) error {
			<-seen
			if err := ctx.Err(); err != nil {
				return err
			}
			up := httputil.NewUpgrade(ctx, w, req)
			defer up.Close()
			c, err := up.Open(false)
			if err == nil {
				_, err = io.WriteString(c.Stdout, "output")
			}
			return err
		}))
	ask := func(path string) net.Conn {
		c := dial()
		if _, err := io.WriteString(c, "GET "+path+" HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		if err := c.(*net.UnixConn).CloseWrite(); err != nil {
			t.Fatal(err)
		}
		return c
	}
	c := ask("/hijack")
	ask("/gone")
	if got, err := io.ReadAll(c); err != nil || !strings.HasSuffix(string(got), "\r\n\r\noutput") {
		t.Errorf("%q, %v", got, err)
	}
}

// Shutdown ends streams at once, hijacked ones too, tells them why, and lets requests
// finish.
func TestShutdown(t *testing.T) {
	arrived := make(chan struct{}, 3)
	goOn := make(chan struct{})
	var mu sync.Mutex
	ended := map[string]bool{}
	done := func(name string) {
		mu.Lock()
		defer mu.Unlock()
		ended[name] = true
	}
	told := func(ctx context.Context) {
		if why := context.Cause(ctx); why != reqctx.ErrGoingDown {
			t.Errorf("ended by %v", why)
		}
	}
	s, c, dial := start(t, server.Config{},
		get("/stream", route.Stream, func(ctx context.Context, w http.ResponseWriter, _ *http.Request) error {
			_ = httputil.Commit(w, http.StatusOK)
			arrived <- struct{}{}
			<-ctx.Done()
			told(ctx)
			done("stream")
			return nil
		}),
		get("/hijacked", route.Stream, func(ctx context.Context, w http.ResponseWriter, r *http.Request) error {
			u := httputil.NewUpgrade(ctx, w, r)
			defer u.Close()
			cl, err := u.Open(false)
			if err != nil {
				return err
			}
			arrived <- struct{}{}
			<-u.Context().Done()
			told(u.Context())
			done("hijacked")
			return cl.Close()
		}),
		get("/request", route.Request, func(ctx context.Context, w http.ResponseWriter, _ *http.Request) error {
			arrived <- struct{}{}
			<-goOn
			done("request")
			return ctx.Err()
		}))
	conn := dial()
	_, _ = io.WriteString(conn, "GET /hijacked HTTP/1.1\r\nHost: x\r\nUpgrade: tcp\r\n\r\n")
	var wg sync.WaitGroup
	wg.Go(func() {
		br := bufio.NewReader(conn)
		_, _ = io.Copy(io.Discard, br)
		_ = conn.Close()
	})
	wg.Go(func() {
		if res, err := c.Get("http://engine/stream"); err == nil {
			_, _ = io.Copy(io.Discard, res.Body)
			_ = res.Body.Close()
		}
	})
	wg.Go(func() {
		res, err := c.Get("http://engine/request")
		if err != nil || res.StatusCode != 200 {
			t.Errorf("request: %v %v", res, err)
			return
		}
		_ = res.Body.Close()
	})
	for range 3 {
		<-arrived
	}
	down := make(chan error, 1)
	go func() { down <- s.Shutdown(context.Background()) }()
	select {
	case err := <-down:
		t.Errorf("shutdown did not wait: %v", err)
	case <-time.After(50 * time.Millisecond):
	}
	close(goOn)
	if err := <-down; err != nil {
		t.Error(err)
	}
	wg.Wait()
	if len(ended) != 3 {
		t.Errorf("ended: %v", ended)
	}
}

func TestShutdownLosesPatience(t *testing.T) {
	arrived := make(chan struct{})
	s, c, _ := start(t, server.Config{}, get("/stuck", 0, func(ctx context.Context, _ http.ResponseWriter, _ *http.Request) error {
		close(arrived)
		<-ctx.Done()
		return ctx.Err()
	}))
	go func() {
		if res, err := c.Get("http://engine/stuck"); err == nil {
			_ = res.Body.Close()
		}
	}()
	<-arrived
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
	defer cancel()
	if err := s.Shutdown(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
}

func TestSpans(t *testing.T) {
	rec := tracetest.NewSpanRecorder()
	tp := trace.NewTracerProvider(trace.WithSpanProcessor(rec))
	_, c, _ := start(t, server.Config{Tracer: tp.Tracer("test")},
		get("/containers/{name:.*}/json", 0, func(context.Context, http.ResponseWriter, *http.Request) error {
			return errdefs.Internal("disk on fire")
		}))
	if code, _ := body(t, c, "/v1.44/containers/web/json"); code != 500 {
		t.Errorf("status %d", code)
	}
	spans := rec.Ended()
	if len(spans) != 1 || spans[0].Name() != "GET /containers/{name}/json" || spans[0].Status().Description == "" {
		t.Errorf("%+v", spans)
	}
}

func TestDebugLine(t *testing.T) {
	var log bytes.Buffer
	s, err := server.New(server.Config{Log: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))},
		routes{get("/x", 0, func(context.Context, http.ResponseWriter, *http.Request) error { return errdefs.Conflict("no") })})
	if err != nil {
		t.Fatal(err)
	}
	s.Handler().ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "/v1.44/x?a=b", nil))
	for _, want := range []string{"msg=request", "method=GET", `uri="/v1.44/x?a=b"`, "status=409", "request="} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("%s is missing in %s", want, log.String())
		}
	}
}

// The whole way of a request through the middleware, without a socket.
func BenchmarkRequest(b *testing.B) {
	var rs routes
	for _, name := range []string{"a", "b", "c", "d", "e", "f", "g", "h"} {
		for _, verb := range []string{"start", "stop", "kill", "json", "wait", "logs", "top", "stats"} {
			rs = append(rs, get("/"+name+"/{name:.*}/"+verb, 0, func(_ context.Context, w http.ResponseWriter, _ *http.Request) error {
				return httputil.NoContent(w)
			}))
		}
	}
	s, err := server.New(server.Config{}, rs)
	if err != nil {
		b.Fatal(err)
	}
	r := httptest.NewRequest(http.MethodGet, "/v1.44/h/web/stats", nil)
	for b.Loop() {
		s.Handler().ServeHTTP(httptest.NewRecorder(), r)
	}
}

// Quiet comes once after requests, not while they go on, and again after the next.
func TestQuiet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var calls atomic.Int32
		s, err := server.New(server.Config{Quiet: func() { calls.Add(1) }, QuietAfter: time.Second}, routes{
			get("/x", 0, func(context.Context, http.ResponseWriter, *http.Request) error { return nil }),
		})
		if err != nil {
			t.Fatal(err)
		}
		ask := func() {
			s.Handler().ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "/x", nil))
		}
		for range 20 {
			ask()
			time.Sleep(500 * time.Millisecond)
		}
		if n := calls.Load(); n != 0 {
			t.Errorf("called %d times amid requests", n)
		}
		for want := int32(1); want < 3; want++ {
			time.Sleep(10 * time.Second)
			if n := calls.Load(); n != want {
				t.Errorf("called %d times, not %d", n, want)
			}
			ask()
		}
		time.Sleep(10 * time.Second)
	})
}
