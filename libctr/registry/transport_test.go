package registry

import (
	"context"
	"errors"
	"io"
	"net/http"
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
