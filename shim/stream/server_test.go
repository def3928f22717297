package stream_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"path/filepath"
	"testing"
	"time"

	"gantry/api/errdefs"
	"gantry/api/logfile"
	"gantry/api/shimwire"
	"gantry/shim/output"
	"gantry/shim/stream"
)

// host has one process with a log and no stdin.
type host struct{ out output.Output }

func (h host) Streams(proc string) (output.Output, stream.Stdin, error) {
	if proc != "" {
		return nil, nil, errdefs.NotFound("no process %q", proc)
	}
	return h.out, nil, nil
}

func (host) HoldPorts([]shimwire.Port) error { return nil }

// TestDrain: when the container is over, who reads gets everything, be it slowly, and who
// does not read any more is cut off before the time that others are given.
func TestDrain(t *testing.T) {
	dir := t.TempDir()
	out, err := output.OpenLog(shimwire.LogURI{Path: filepath.Join(dir, "log"), Socket: "/unused"}, output.Host{})
	if err != nil {
		t.Fatal(err)
	}
	socket := filepath.Join(dir, "sock")
	s, err := stream.Listen(socket, host{out}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	dial := func() *shimwire.Conn {
		c, err := shimwire.Dial(t.Context(), socket, shimwire.Hello{Stdout: true})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		return c
	}
	slow, deaf := dial(), dial()
	if err := shimwire.OpenFifos(t.Context(), socket, shimwire.Fifos{}); !errdefs.IsNotImplemented(err) {
		t.Errorf("fifos of a shim: %v", err)
	}
	line := append(bytes.Repeat([]byte("x"), 1023), '\n')
	const lines = 2000
	for range lines {
		if err := out.Write(logfile.Stdout, line); err != nil {
			t.Fatal(err)
		}
	}
	got := make(chan int, 1)
	go func() {
		n := 0
		for {
			f, err := slow.Read()
			if err != nil || f.Kind == shimwire.End {
				got <- n
				return
			}
			n += len(f.Data)
			time.Sleep(10 * time.Millisecond)
		}
	}()
	out.End()
	s.Close()
	const patience = time.Minute
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	s.Drain(ctx)
	if ctx.Err() != nil {
		t.Error("a client that does not read holds up the end")
	}
	if n := <-got; n != lines*len(line) {
		t.Errorf("a slow client got %d bytes of %d", n, lines*len(line))
	}
	for err = nil; err == nil; {
		_, err = deaf.Read()
	}
	if errors.Is(err, io.EOF) {
		t.Error("the deaf client is told a good end")
	}
}
