package integrationcli

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

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
