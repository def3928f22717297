package integrationcli

import (
	"fmt"
	"net/http"
	"slices"
	"testing"
	"time"

	"gantry/internal/testutil/deadmount"
	"gantry/internal/testutil/engine"
)

// TestQuickBesideSick asks for everything that shows something, again and again, with
// many containers, at full length 300, of which one's shim is stopped, one's process
// sleeps on a dead mount and one's start never ends, while others live and die.
func TestQuickBesideSick(t *testing.T) {
	engine.OwnCore(t, "it waits for a shim that does not answer")
	path, pids := stuckRuntime(t)
	e := start(t, "--add-runtime", "stuck="+path)
	m := deadmount.New(t)
	many := scale(300, 80)
	lanes(t, 4, func(lane int) error {
		for i := lane; i < many; i += 4 {
			if _, err := want(e, 201, "POST", fmt.Sprintf("/containers/create?name=c%d", i), sleeper("none")); err != nil {
				return err
			}
		}
		return nil
	})
	for i := range 5 {
		e.Must("start", fmt.Sprintf("c%d", i))
	}
	e.Must("run", "-d", "--name", "frozen", image, "sleep", "1000")
	e.Must("run", "-d", "--name", "asleep", "-v", m.Dir+":/mnt", image, "sh", "-c", "until [ -e /go ]; do sleep 0.1; done; exec ls /mnt")
	e.Must("create", "--name", "begun", "--runtime", "stuck", image, "true")
	m.Die()
	e.Must("exec", "asleep", "touch", "/go")
	eventually(t, "the sleeper has met the dead server", func() bool { return m.Met() > 0 })
	stopShim(t, e, "frozen")
	go ask(e, "POST", "/containers/begun/start", nil) //nolint:errcheck // ends with the removal
	eventually(t, "the start hangs", func() bool { return len(entries(t, pids)) > 0 })

	over, lives := make(chan struct{}), make(chan error, 1)
	go func() { lives <- life(e, over) }()
	bound := time.Duration(scale(50, 1000)) * time.Millisecond
	for _, path := range []string{
		"/containers/json", "/containers/json?all=1", "/containers/c0/json", fmt.Sprintf("/containers/c%d/json", many-1),
		"/containers/frozen/json", "/containers/asleep/json", "/containers/begun/json",
		"/info", "/version", "/_ping", "/images/json", "/system/df", "/networks", "/volumes",
		"/events?since=1&until=2", "/containers/c1/stats?stream=0&one-shot=1", "/containers/c1/logs?stdout=1",
	} {
		took := make([]time.Duration, scale(300, 30))
		for i := range took {
			began := time.Now()
			if _, err := want(e, http.StatusOK, "GET", path, nil); err != nil {
				t.Fatal(err)
			}
			took[i] = time.Since(began)
		}
		slices.Sort(took)
		p99 := took[len(took)*99/100]
		t.Logf("%-45s median %8v  99th percentile %8v", path, took[len(took)/2].Round(10*time.Microsecond), p99.Round(10*time.Microsecond))
		limit := bound
		if path == "/system/df" { // walks through what every container has written
			limit *= 10
		}
		if p99 > limit {
			t.Errorf("%s takes %v at the 99th percentile, want %v", path, p99, limit)
		}
	}
	close(over)
	if err := <-lives; err != nil {
		t.Error(err)
	}
	m.Abort()
	e.Must("rm", "-f", "begun", "frozen", "asleep")
	gone(t, pids)
}

// life takes containers through their lives, one after the other.
func life(e *engine.Engine, over <-chan struct{}) error {
	for {
		select {
		case <-over:
			return nil
		case <-time.After(50 * time.Millisecond):
		}
		for _, call := range []struct {
			status       int
			method, path string
			body         any
		}{
			{201, "POST", "/containers/create?name=life", sleeper("bridge")}, {204, "POST", "/containers/life/start", nil},
			{200, "GET", "/containers/life/logs?stdout=1", nil}, {204, "POST", "/containers/life/kill", nil},
			{204, "DELETE", "/containers/life?force=1", nil},
		} {
			began := time.Now()
			if _, err := want(e, call.status, call.method, call.path, call.body); err != nil {
				return err
			}
			if took := time.Since(began); took > 10*time.Second {
				return fmt.Errorf("%s %s took %v", call.method, call.path, took)
			}
		}
	}
}
