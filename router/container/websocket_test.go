package container_test

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"testing"

	coder "github.com/coder/websocket"
	"golang.org/x/net/websocket"

	"gantry/router/container"
	"gantry/router/internal/routertest"
)

func dialWS(t *testing.T, path string) (*websocket.Conn, error) {
	t.Helper()
	conn, err := routertest.Serve(t, container.New(world{}, container.Config{}))()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	cfg, err := websocket.NewConfig("ws://engine"+path, "http://engine")
	if err != nil {
		t.Fatal(err)
	}
	return websocket.NewClient(cfg, conn)
}

func TestWebSocket(t *testing.T) {
	ws, err := dialWS(t, "/v1.51/containers/web/attach/ws?stream=1&stdout=1")
	if err != nil {
		t.Fatal(err)
	}
	out, err := io.ReadAll(ws)
	if err != nil || string(out) != "hello\noops\n" {
		t.Errorf("%q %v", out, err)
	}
}

func TestWebSocketStdin(t *testing.T) {
	ws, err := dialWS(t, "/v1.41/containers/web/attach/ws?stream=1") // all three streams, before 1.42
	if err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 6)
	if _, err := io.ReadFull(ws, buf); err != nil || string(buf) != "hello\n" {
		t.Fatalf("%q %v", buf, err)
	}
	_ = ws.Close() // the end of stdin lets the backend return
}

func TestWebSocketUnknown(t *testing.T) {
	if _, err := dialWS(t, "/v1.51/containers/nope/attach/ws"); err == nil {
		t.Error("connected")
	}
}

// dialCoder connects with another library's client, which tells what kind a message is.
func dialCoder(t *testing.T, path string) *coder.Conn {
	t.Helper()
	dial := routertest.Serve(t, container.New(world{}, container.Config{}))
	c := &http.Client{Transport: &http.Transport{
		DialContext: func(context.Context, string, string) (net.Conn, error) { return dial() },
	}}
	ws, _, err := coder.Dial(t.Context(), "ws://engine"+path, &coder.DialOptions{
		HTTPClient: c, HTTPHeader: http.Header{"Origin": {"http://elsewhere"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ws.CloseNow() })
	ws.SetReadLimit(-1)
	return ws
}

func TestWebSocketMessages(t *testing.T) {
	for path, want := range map[string]coder.MessageType{
		"/v1.27/containers/web/attach/ws?stream=1": coder.MessageText,
		"/v1.28/containers/web/attach/ws?stream=1": coder.MessageBinary,
	} {
		ws := dialCoder(t, path)
		typ, text, err := ws.Read(t.Context())
		if err != nil || typ != want || string(text) != "hello\n" {
			t.Errorf("%s: %v %q %v", path, typ, text, err)
		}
	}
}

// What the client sends is one stream, whatever the messages' kinds and lengths; the
// engine answers pings all the while, and ends in good order.
func TestWebSocketInput(t *testing.T) {
	ws := dialCoder(t, "/v1.41/containers/web/attach/ws?stream=1")
	big := bytes.Repeat([]byte("x"), 1<<20)
	for _, m := range []struct {
		typ  coder.MessageType
		text []byte
	}{{coder.MessageText, []byte("a")}, {coder.MessageBinary, nil}, {coder.MessageBinary, big}} {
		if err := ws.Write(t.Context(), m.typ, m.text); err != nil {
			t.Fatal(err)
		}
	}
	for _, want := range []string{"hello\n", "oops\n"} {
		if _, text, err := ws.Read(t.Context()); err != nil || string(text) != want {
			t.Fatalf("%q %v", text, err)
		}
	}
	reading := ws.CloseRead(t.Context()) // takes the pong
	if err := ws.Ping(t.Context()); err != nil {
		t.Error(err)
	}
	if err := ws.Close(coder.StatusNormalClosure, ""); err != nil {
		t.Error(err)
	}
	<-reading.Done()
}

// The engine says its end properly, and a request that is no handshake is refused.
func TestWebSocketEnd(t *testing.T) {
	ws := dialCoder(t, "/v1.51/containers/web/attach/ws?stream=1&stdout=1")
	var err error
	for err == nil {
		_, _, err = ws.Read(t.Context())
	}
	if coder.CloseStatus(err) != coder.StatusNormalClosure {
		t.Error(err)
	}
	conn, err := routertest.Serve(t, container.New(world{}, container.Config{}))()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	io.WriteString(conn, "GET /v1.51/containers/web/attach/ws HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
	res, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil || res.StatusCode != http.StatusBadRequest {
		t.Errorf("%v %v", res, err)
	}
}
