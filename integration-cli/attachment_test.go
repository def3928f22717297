package integrationcli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/docker/docker/pkg/stdcopy"

	"gantry/internal/testutil/engine"
)

// attachment is one client of attach, by the bare protocol.
type attachment struct {
	t     *testing.T
	conn  *net.UnixConn
	lines *bufio.Reader // of stdout and stderr together
}

// attach opens an attachment to a container without a terminal.
func attach(t *testing.T, e *engine.Engine, ref, query string) *attachment {
	t.Helper()
	conn, r := hijack(t, e, "/v1.51/containers/"+ref+"/attach?"+query, nil)
	pr, pw := io.Pipe()
	go func() { // ends with the connection
		_, err := stdcopy.StdCopy(pw, pw, r)
		pw.CloseWithError(err)
	}()
	return &attachment{t: t, conn: conn, lines: bufio.NewReader(pr)}
}

// hijack makes a request that must be answered by 101, or without an Upgrade header 200,
// and returns what follows. The connection is closed at the end of the test.
func hijack(t *testing.T, e *engine.Engine, path string, header http.Header) (*net.UnixConn, *bufio.Reader) {
	t.Helper()
	c, err := net.Dial("unix", e.Socket())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	req, _ := http.NewRequest("POST", "http://gantry"+path, nil)
	for k, v := range header {
		req.Header[k] = v
	}
	c.SetDeadline(time.Now().Add(time.Minute))
	if err := req.Write(c); err != nil {
		t.Fatal(err)
	}
	r := bufio.NewReader(c)
	head, err := http.ReadResponse(r, &http.Request{Method: "HEAD"}) // what follows is not its body
	if err != nil {
		t.Fatal(err)
	}
	if head.StatusCode != 101 && head.StatusCode != 200 {
		t.Fatalf("%s: %s", path, head.Status)
	}
	return c.(*net.UnixConn), r
}

func (a *attachment) write(s string) {
	a.t.Helper()
	if _, err := io.WriteString(a.conn, s); err != nil {
		a.t.Error(err)
	}
}

// line is the next line, or why there is none.
func (a *attachment) line() string {
	s, err := a.lines.ReadString('\n')
	if err != nil {
		return s + err.Error()
	}
	return strings.TrimSuffix(s, "\n")
}

// rest is all there is until the engine ends the stream.
func (a *attachment) rest() string {
	raw, err := io.ReadAll(a.lines)
	if err != nil && !errors.Is(err, net.ErrClosed) {
		return string(raw) + err.Error()
	}
	return string(raw)
}

func (a *attachment) close() { a.conn.Close() }

// TestAttachments: what the clients of one container see of each other, and what their
// coming and going does to it.
func TestAttachments(t *testing.T) {
	t.Parallel()
	e := start(t)
	e.Must("create", "-i", "--name", "c1", image, "sh", "-c", "while read x; do echo got $x; done; echo eof")
	e.Must("run", "-d", "-i", "--name", "c2", image, "sh", "-c", "while read x; do echo got $x; done; echo eof")
	// Before the start: both get the first byte.
	one := attach(t, e, "c1", "stream=1&stdin=1&stdout=1")
	two := attach(t, e, "c1", "stream=1&stdout=1&stderr=1")
	one.write("early\n")
	e.Must("start", "c1")
	for _, a := range []*attachment{one, two} {
		if got := a.line(); got != "got early" {
			t.Errorf("from before the start: %q", got)
		}
	}
	// The first client's end ends a stdin that is open once: dockerd's StdinOnce.
	one.conn.Close()
	if got := two.rest(); got != "eof\n" {
		t.Errorf("after the other has left: %q", got)
	}
	if got := e.Must("wait", "c1"); got != "0" {
		t.Errorf("exit code %s", got)
	}
	// Elsewhere it does not, and a half close ends the attachment alone.
	for range 3 {
		a := attach(t, e, "c2", "stream=1&stdin=1&stdout=1")
		a.write("x\n")
		if got := a.line(); got != "got x" {
			t.Errorf("%q", got)
		}
		a.conn.CloseWrite()
		if got := a.rest(); got != "" {
			t.Errorf("after the half close %q", got)
		}
	}
	b := attach(t, e, "c2", "logs=1&stream=1&stdin=1&stdout=1")
	b.write("y\n")
	for _, want := range []string{"got x", "got x", "got x", "got y"} {
		if got := b.line(); got != want {
			t.Errorf("replayed %q, want %q", got, want)
		}
	}
	e.Must("restart", "-t", "0", "c2")
	if got := b.rest(); got != "" {
		t.Errorf("at the end of its run: %q", got)
	}
	if got := actions(t, e, "c2"); strings.Count(got, "attach") != 4 || strings.Contains(got, "detach") {
		t.Errorf("events: %s", got)
	}
}

// actions are a container's events so far, in words.
func actions(t *testing.T, e *engine.Engine, ref string) string {
	t.Helper()
	until := time.Now().Unix() + 1 // the words of an API that knows whole seconds
	_, text, err := ask(e, "GET", fmt.Sprintf(`/events?since=1&until=%d&filters={"container":[%q]}`, until, ref), nil)
	if err != nil {
		t.Fatal(err)
	}
	var words []string
	for line := range strings.Lines(text) {
		words = append(words, field(line, "Action"))
	}
	return strings.Join(words, " ")
}

// TestDetachKeys: the keys a user chooses, those typed in part, and those that are none.
func TestDetachKeys(t *testing.T) {
	t.Parallel()
	e := start(t)
	e.Must("run", "-dit", "--name", "c1", image, "cat")
	out, code := tty(t, e, "one\x18two\n\x00\x10\x11three\n\x00\x18q", "attach", "--detach-keys", "ctrl-x,q", "c1")
	for _, want := range []string{"one\x18two", "\x10three"} { // ctrl-q is the terminal's own
		if !strings.Contains(out, want) {
			t.Errorf("%q is not in what cat got: %q", want, out)
		}
	}
	if !strings.Contains(out, "read escape sequence") || status(e, "c1") != "running" {
		t.Errorf("detached: exit %d, %s, %q", code, status(e, "c1"), out)
	}
	// The docker CLI looks for the keys itself; here the engine does.
	conn, r := hijack(t, e, "/v1.51/containers/c1/attach?stream=1&stdin=1&stdout=1&detachKeys=ctrl-x,q", nil)
	io.WriteString(conn, "four\x18five\n")
	var got []byte
	for !strings.Contains(string(got), "four\x18five") { // what cat says
		part := make([]byte, 512)
		n, err := r.Read(part)
		if err != nil {
			t.Fatalf("%q, then %v", got, err)
		}
		got = append(got, part[:n]...)
	}
	for _, part := range []string{"\x18", "q", "six\n"} {
		io.WriteString(conn, part)
	}
	if rest, err := io.ReadAll(r); err != nil || strings.Contains(string(rest), "six") {
		t.Errorf("after the keys %q, %v", rest, err)
	}
	if got := actions(t, e, "c1"); strings.Count(got, "detach") != 1 || !strings.HasSuffix(got, "detach") {
		t.Errorf("events: %s", got)
	}
	e.Must("run", "-d", "--name", "c2", image, "sh", "-c", `trap "echo heard; exit 3" TERM; echo up; while :; do sleep .05; done`)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	cmd := e.Cmd(ctx, "attach", "--no-stdin", "c2")
	var text strings.Builder
	cmd.Stdout = &text
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	time.Sleep(500 * time.Millisecond) // until it is attached
	cmd.Process.Signal(syscall.SIGTERM)
	cmd.Wait()
	if code := cmd.ProcessState.ExitCode(); code != 3 || !strings.Contains(text.String(), "heard") {
		t.Errorf("by the proxied signal: exit %d, %q", code, text.String())
	}
}

// TestAttachWebSocket drives the live engine by a WebSocket.
func TestAttachWebSocket(t *testing.T) {
	e := start(t)
	e.Must("run", "-d", "-i", "--name", "c1", image, "sh", "-c", "while read x; do echo got $x; done")
	dial := func(path string) *websocket.Conn {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		ws, _, err := websocket.Dial(ctx, "ws://gantry"+path, &websocket.DialOptions{HTTPClient: e.HTTP()})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { ws.CloseNow() })
		return ws
	}
	expect := func(ws *websocket.Conn, want string) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		if typ, got, err := ws.Read(ctx); err != nil || typ != websocket.MessageBinary || string(got) != want {
			t.Errorf("%v %q %v, want %q", typ, got, err, want)
		}
	}
	one, two := dial("/v1.51/containers/c1/attach/ws?stream=1&stdin=1&stdout=1"), dial("/v1.41/containers/c1/attach/ws?stream=1")
	one.Write(t.Context(), websocket.MessageBinary, []byte("a\n"))
	expect(one, "got a\n")
	expect(two, "got a\n")
	if err := one.Close(websocket.StatusNormalClosure, ""); err != nil {
		t.Error(err)
	}
	two.CloseNow()
	three := dial("/v1.51/containers/c1/attach/ws?logs=1&stream=1&stdin=1&stdout=1")
	expect(three, "got a\n")
	three.Write(t.Context(), websocket.MessageText, []byte("b\n"))
	expect(three, "got b\n")
	e.Must("stop", "-t", "0", "c1")
	if _, _, err := three.Read(t.Context()); websocket.CloseStatus(err) != websocket.StatusNormalClosure {
		t.Errorf("at the end: %v", err)
	}
}
