package httputil_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"testing"
	"time"

	"gantry/api/stream"
	"gantry/router/httputil"
)

// serve runs a handler on a real socket and returns how to reach it.
func serve(t *testing.T, network string, h func(u *httputil.Upgrade)) func() net.Conn {
	t.Helper()
	addr := "127.0.0.1:0"
	if network == "unix" {
		addr = filepath.Join(t.TempDir(), "s")
	}
	l, err := net.Listen(network, addr)
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		u := httputil.NewUpgrade(r.Context(), w, r)
		defer u.Close()
		h(u)
	})}
	go func() { _ = srv.Serve(l) }()
	t.Cleanup(func() { _ = srv.Close() })
	return func() net.Conn {
		c, err := net.Dial(network, l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		_ = c.SetDeadline(time.Now().Add(20 * time.Second))
		t.Cleanup(func() { _ = c.Close() })
		return c
	}
}

const upgrade = "POST /x HTTP/1.1\r\nHost: engine\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n"

// open sends the request and reads the head of the answer.
func open(t *testing.T, c net.Conn, request string) *bufio.Reader {
	t.Helper()
	if _, err := io.WriteString(c, request); err != nil {
		t.Fatal(err)
	}
	br := bufio.NewReader(c)
	res, err := http.ReadResponse(br, nil)
	if err != nil {
		t.Fatal(err)
	}
	if res.StatusCode != http.StatusSwitchingProtocols {
		t.Fatalf("status %d", res.StatusCode)
	}
	return br
}

func must(t *testing.T, u *httputil.Upgrade, multiplexed bool) *stream.Client {
	t.Helper()
	c, err := u.Open(multiplexed)
	if err != nil {
		t.Error(err)
	}
	return c
}

func TestHalfCloseEndsStdinOnly(t *testing.T) {
	for _, network := range []string{"unix", "tcp"} {
		t.Run(network, func(t *testing.T) {
			result := make(chan error, 1)
			dial := serve(t, network, func(u *httputil.Upgrade) {
				c := must(t, u, false)
				in, err := io.ReadAll(c.Stdin)
				if err == nil && string(in) != "early, late" {
					err = errors.New("read " + string(in))
				}
				select {
				case <-c.Gone:
					err = errors.New("half close taken for a hang-up")
				default:
				}
				result <- err
				_, _ = c.Stdout.Write(bytes.Repeat([]byte("y"), 1<<20)) // more than the socket holds
				_ = c.Close()
			})
			c := dial()
			br := open(t, c, upgrade+"early") // sent along with the request
			_, _ = io.WriteString(c, ", late")
			if err := c.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
				t.Fatal(err)
			}
			if err := <-result; err != nil {
				t.Fatal(err)
			}
			out, err := io.ReadAll(br)
			if err != nil || len(out) != 1<<20 {
				t.Errorf("%d bytes, %v", len(out), err)
			}
		})
	}
}

func TestHangUp(t *testing.T) {
	result := make(chan error, 1)
	dial := serve(t, "unix", func(u *httputil.Upgrade) {
		c := must(t, u, false)
		<-c.Gone
		<-u.Context().Done()
		_, err := io.ReadAll(c.Stdin)
		result <- err
	})
	c := dial()
	open(t, c, upgrade)
	_, _ = io.WriteString(c, "unread, which must not hide the hang-up")
	_ = c.Close()
	if err := <-result; !errors.Is(err, httputil.ErrGone) {
		t.Errorf("stdin ended with %v", err)
	}
}

// Input that nobody reads must not cost output that is on its way.
func TestUnreadInput(t *testing.T) {
	dial := serve(t, "tcp", func(u *httputil.Upgrade) {
		c := must(t, u, false)
		_, _ = io.WriteString(c.Stdout, "goodbye")
		_ = c.Close()
	})
	c := dial()
	br := open(t, c, upgrade+"nobody reads this")
	_, _ = io.WriteString(c, "nor this")
	out, err := io.ReadAll(br)
	if err != nil || string(out) != "goodbye" {
		t.Errorf("%q %v", out, err)
	}
}

func TestCloseUnblocksStdin(t *testing.T) {
	result := make(chan error, 1)
	dial := serve(t, "unix", func(u *httputil.Upgrade) {
		c := must(t, u, true)
		reading := make(chan struct{})
		go func() {
			close(reading)
			_, err := io.ReadAll(c.Stdin)
			result <- err
		}()
		<-reading
		_ = c.Close()
		_ = c.Close()
		if err := <-result; !errors.Is(err, net.ErrClosed) {
			t.Errorf("stdin ended with %v", err)
		}
	})
	br := open(t, dial(), upgrade)
	if out, err := io.ReadAll(br); len(out) > 0 || err != nil {
		t.Errorf("%q %v", out, err)
	}
}

func TestOpenTwice(t *testing.T) {
	dial := serve(t, "unix", func(u *httputil.Upgrade) {
		if u.Opened() {
			t.Error("opened before")
		}
		must(t, u, false)
		if _, err := u.Open(false); err == nil || !u.Opened() {
			t.Error("opened twice")
		}
	})
	if _, err := io.ReadAll(open(t, dial(), upgrade)); err != nil {
		t.Error(err)
	}
}

func TestCannotHijack(t *testing.T) {
	u := httputil.NewUpgrade(context.Background(), broken{}, request("", ""))
	defer u.Close()
	if _, err := u.Open(false); err == nil || u.Opened() {
		t.Error("opened")
	}
}

// A client that reads the head as late as this, and as much as there is, gets the head
// and nothing of the stream; one that never reads it holds up nobody for long.
func TestHeadComesAlone(t *testing.T) {
	done := make(chan struct{}, 2)
	dial := serve(t, "unix", func(u *httputil.Upgrade) {
		_, _ = io.WriteString(must(t, u, true).Stdout, "at once")
		done <- struct{}{}
	})
	c, never := dial(), dial()
	for _, to := range []net.Conn{c, never} {
		if _, err := io.WriteString(to, upgrade); err != nil {
			t.Fatal(err)
		}
	}
	time.Sleep(20 * time.Millisecond)
	got := make([]byte, 8192)
	n, err := c.Read(got)
	if err != nil || !bytes.HasSuffix(got[:n], []byte("\r\n\r\n")) {
		t.Errorf("%q %v", got[:n], err)
	}
	if n, err = c.Read(got); err != nil || !bytes.HasSuffix(got[:n], []byte("at once")) {
		t.Errorf("%q %v", got[:n], err)
	}
	for range 2 {
		select {
		case <-done:
		case <-time.After(20 * time.Second):
			t.Fatal("the write waits for ever")
		}
	}
}
