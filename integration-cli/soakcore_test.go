package integrationcli

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"testing"
	"time"

	"gantry/internal/testutil/corealone"
	"gantry/internal/testutil/moving"
	"gantry/internal/testutil/pod"
	"gantry/internal/testutil/registrytest"
)

// TestSoakCore has clients of the core do one thing again and again: it holds no more
// afterwards than before.
func TestSoakCore(t *testing.T) {
	reg := registrytest.Start(t)
	pushTiny(reg)
	debug := filepath.Join(t.TempDir(), "debug.sock")
	c := corealone.Start(t, "[debug]", fmt.Sprintf("address = %q", debug))
	p := pod.Core{Socket: c.Socket(), Dir: c.Dir}
	for _, one := range []struct {
		what        string
		full, small int
		do          func(n int) error
	}{
		{"tasks", 500, 8, func(n int) error { return p.Cycle(fmt.Sprint("task", n)) }},
		{"pulls", 200, 3, func(int) error { return moving.Through(t.Context(), c.Socket(), reg.Host+"/tiny:1") }},
		{"streams", 1000, 12, func(n int) error { return moving.Aborted(t.Context(), c.Socket(), n) }},
		{"sandboxes", 200, 3, func(int) error { return p.Live() }},
	} {
		t.Run(one.what, func(t *testing.T) {
			n := scale(one.full, one.small)
			all := func(from, to int) {
				t.Helper()
				for i := from; i < to; i++ {
					if err := one.do(i); err != nil {
						t.Fatalf("%d: %v", i, err)
					}
				}
			}
			all(0, 2) // what is made once is made
			before := usageOfCore(t, c, debug, 0)
			all(2, 2+n)
			flat(t, "gantryd core", n, before, usageOfCore(t, c, debug, before.goroutines))
		})
	}
	collect(c)
	checkCore(t, c, "--deep")
}

// usageOfCore is usageOfDaemon of a core with a debug socket.
func usageOfCore(t *testing.T, c *corealone.Core, debug string, limit int) usage {
	t.Helper()
	transport := &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", debug)
	}}
	get := func(path string) []byte {
		t.Helper()
		r, err := (&http.Client{Transport: transport, Timeout: 20 * time.Second}).Get("http://core/debug/" + path)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Body.Close()
		raw, err := io.ReadAll(r.Body)
		if err != nil || r.StatusCode != http.StatusOK {
			t.Fatalf("%s: %s, %v", path, r.Status, err)
		}
		return raw
	}
	var n int
	for deadline := time.Now().Add(3 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		stacks := get("pprof/goroutine?debug=1")
		if _, err := fmt.Sscanf(string(stacks), "goroutine profile: total %d", &n); err != nil {
			t.Fatalf("%v in %.200s", err, stacks)
		}
		if n <= limit || time.Now().After(deadline) {
			break
		}
	}
	get("pprof/heap?gc=1")
	var v struct{ Memstats struct{ HeapAlloc int } }
	if err := json.Unmarshal(get("vars"), &v); err != nil {
		t.Fatal(err)
	}
	u := usageOf(t, c.PID())
	u.heap, u.goroutines = v.Memstats.HeapAlloc>>10, n
	return u
}
