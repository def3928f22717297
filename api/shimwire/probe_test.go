package shimwire

import (
	"context"
	"errors"
	"testing"
	"time"

	"gantry/api/errdefs"
)

// answering serves one prober, with an answer for each run by its id.
func answering(t *testing.T, answers map[string]func() []byte) (path string) {
	path, accept := pair(t)
	go func() {
		c := accept()
		req, err := ReadRequest(c)
		if err != nil || string(req.Prober) != `{"args":["x"]}` {
			t.Errorf("request %+v, %v", req, err)
		}
		c.Write(AppendResult(nil, nil))
		for in := NewProbeReader(c); ; {
			o, err := in.Next()
			if err != nil {
				c.Close()
				return
			}
			if answer := answers[o.ID]; answer != nil {
				c.Write(answer())
			}
		}
	}()
	return path
}

func TestProber(t *testing.T) {
	at := time.Unix(1700000000, 5)
	long := Probed{Status: 137, At: at, TimedOut: true, Cut: true, Output: make([]byte, MaxProbeOutput)}
	path := answering(t, map[string]func() []byte{
		"short": func() []byte { return AppendProbed(nil, Probed{Status: 3, At: at, Output: []byte("no")}) },
		"long":  func() []byte { return AppendProbed(nil, long) },
		"error": func() []byte { return AppendResult(nil, errdefs.NotFound("no such program")) },
		"torn":  func() []byte { return AppendMark(nil, End, Position{}) },
	})
	p, err := DialProber(t.Context(), path, []byte(`{"args":["x"]}`))
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	run := func(id string) (Probed, error) { return p.Run(t.Context(), Probe{ID: id, Timeout: time.Second}) }
	if r, err := run("short"); err != nil || r.Status != 3 || !r.At.Equal(at) || string(r.Output) != "no" || r.TimedOut || r.Cut {
		t.Errorf("short: %+v, %v", r, err)
	}
	if r, err := run("long"); err != nil || r.Status != 137 || len(r.Output) != MaxProbeOutput || !r.TimedOut || !r.Cut {
		t.Errorf("long: %d bytes of %+v, %v", len(r.Output), r.Status, err)
	}
	if _, err := run("error"); !errdefs.IsNotFound(err) {
		t.Errorf("the shim's error: %v", err)
	}
	if r, err := run("short"); err != nil || r.Status != 3 {
		t.Errorf("after an error: %+v, %v", r, err)
	}
	if _, err := run("torn"); !errors.Is(err, errdefs.ErrUnavailable) {
		t.Errorf("a frame out of place: %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := p.Run(ctx, Probe{ID: "never", Timeout: time.Second}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("given up: %v", err)
	}
	if _, err := run("short"); !errors.Is(err, errdefs.ErrUnavailable) {
		t.Errorf("after it was given up: %v", err)
	}
}

func TestProbeReaderRefuses(t *testing.T) {
	for name, wire := range map[string]string{
		"another kind": string(AppendMark(nil, End, Position{})),
		"no JSON":      "\x09\x00\x00\x00\x00\x00\x00\x01x",
		"no id":        "\x09\x00\x00\x00\x00\x00\x00\x0d{\"timeout\":1}",
		"no time":      "\x09\x00\x00\x00\x00\x00\x00\x0a{\"id\":\"x\"}",
	} {
		path, accept := pair(t)
		client, err := dialUnix(t.Context(), path)
		if err != nil {
			t.Fatal(err)
		}
		client.Write([]byte(wire))
		client.Close()
		if o, err := NewProbeReader(accept()).Next(); err == nil {
			t.Errorf("%s: %+v", name, o)
		}
	}
}
