package shimwire

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"gantry/api/errdefs"
	"gantry/api/logfile"
)

var pos = Position{Generation: 1<<63 + 5, Offset: 1 << 40, Skip: [2]uint32{7, 9}}

func TestFrames(t *testing.T) {
	when := time.Unix(1700000000, 123456789).UTC()
	var wire []byte
	wire = AppendData(wire, Frame{Stream: logfile.Stderr, Data: []byte("text"), Time: when, Pos: pos})
	wire = AppendMark(wire, Gap, pos)
	wire = AppendMark(wire, End, pos)
	for _, want := range []Frame{
		{Kind: Data, Stream: logfile.Stderr, Data: []byte("text"), Time: when, Pos: pos},
		{Kind: Gap, Pos: pos},
		{Kind: End, Pos: pos},
	} {
		f, n, err := Decode(wire)
		if err != nil || f.Kind != want.Kind || f.Stream != want.Stream || !bytes.Equal(f.Data, want.Data) || !f.Time.Equal(want.Time) || f.Pos != want.Pos {
			t.Errorf("got %+v, %v, want %+v", f, err, want)
		}
		wire = wire[n:]
	}
	if len(wire) != 0 {
		t.Errorf("%d bytes are left", len(wire))
	}
	// The first frame as bytes: a change here is a change of the wire.
	got := AppendData(nil, Frame{Stream: logfile.Stdout, Data: []byte("x"), Time: time.Unix(0, 2), Pos: Position{Generation: 3, Offset: 4, Skip: [2]uint32{5, 6}}})
	want := "\x11\x01\x00\x00\x00\x00\x00\x21" + "\x00\x00\x00\x00\x00\x00\x00\x03" + "\x00\x00\x00\x00\x00\x00\x00\x04" +
		"\x00\x00\x00\x05" + "\x00\x00\x00\x06" + "\x00\x00\x00\x00\x00\x00\x00\x02" + "x"
	if string(got) != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestErrorsCross(t *testing.T) {
	for _, class := range classes {
		_, _, err := Decode(AppendResult(nil, errdefs.WithClass(class, errors.New("some text"))))
		if !errors.Is(err, class) || err.Error() != "some text" {
			t.Errorf("%v came back as %v", class, err)
		}
	}
	if _, _, err := Decode(AppendResult(nil, errors.New(strings.Repeat("x", 2*MaxBody)))); err == nil || len(err.Error()) > 100 {
		t.Error("an error text is not bounded")
	}
}

// pair returns both ends of a connection at a path too long for an address.
func pair(t *testing.T) (path string, accept func() *net.UnixConn) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), strings.Repeat("d", 100))
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	path = filepath.Join(dir, strings.Repeat("s", 60))
	l, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return path, func() *net.UnixConn {
		c, err := l.AcceptUnix()
		if err != nil {
			t.Error(err)
			return nil
		}
		t.Cleanup(func() { c.Close() })
		return c
	}
}

func TestStream(t *testing.T) {
	path, accept := pair(t)
	served := make(chan error, 1)
	go func() {
		served <- func() error {
			c := accept()
			req, err := ReadRequest(c)
			if err != nil {
				return err
			}
			if h := req.Hello; h == nil || h.Proc != "e" || !h.Stdin || h.From == nil || *h.From != pos {
				return errors.New("strange hello")
			}
			c.Write(AppendWelcome(nil, pos))
			in := NewInputReader(c)
			var got bytes.Buffer
			for {
				piece, err := in.Next()
				if err != nil {
					return err
				}
				if piece.Close {
					break
				}
				got.Write(piece.Data)
			}
			if got.Len() != 100_000 {
				return errors.New("input is cut")
			}
			c.Write(AppendData(nil, Frame{Stream: logfile.Stdout, Data: []byte("out"), Pos: pos}))
			c.Write(AppendMark(nil, End, pos))
			return c.Close()
		}()
	}()
	c, err := Dial(t.Context(), path, Hello{Proc: "e", Stdin: true, Stdout: true, From: &pos})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if c.Start() != pos {
		t.Errorf("start %+v", c.Start())
	}
	if n, err := c.Write(make([]byte, 100_000)); n != 100_000 || err != nil {
		t.Errorf("wrote %d, %v", n, err)
	}
	if err := c.CloseStdin(); err != nil {
		t.Error(err)
	}
	if err := <-served; err != nil {
		t.Error(err)
	}
	if f, err := c.Read(); err != nil || string(f.Data) != "out" {
		t.Errorf("got %+v, %v", f, err)
	}
	if f, err := c.Read(); err != nil || f.Kind != End {
		t.Errorf("got %+v, %v", f, err)
	}
	if _, err := c.Read(); !errors.Is(err, io.EOF) {
		t.Errorf("after the end: %v", err)
	}
}

func TestLostConnection(t *testing.T) {
	path, accept := pair(t)
	go func() {
		c := accept()
		ReadRequest(c)
		c.Write(AppendWelcome(nil, pos))
		c.Close()
	}()
	c, err := Dial(t.Context(), path, Hello{})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Read(); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("got %v", err)
	}
}

// TestDialGivesUp pins that a shim that does not answer does not hang its caller.
func TestDialGivesUp(t *testing.T) {
	path, _ := pair(t)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := Dial(ctx, path, Hello{}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
}

func FuzzDecode(f *testing.F) {
	f.Add(AppendData(nil, Frame{Stream: logfile.Stdout, Data: []byte("x"), Pos: pos}))
	f.Add(AppendMark(nil, End, pos))
	f.Add(AppendResult(nil, errors.New("x")))
	f.Fuzz(func(t *testing.T, wire []byte) {
		if _, n, err := Decode(wire); err == nil && (n < headerSize || n > len(wire)) {
			t.Fatalf("took %d of %d bytes", n, len(wire))
		}
	})
}

func FuzzReadRequest(f *testing.F) {
	f.Add([]byte("\x01\x00\x00\x00\x00\x00\x00\x02{}"))
	f.Add([]byte("\x04\x00\x00\x00\x00\x00\x00\x0c{\"ports\":[]}"))
	f.Add([]byte("\x05\x00\x00\x00\x00\x00\x00\x00"))
	f.Add([]byte("\x06\x00\x00\x00\x00\x00\x00\x02{}"))
	f.Add([]byte("\x07\x00\x00\x00\x00\x00\x00\x0c{\"proc\":\"x\"}"))
	f.Add([]byte("\x08\x00\x00\x00\x00\x00\x00\x02{}"))
	f.Fuzz(func(t *testing.T, wire []byte) {
		path, accept := pair(t)
		client, err := dialUnix(t.Context(), path)
		if err != nil {
			t.Fatal(err)
		}
		server := accept()
		go func() {
			client.Write(wire)
			client.Close()
		}()
		if req, err := ReadRequest(server); err == nil && req.Hello == nil && req.Ports == nil && req.Prober == nil && !req.Execs && !req.Release && req.Fifos == nil && req.End == nil {
			t.Error("an empty request")
		}
		server.Close()
	})
}
