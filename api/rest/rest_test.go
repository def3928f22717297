package rest_test

import (
	"bytes"
	"errors"
	"io"
	"slices"
	"sync"
	"testing"

	"github.com/docker/docker/pkg/stdcopy"

	"gantry/api/reqctx"
	"gantry/api/rest"
)

func TestCheckVersion(t *testing.T) {
	for _, row := range []struct{ v, min, want string }{
		{"1.24", "1.24", ""},
		{"1.51", "1.24", ""},
		{"1.52", "1.24", "client version 1.52 is too new. Maximum supported API version is 1.51"},
		{"1.9", "1.24", "client version 1.9 is too old. Minimum supported API version is 1.24, please upgrade your client to a newer version"},
		{"1.43", "1.44", "client version 1.43 is too old. Minimum supported API version is 1.44, please upgrade your client to a newer version"},
	} {
		got := ""
		if err := rest.CheckVersion(row.v, row.min); err != nil {
			got = err.Error()
		}
		if got != row.want {
			t.Errorf("%s: %q", row.v, got)
		}
	}
	for v, ok := range map[string]bool{"1.24": true, "1.51": true, "1.23": false, "1.52": false, "": false} {
		if err := rest.CheckMinVersion(v); (err == nil) != ok {
			t.Errorf("minimum %q: %v", v, err)
		}
	}
}

func TestChange(t *testing.T) {
	c := rest.Change{Since: "1.44"}
	for v, want := range map[string]bool{"1.43": false, "1.44": true, "1.51": true, "1.5": false, "": true} {
		ctx := t.Context()
		if v != "" {
			ctx = reqctx.WithVersion(ctx, v)
		}
		if c.In(ctx) != want {
			t.Errorf("%q: %v", v, !want)
		}
	}
}

// Docker's own reader must understand our frames, and ours its writer's.
func TestFramesAreDockers(t *testing.T) {
	var wire, out, err bytes.Buffer
	f := rest.NewFramer(&wire)
	n, e := f.Stream(rest.Stdout).Write([]byte("hello"))
	if n != 5 || e != nil {
		t.Errorf("%d %v", n, e)
	}
	_, _ = f.Stream(rest.Stderr).Write(bytes.Repeat([]byte("x"), 100<<10))
	_, _ = f.Stream(rest.Stdout).Write(nil)
	if _, e := stdcopy.StdCopy(&out, &err, &wire); e != nil {
		t.Fatal(e)
	}
	if out.String() != "hello" || err.Len() != 100<<10 {
		t.Errorf("%q %d", out.String(), err.Len())
	}
	_, _ = stdcopy.NewStdWriter(&wire, stdcopy.Stderr).Write([]byte("oops"))
	fr, e := rest.ReadFrame(&wire, 100)
	if e != nil || fr.Stream != rest.Stderr || string(fr.Data) != "oops" {
		t.Errorf("%+v %v", fr, e)
	}
}

func TestBadFrames(t *testing.T) {
	for why, row := range map[string]struct {
		in   string
		want error
	}{
		"nothing":         {"", io.EOF},
		"torn header":     {"\x01\x00\x00", io.ErrUnexpectedEOF},
		"torn payload":    {"\x01\x00\x00\x00\x00\x00\x00\x05ab", io.ErrUnexpectedEOF},
		"no such stream":  {"\x04\x00\x00\x00\x00\x00\x00\x00", rest.ErrFrame},
		"padding is used": {"\x01\x00\x01\x00\x00\x00\x00\x00", rest.ErrFrame},
		"too long":        {"\x01\x00\x00\x00\xff\xff\xff\xff", rest.ErrFrame},
	} {
		if _, err := rest.ReadFrame(bytes.NewReader([]byte(row.in)), 1000); !errors.Is(err, row.want) {
			t.Errorf("%s: %v", why, err)
		}
	}
}

type partial struct{}

func (partial) Write([]byte) (int, error) { return 3, io.ErrClosedPipe }

func TestFailedWriteCountsPayload(t *testing.T) {
	if n, err := rest.NewFramer(partial{}).Stream(rest.Stdout).Write([]byte("hello")); n != 0 || err == nil {
		t.Errorf("%d %v", n, err)
	}
}

type lockedBuffer struct {
	mu sync.Mutex
	bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.Buffer.Write(p)
}

func TestFramesStayWhole(t *testing.T) {
	var wire lockedBuffer
	f := rest.NewFramer(&wire)
	var wg sync.WaitGroup
	for _, s := range []rest.Stream{rest.Stdout, rest.Stderr} {
		wg.Go(func() {
			for range 500 {
				_, _ = f.Stream(s).Write([]byte{byte(s), byte(s)})
			}
		})
	}
	wg.Wait()
	for range 1000 {
		fr, err := rest.ReadFrame(&wire.Buffer, 10)
		if err != nil || !slices.Equal(fr.Data, []byte{byte(fr.Stream), byte(fr.Stream)}) {
			t.Fatalf("%+v %v", fr, err)
		}
	}
}

// What is read as a frame is written as the same bytes, and Docker reads the same.
func FuzzReadFrame(f *testing.F) {
	f.Add([]byte("\x01\x00\x00\x00\x00\x00\x00\x02ok\x02\x00\x00\x00\x00\x00\x00\x01!"))
	f.Add([]byte("\x03\x00\x00\x00\xff\xff\xff\xff"))
	f.Fuzz(func(t *testing.T, in []byte) {
		r := bytes.NewReader(in)
		for {
			start := len(in) - r.Len()
			fr, err := rest.ReadFrame(r, 1<<16)
			if err != nil {
				return
			}
			var again bytes.Buffer
			_, _ = rest.NewFramer(&again).Stream(fr.Stream).Write(fr.Data)
			if len(fr.Data) > 0 && !bytes.Equal(again.Bytes(), in[start:len(in)-r.Len()]) {
				t.Fatalf("%q became %q", in[start:len(in)-r.Len()], again.Bytes())
			}
		}
	})
}
