package stream_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"testing"

	"github.com/containerd/typeurl/v2"

	"gantry/api/errdefs"
	"gantry/api/reqctx"
	"gantry/libctr/core/lease"
	"gantry/libctr/stream"
)

// fake is a stream that counts how often it is closed.
type fake struct{ closed int }

func (*fake) Send(typeurl.Any) error                    { return nil }
func (*fake) Recv() (typeurl.Any, error)                { return nil, io.EOF }
func (f *fake) Close() error                            { f.closed++; return nil }
func in(ctx context.Context, ns string) context.Context { return reqctx.WithNamespace(ctx, ns) }

// leases has those named, in each namespace.
type leases struct {
	lease.Manager
	ids []string
}

func (l leases) List(context.Context, ...string) (out []lease.Lease, err error) {
	for _, id := range l.ids {
		out = append(out, lease.Lease{ID: id})
	}
	return out, nil
}

func manager(ids ...string) *stream.Manager {
	return stream.NewManager(leases{ids: ids}, slog.New(slog.DiscardHandler))
}

func TestRegister(t *testing.T) {
	m := manager()
	a, b := in(t.Context(), "a"), in(t.Context(), "b")
	f := &fake{}
	forget, err := m.Register(a, "x", f)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := m.Register(a, "x", &fake{}); !errors.Is(err, errdefs.ErrAlreadyExists) {
		t.Errorf("again: %v", err)
	}
	if _, err := m.Register(b, "x", &fake{}); err != nil {
		t.Errorf("in another namespace: %v", err)
	}
	for _, id := range []string{"", strings.Repeat("x", 513)} {
		if _, err := m.Register(a, id, &fake{}); !errors.Is(err, errdefs.ErrInvalidArgument) {
			t.Errorf("id of %d bytes: %v", len(id), err)
		}
	}
	s, err := m.Get(a, "x")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := m.Get(a, "y"); !errors.Is(err, errdefs.ErrNotFound) {
		t.Errorf("get what is not there: %v", err)
	}
	if err := s.Close(); err != nil || f.closed != 1 {
		t.Errorf("close: %v, %d times", err, f.closed)
	}
	if _, err := m.Get(a, "x"); !errors.Is(err, errdefs.ErrNotFound) {
		t.Errorf("get what was closed: %v", err)
	}
	second := &fake{}
	if _, err := m.Register(a, "x", second); err != nil {
		t.Fatal(err)
	}
	forget() // of the first, which must not take the second with it
	if _, err := m.Get(a, "x"); err != nil || m.Len() != 2 {
		t.Errorf("get the second: %v, %d streams", err, m.Len())
	}
}

func TestBounds(t *testing.T) {
	m := manager()
	for i := range 1024 {
		if _, err := m.Register(in(t.Context(), "a"), fmt.Sprint(i), &fake{}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := m.Register(in(t.Context(), "a"), "one more", &fake{}); !errors.Is(err, errdefs.ErrResourceExhausted) {
		t.Errorf("one more: %v", err)
	}
	if _, err := m.Register(in(t.Context(), "b"), "x", &fake{}); err != nil {
		t.Errorf("in another namespace: %v", err)
	}
	var err error
	for i := range 8 * 1024 {
		if _, err = m.Register(in(t.Context(), fmt.Sprint(i%100)), fmt.Sprint("more", i), &fake{}); err != nil {
			break
		}
	}
	if !errors.Is(err, errdefs.ErrResourceExhausted) || m.Len() != 8*1024 {
		t.Errorf("over all namespaces: %v with %d streams", err, m.Len())
	}
}

// TestSweep ends what was left with a lease that has gone.
func TestSweep(t *testing.T) {
	m := manager("alive")
	defer m.Close()
	kept, free, gone := &fake{}, &fake{}, &fake{}
	for id, s := range map[string]*fake{"alive": kept, "": free, "gone": gone} {
		if _, err := m.Register(lease.With(in(t.Context(), "a"), id), "of "+id, s); err != nil {
			t.Fatal(err)
		}
	}
	if err := m.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	if kept.closed != 0 || free.closed != 0 || gone.closed != 1 || m.Len() != 2 {
		t.Errorf("closed %d, %d, %d; %d streams", kept.closed, free.closed, gone.closed, m.Len())
	}
}
