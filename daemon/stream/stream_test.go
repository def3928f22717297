package stream

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
	"testing/synctest"

	"gantry/api/logfile"
	"gantry/api/reqctx"
	"gantry/api/shimwire"
	apistream "gantry/api/stream"
)

func TestParseKeys(t *testing.T) {
	for in, want := range map[string]string{
		"": "\x10\x11", "ctrl-a": "\x01", "ctrl-z,x": "\x1ax", "ctrl-@,ctrl-_": "\x00\x1f", "a,b": "ab", "DEL": "\x7f",
	} {
		if got, err := ParseKeys(in); err != nil || string(got) != want {
			t.Errorf("ParseKeys(%q) = %q, %v", in, got, err)
		}
	}
	for _, in := range []string{"ctrl-", "ctrl-1", "xy", "a,,b", "ctrl-Z", "del", "é"} {
		if _, err := ParseKeys(in); err == nil {
			t.Errorf("ParseKeys(%q) passed", in)
		}
	}
}

func TestWatcher(t *testing.T) {
	tests := []struct {
		name, in, out string
		detach        bool
	}{
		{name: "plain", in: "hello", out: "hello"},
		{name: "keys", in: "ab\x10\x11cd", out: "ab", detach: true},
		{name: "half", in: "a\x10b", out: "a\x10b"},
		{name: "half at the end", in: "a\x10", out: "a\x10"},
		{name: "doubled first", in: "\x10\x10\x11", out: "\x10", detach: true},
	}
	for _, tt := range tests {
		for _, wrap := range []func(io.Reader) io.Reader{func(r io.Reader) io.Reader { return r }, iotest.OneByteReader} {
			t.Run(tt.name, func(t *testing.T) {
				got, err := io.ReadAll(&watcher{r: wrap(strings.NewReader(tt.in)), keys: DefaultKeys})
				if string(got) != tt.out || errors.Is(err, errDetach) != tt.detach {
					t.Fatalf("%q, %v", got, err)
				}
			})
		}
	}
}

// process is a shim's stream made of channels.
type process struct {
	frames chan shimwire.Frame
	closed chan struct{}
	once   sync.Once
	deaf   bool // never reads its stdin

	mu     sync.Mutex
	stdin  bytes.Buffer // guarded by mu
	ended  bool         // guarded by mu; CloseStdin came
	writes sync.Mutex
}

func newProcess() *process {
	return &process{frames: make(chan shimwire.Frame, 8), closed: make(chan struct{})}
}

func (p *process) Read() (shimwire.Frame, error) {
	select {
	case f := <-p.frames:
		return f, nil
	case <-p.closed:
		return shimwire.Frame{}, io.ErrUnexpectedEOF
	}
}

func (p *process) Write(b []byte) (int, error) {
	p.writes.Lock()
	defer p.writes.Unlock()
	if p.deaf {
		<-p.closed
		return 0, io.ErrClosedPipe
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.stdin.Write(b)
}

func (p *process) CloseStdin() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case <-p.closed:
		return io.ErrClosedPipe
	default:
	}
	p.ended = true
	return nil
}

func (p *process) Close() error { p.once.Do(func() { close(p.closed) }); return nil }

func data(s logfile.Stream, text string) shimwire.Frame {
	return shimwire.Frame{Kind: shimwire.Data, Stream: s, Data: []byte(text)}
}

// client is a connection whose input is a pipe.
type client struct {
	in       *io.PipeWriter
	out, err bytes.Buffer
}

func newClient() (*client, *apistream.Client) {
	r, w := io.Pipe()
	c := &client{in: w}
	return c, &apistream.Client{Stdin: r, Stdout: &c.out, Stderr: &c.err, Close: func() error { return r.CloseWithError(errors.New("closed")) }}
}

func TestCopy(t *testing.T) {
	all := Options{Stdin: true, Stdout: true, Stderr: true}
	once := all
	once.CloseStdin = true
	tty := all
	tty.TTY, tty.Keys = true, DefaultKeys
	tests := []struct {
		name  string
		o     Options
		act   func(t *testing.T, p *process, c *client)
		how   How
		stdin string
		ended bool
	}{
		{name: "process ends", o: once, how: Ended, act: func(t *testing.T, p *process, c *client) {
			p.frames <- data(logfile.Stdout, "out")
			p.frames <- data(logfile.Stderr, "err")
			p.frames <- shimwire.Frame{Kind: shimwire.End}
		}},
		{name: "half close, then output goes on", o: once, how: Ended, stdin: "x", ended: true, act: func(t *testing.T, p *process, c *client) {
			c.in.Write([]byte("x"))
			c.in.Close()
			synctest.Wait()
			p.frames <- data(logfile.Stdout, "out")
			p.frames <- data(logfile.Stderr, "err")
			p.frames <- shimwire.Frame{Kind: shimwire.End}
		}},
		{name: "half close without StdinOnce", o: all, how: InputEnd, stdin: "x", act: func(t *testing.T, p *process, c *client) {
			p.frames <- data(logfile.Stdout, "out")
			p.frames <- data(logfile.Stderr, "err")
			synctest.Wait()
			c.in.Write([]byte("x"))
			c.in.Close()
		}},
		{name: "keys", o: tty, how: Detached, stdin: "x", act: func(t *testing.T, p *process, c *client) {
			p.frames <- data(logfile.Stdout, "out")
			p.frames <- data(logfile.Stderr, "err")
			synctest.Wait()
			c.in.Write([]byte("x\x10\x11y"))
		}},
		{name: "client lost with StdinOnce", o: once, how: Left, stdin: "x", ended: true, act: func(t *testing.T, p *process, c *client) {
			p.frames <- data(logfile.Stdout, "out")
			p.frames <- data(logfile.Stderr, "err")
			synctest.Wait()
			c.in.Write([]byte("x"))
			c.in.CloseWithError(errors.New("reset"))
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newProcess()
				c, conn := newClient()
				done := make(chan Result, 1)
				go func() { done <- Copy(t.Context(), p, conn, tt.o) }()
				tt.act(t, p, c)
				if r := <-done; r.How != tt.how || r.StdinOpen {
					t.Fatalf("result %+v", r)
				}
				if c.out.String() != "out" || c.err.String() != "err" {
					t.Errorf("output %q, %q", c.out.String(), c.err.String())
				}
				if p.stdin.String() != tt.stdin || p.ended != tt.ended {
					t.Errorf("stdin %q, ended %v", p.stdin.String(), p.ended)
				}
			})
		})
	}
}

// A process that does not read its stdin must not hold up the end of a lost client.
func TestCopyDeaf(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newProcess()
		p.deaf = true
		c, conn := newClient()
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan Result, 1)
		go func() {
			done <- Copy(ctx, p, conn, Options{Stdin: true, Stdout: true, CloseStdin: true, Reopens: true})
		}()
		c.in.Write([]byte("x"))
		synctest.Wait()
		cancel()
		if r := <-done; r.How != Left || !r.StdinOpen {
			t.Fatalf("result %+v", r)
		}
	})
}

// A daemon that ends leaves the input open for the client that comes to the next one.
func TestCopyReopens(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newProcess()
		c, conn := newClient()
		ctx, cancel := context.WithCancelCause(t.Context())
		done := make(chan Result, 1)
		go func() {
			done <- Copy(ctx, p, conn, Options{Stdin: true, Stdout: true, CloseStdin: true, Reopens: true})
		}()
		c.in.Write([]byte("x"))
		synctest.Wait()
		cancel(reqctx.ErrGoingDown)
		if r := <-done; r.How != Left || r.StdinOpen || p.ended || p.stdin.String() != "x" {
			t.Fatalf("result %+v, stdin %q, ended %v", r, p.stdin.String(), p.ended)
		}
	})
}
