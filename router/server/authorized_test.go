package server_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/coder/websocket"

	"gantry/api/authorization"
	"gantry/api/errdefs"
	"gantry/router/httputil"
	"gantry/router/route"
	"gantry/router/server"
)

// judge is an asker that notes what it is asked and says no where it is told to.
type judge struct {
	mu       sync.Mutex
	requests []authorization.Request // guarded by mu
	answers  []authorization.Request // guarded by mu
	before   func(*authorization.Request) error
	after    func(*authorization.Request) error
}

func (j *judge) Request(_ context.Context, r *authorization.Request) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.requests = append(j.requests, *r)
	if j.before == nil {
		return nil
	}
	return j.before(r)
}

func (j *judge) Response(_ context.Context, r *authorization.Request) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	q := *r
	q.ResponseBody = bytes.Clone(r.ResponseBody)
	j.answers = append(j.answers, q)
	if j.after == nil {
		return nil
	}
	return j.after(r)
}

func (j *judge) last(t *testing.T, of *[]authorization.Request) authorization.Request {
	t.Helper()
	j.mu.Lock()
	defer j.mu.Unlock()
	if len(*of) == 0 {
		t.Fatal("nobody was asked")
	}
	return (*of)[len(*of)-1]
}

// guardedRoutes are one of each kind. done counts the handlers that ran.
type guardedRoutes struct{ done int }

func (g *guardedRoutes) Routes() []route.Route {
	body := func(_ context.Context, w http.ResponseWriter, r *http.Request) error {
		g.done++
		raw, err := io.ReadAll(r.Body)
		if err != nil {
			return err
		}
		return httputil.WriteJSON(w, http.StatusCreated, len(raw))
	}
	return []route.Route{
		{Method: "POST", Path: "/document", Handler: body, Life: route.Detached},
		{Method: "POST", Path: "/upload", Handler: body, Body: route.Upload},
		{Method: "POST", Path: "/secret", Handler: body, Body: route.Credentials},
		{Method: "GET", Path: "/fails", Handler: func(_ context.Context, w http.ResponseWriter, _ *http.Request) error {
			_, _ = io.WriteString(w, "a part of it")
			return errdefs.NotFound("no such thing")
		}},
		{Method: "GET", Path: "/big", Handler: func(_ context.Context, w http.ResponseWriter, _ *http.Request) error {
			return httputil.WriteJSON(w, http.StatusOK, strings.Repeat("x", 200<<10))
		}},
		{Method: "GET", Path: "/tar", Handler: func(_ context.Context, w http.ResponseWriter, _ *http.Request) error {
			w.Header().Set("Content-Type", "application/x-tar")
			_, err := w.Write(make([]byte, 200<<10))
			return err
		}},
		{Method: "GET", Path: "/stream", Life: route.Stream, Handler: func(_ context.Context, w http.ResponseWriter, _ *http.Request) error {
			w.Header().Set("Content-Type", "application/json")
			out := httputil.Flushed(w)
			for range 3 {
				if _, err := io.WriteString(out, "{}\n"); err != nil {
					return err
				}
			}
			return nil
		}},
		{Method: "GET", Path: "/websocket", Life: route.Hijack, Handler: func(ctx context.Context, w http.ResponseWriter, r *http.Request) error {
			c, err := websocket.Accept(w, r, nil)
			if err != nil {
				return err
			}
			defer c.CloseNow()
			return c.Write(ctx, websocket.MessageText, []byte("hello"))
		}},
		{Method: "POST", Path: "/hijack", Life: route.Hijack, Handler: func(ctx context.Context, w http.ResponseWriter, r *http.Request) error {
			u := httputil.NewUpgrade(ctx, w, r)
			defer u.Close()
			c, err := u.Open(false)
			if err != nil {
				return err
			}
			_, err = io.WriteString(c.Stdout, "raw")
			return err
		}},
	}
}

func guard(t *testing.T, j *judge) (*guardedRoutes, *httptest.Server) {
	t.Helper()
	g := &guardedRoutes{}
	s, err := server.New(server.Config{Version: "0.1.0", Authorization: func() authorization.Asker { return j }}, g)
	if err != nil {
		t.Fatal(err)
	}
	h := httptest.NewServer(s.Handler())
	t.Cleanup(h.Close)
	return g, h
}

func send(t *testing.T, method, url, kind string, body io.Reader) (int, string) {
	t.Helper()
	req, err := http.NewRequest(method, url, body)
	if err != nil {
		t.Fatal(err)
	}
	if kind != "" {
		req.Header.Set("Content-Type", kind)
	}
	req.Header.Set("X-Registry-Auth", "hidden")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(raw)
}

// chunked hides a reader's length.
type chunked struct{ io.Reader }

func TestAuthorizedRequestBodies(t *testing.T) {
	const limit = httputil.MaxJSON
	j := &judge{}
	g, h := guard(t, j)
	for _, tc := range []struct {
		name, path, kind string
		body             io.Reader
		code, shown      int
	}{
		{"JSON", "/v1.51/document", "application/json", strings.NewReader("{}"), 201, 2},
		{"JSON without a length", "/document", "application/json", chunked{strings.NewReader("{}")}, 201, 2},
		{"more than dockerd shows", "/document", "application/json", bytes.NewReader(make([]byte, 3<<20)), 201, 3 << 20},
		{"the most", "/document", "application/json", bytes.NewReader(make([]byte, limit)), 201, limit},
		{"too long", "/document", "application/json", bytes.NewReader(make([]byte, limit+1)), 403, -1},
		{"too long without a length", "/document", "application/json", chunked{bytes.NewReader(make([]byte, limit+1))}, 403, -1},
		{"another type", "/document", "text/plain", strings.NewReader("{}"), 201, 2},
		{"no type", "/document", "", strings.NewReader("{}"), 201, 2},
		{"none", "/document", "", nil, 201, 0},
		{"upload", "/upload", "application/x-tar", bytes.NewReader(make([]byte, limit+1)), 201, 0},
		{"a form where files are expected", "/upload", "application/x-www-form-urlencoded", strings.NewReader("a=b"), 201, 3},
		{"credentials", "/secret", "application/json", strings.NewReader("{}"), 201, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			j.requests, g.done = nil, 0
			code, said := send(t, "POST", h.URL+tc.path, tc.kind, tc.body)
			if code != tc.code {
				t.Fatalf("%d %s, want %d", code, said, tc.code)
			}
			if tc.shown < 0 {
				if g.done != 0 || len(j.requests) != 0 || !strings.Contains(said, "cannot be shown to plugins") {
					t.Errorf("done %d, asked %d: %s", g.done, len(j.requests), said)
				}
				return
			}
			q := j.last(t, &j.requests)
			if len(q.RequestBody) != tc.shown || q.RequestHeaders["X-Registry-Auth"] != "" || g.done != 1 {
				t.Errorf("shown %d, want %d; headers %v; done %d", len(q.RequestBody), tc.shown, q.RequestHeaders, g.done)
			}
		})
	}
}

// TestAuthorizedURI: whatever way a path is written, what is asked about is the path
// that a route was found by.
func TestAuthorizedURI(t *testing.T) {
	j := &judge{}
	_, h := guard(t, j)
	for _, tc := range []struct{ in, want string }{
		{"/v1.51/document?a=b", "/v1.51/document?a=b"},
		{"/document", "/document"},
		{"/%64ocument", "/document"},
		{"/v1.51/d%6fcument", "/v1.51/document"},
	} {
		conn, err := net.Dial("tcp", strings.TrimPrefix(h.URL, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: x\r\nContent-Type: a\r\nContent-Type: b\r\nConnection: close\r\n\r\n", tc.in)
		if _, err := io.ReadAll(conn); err != nil {
			t.Fatal(err)
		}
		conn.Close()
		q := j.last(t, &j.requests)
		if q.RequestURI != tc.want || q.RequestHeaders["Content-Type"] != "a, b" {
			t.Errorf("%s: asked about %s, headers %v", tc.in, q.RequestURI, q.RequestHeaders)
		}
	}
}

func TestAuthorizedAnswers(t *testing.T) {
	j := &judge{}
	_, h := guard(t, j)
	for _, tc := range []struct {
		method, path string
		code         int
		shown        string // "…" is much
	}{
		{"POST", "/document", 201, "0\n"},
		{"POST", "/secret", 201, ""},
		{"GET", "/fails", 404, "{\"message\":\"no such thing\"}\n"},
		{"GET", "/big", 200, "…"},
		{"GET", "/tar", 200, ""},
		{"GET", "/stream", 200, "{}\n"}, // what there is when it is sent
	} {
		t.Run(tc.path, func(t *testing.T) {
			j.after = nil
			code, plain := send(t, tc.method, h.URL+tc.path, "", nil)
			q := j.last(t, &j.answers)
			if code != tc.code || q.ResponseStatusCode != tc.code {
				t.Errorf("answered %d, told %d, want %d", code, q.ResponseStatusCode, tc.code)
			}
			if got := string(q.ResponseBody); got != tc.shown && (tc.shown != "…" || got != plain) {
				t.Errorf("shown %q, want %q", got, tc.shown)
			}
			for _, no := range []error{errdefs.PermissionDenied("denied"), errdefs.Internal("broken")} {
				j.after = func(*authorization.Request) error { return no }
				want := map[bool]int{true: 403, false: 500}[errors.Is(no, errdefs.ErrPermissionDenied)]
				if code, said := send(t, tc.method, h.URL+tc.path, "", nil); code != want || said != fmt.Sprintf("{\"message\":%q}\n", no) {
					t.Errorf("refused: %d %s", code, said)
				}
			}
		})
	}
}

func TestAuthorizedHijack(t *testing.T) {
	j := &judge{}
	_, h := guard(t, j)
	ask := func() string {
		conn, err := net.Dial("tcp", strings.TrimPrefix(h.URL, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		fmt.Fprint(conn, "POST /hijack HTTP/1.1\r\nHost: x\r\nUpgrade: tcp\r\nConnection: Upgrade\r\n\r\n")
		line, err := bufio.NewReader(conn).ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		return strings.TrimSpace(line)
	}
	if got := ask(); got != "HTTP/1.1 101 UPGRADED" || j.last(t, &j.answers).ResponseStatusCode != 101 {
		t.Errorf("allowed: %s", got)
	}
	j.after = func(*authorization.Request) error { return errdefs.PermissionDenied("no") }
	if got := ask(); got != "HTTP/1.1 403 Forbidden" {
		t.Errorf("answer refused: %s", got)
	}
	j.before = j.after
	if got := ask(); got != "HTTP/1.1 403 Forbidden" {
		t.Errorf("request refused: %s", got)
	}
}

func TestAuthorizedWebSocket(t *testing.T) {
	j := &judge{}
	_, h := guard(t, j)
	c, _, err := websocket.Dial(t.Context(), h.URL+"/websocket", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer c.CloseNow()
	if _, said, err := c.Read(t.Context()); err != nil || string(said) != "hello" {
		t.Errorf("%q, %v", said, err)
	}
	if code := j.last(t, &j.answers).ResponseStatusCode; code != 101 {
		t.Errorf("told of %d", code)
	}
	j.after = func(*authorization.Request) error { return errdefs.PermissionDenied("no") }
	if _, resp, err := websocket.Dial(t.Context(), h.URL+"/websocket", nil); err == nil || resp == nil || resp.StatusCode != 403 {
		t.Errorf("answer refused: %v, %v", resp, err)
	}
}

// TestRefusedIsNotDone: nothing runs that was not allowed.
func TestRefusedIsNotDone(t *testing.T) {
	j := &judge{before: func(*authorization.Request) error { return errdefs.PermissionDenied("no") }}
	g, h := guard(t, j)
	for _, path := range []string{"/document", "/upload", "/secret"} {
		if code, _ := send(t, "POST", h.URL+path, "application/json", strings.NewReader("{}")); code != 403 {
			t.Errorf("%s: %d", path, code)
		}
	}
	if g.done != 0 || len(j.answers) != 0 {
		t.Errorf("%d were done, %d answers told of", g.done, len(j.answers))
	}
}
