package container_test

import (
	"io"
	"testing"

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
