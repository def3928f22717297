package registry

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// slowBody yields a byte after each of the pauses, then nothing until its request ends.
type slowBody struct {
	ctx    context.Context
	pauses []time.Duration
}

func (b *slowBody) Read(p []byte) (int, error) {
	if len(b.pauses) == 0 {
		<-b.ctx.Done()
		return 0, b.ctx.Err()
	}
	time.Sleep(b.pauses[0])
	b.pauses = b.pauses[1:]
	p[0] = 'x'
	return 1, nil
}

func (*slowBody) Close() error { return nil }

type slow []time.Duration

func (s slow) RoundTrip(r *http.Request) (*http.Response, error) {
	return &http.Response{StatusCode: http.StatusOK, Body: &slowBody{r.Context(), s}}, nil
}

// silent never answers.
type silent struct{}

func (silent) RoundTrip(r *http.Request) (*http.Response, error) {
	<-r.Context().Done()
	return nil, r.Context().Err()
}

// TestNoAnswer gives up a registry that takes a request and says nothing. What is sent to
// it may take any time.
func TestNoAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		r, err := http.NewRequestWithContext(t.Context(), http.MethodHead, "http://x/v2/a/manifests/b", nil)
		if err != nil {
			t.Fatal(err)
		}
		g := &guard{inner: silent{}}
		if _, err := g.RoundTrip(r); !errors.Is(err, errStalled) || time.Since(start) != stallTime {
			t.Errorf("after %v: %v", time.Since(start), err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		r, err = http.NewRequestWithContext(ctx, http.MethodPut, "http://x/v2/a/blobs/uploads/b", strings.NewReader("x"))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := g.RoundTrip(r); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("sending: %v", err)
		}
	})
}

// TestStall gives a body up that yields nothing for long, not one that is slow, nor one
// that nobody reads for a while.
func TestStall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://x/v2/a/blobs/b", nil)
		if err != nil {
			t.Fatal(err)
		}
		g := &guard{inner: slow{time.Minute, time.Minute, time.Minute}}
		resp, err := g.RoundTrip(r)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		time.Sleep(time.Hour)
		start := time.Now()
		got, err := io.ReadAll(resp.Body)
		if len(got) != 3 || !errors.Is(err, errStalled) {
			t.Errorf("read %d bytes: %v", len(got), err)
		}
		if d := time.Since(start); d != 3*time.Minute+stallTime {
			t.Errorf("given up after %v", d)
		}
		if !temporary(t.Context(), err) {
			t.Error("not asked again")
		}
	})
}
