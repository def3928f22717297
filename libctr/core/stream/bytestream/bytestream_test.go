package bytestream_test

import (
	"bytes"
	"errors"
	"io"
	"sync"
	"testing"

	transferapi "github.com/containerd/containerd/api/types/transfer"
	"github.com/containerd/typeurl/v2"
	"google.golang.org/protobuf/types/known/emptypb"

	"gantry/api/errdefs"
	"gantry/libctr/core/stream/bytestream"
)

// end is one end of a stream in memory.
type end struct {
	out, in chan typeurl.Any
	once    sync.Once
	broken  error // what Recv says instead of io.EOF
}

func pipe() (a, b *end) {
	x, y := make(chan typeurl.Any, 16), make(chan typeurl.Any, 16)
	return &end{out: x, in: y}, &end{out: y, in: x}
}

func (e *end) Send(a typeurl.Any) error {
	e.out <- a
	return nil
}

func (e *end) Recv() (typeurl.Any, error) {
	a, ok := <-e.in
	if !ok {
		if e.broken != nil {
			return nil, e.broken
		}
		return nil, io.EOF
	}
	return a, nil
}

func (e *end) Close() error {
	e.once.Do(func() { close(e.out) })
	return nil
}

func pack(t *testing.T, v any) typeurl.Any {
	t.Helper()
	a, err := typeurl.MarshalAny(v)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func TestThrough(t *testing.T) {
	near, far := pipe()
	want := bytes.Repeat([]byte("0123456789abcdef"), 100_000)
	failed := make(chan error, 1)
	go func() {
		w := bytestream.NewWriter(near)
		_, err := w.Write(want)
		failed <- errors.Join(err, w.Close())
	}()
	got, err := io.ReadAll(bytestream.NewReader(far))
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("%d bytes of %d came: %v", len(got), len(want), err)
	}
	if err := <-failed; err != nil {
		t.Error(err)
	}
}

// TestWindow sends no more than was granted.
func TestWindow(t *testing.T) {
	near, far := pipe()
	w := bytestream.NewWriter(near)
	done := make(chan error, 1)
	go func() {
		_, err := w.Write(make([]byte, 100))
		done <- err
	}()
	sum := 0
	for _, n := range []int32{10, 60, 30} {
		if err := far.Send(pack(t, &transferapi.WindowUpdate{Update: n})); err != nil {
			t.Fatal(err)
		}
		a, err := far.Recv()
		if err != nil {
			t.Fatal(err)
		}
		var m transferapi.Data
		if err := typeurl.UnmarshalTo(a, &m); err != nil || len(m.GetData()) > int(n) {
			t.Errorf("%d bytes of %d that were granted: %v", len(m.GetData()), n, err)
		}
		sum += len(m.GetData())
	}
	if err := <-done; err != nil || sum != 100 {
		t.Errorf("%d bytes sent: %v", sum, err)
	}
}

func TestBroken(t *testing.T) {
	t.Run("connection", func(t *testing.T) {
		near, far := pipe()
		far.broken = errdefs.Unavailable("cut")
		_ = near.Close()
		if _, err := io.ReadAll(bytestream.NewReader(far)); !errors.Is(err, errdefs.ErrUnavailable) {
			t.Errorf("read: %v", err)
		}
	})
	t.Run("no data", func(t *testing.T) {
		near, far := pipe()
		_ = near.Send(pack(t, &emptypb.Empty{}))
		if _, err := io.ReadAll(bytestream.NewReader(far)); !errors.Is(err, errdefs.ErrInvalidArgument) {
			t.Errorf("read: %v", err)
		}
	})
	for name, m := range map[string]any{"no window": &emptypb.Empty{}, "a negative window": &transferapi.WindowUpdate{Update: -1}} {
		t.Run(name, func(t *testing.T) {
			near, far := pipe()
			_ = far.Send(pack(t, m))
			if _, err := bytestream.NewWriter(near).Write([]byte("x")); !errors.Is(err, errdefs.ErrInvalidArgument) {
				t.Errorf("write: %v", err)
			}
		})
	}
	t.Run("receiver gone", func(t *testing.T) {
		near, far := pipe()
		_ = far.Close()
		if _, err := bytestream.NewWriter(near).Write([]byte("x")); !errors.Is(err, io.ErrClosedPipe) {
			t.Errorf("write: %v", err)
		}
	})
}
