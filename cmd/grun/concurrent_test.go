package main

import (
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// together makes the same call from several processes at once.
func (h *host) together(n int, args ...string) []result {
	results := make([]result, n)
	var all sync.WaitGroup
	for i := range results {
		all.Go(func() { results[i] = h.call("", args...) })
	}
	all.Wait()
	return results
}

func succeeded(results []result) (n int) {
	for _, r := range results {
		if r.status == 0 {
			n++
		}
	}
	return n
}

// loggingHooks append a letter to a file.
func loggingHooks(dir string) func(*specs.Spec) {
	hook := func(letter string) []specs.Hook {
		return []specs.Hook{{Path: "/bin/sh", Args: []string{"sh", "-c", "sleep 0.1; echo " + letter + " >> " + dir + "/log"}}}
	}
	return func(s *specs.Spec) { s.Hooks = &specs.Hooks{Poststart: hook("started"), Poststop: hook("stopped")} }
}

// TestOnceEach: of several starts and deletes at once, one does it, with its hooks,
// and the others find it done.
func TestOnceEach(t *testing.T) {
	dir := t.TempDir()
	h := newHost(t, untilTerm, loggingHooks(dir))
	h.want(h.detached("create", "-b", h.b, h.n), result{})
	starts := h.together(4, "start", h.n)
	if succeeded(starts) != 1 {
		t.Errorf("starts %+v", starts)
	}
	for _, r := range starts {
		if r.status != 0 && !strings.Contains(r.stderr, "cannot start an already running container") {
			t.Errorf("%+v", r)
		}
	}
	deletes := h.together(4, "delete", "--force", h.n)
	if succeeded(deletes) != 4 { // to be rid of it is what each wanted
		t.Errorf("deletes %+v", deletes)
	}
	b, _ := os.ReadFile(filepath.Join(dir, "log"))
	if string(b) != "started\nstopped\n" {
		t.Errorf("hooks ran: %q", b)
	}
}

// TestDeleteOnce: without force the losers hear that there is none.
func TestDeleteOnce(t *testing.T) {
	dir := t.TempDir()
	h := newHost(t, "true", loggingHooks(dir))
	h.want(h.detached("create", "-b", h.b, h.n), result{})
	deletes := h.together(4, "delete", h.n)
	if succeeded(deletes) != 1 {
		t.Errorf("%+v", deletes)
	}
	for _, r := range deletes {
		if r.status != 0 && !strings.Contains(r.stderr, "container does not exist") {
			t.Errorf("%+v", r)
		}
	}
	if b, _ := os.ReadFile(filepath.Join(dir, "log")); string(b) != "stopped\n" {
		t.Errorf("hooks ran: %q", b)
	}
}

// TestDeleteWhileExec: execs that come while the container goes fail or end, and
// leave nothing.
func TestDeleteWhileExec(t *testing.T) {
	for range 3 {
		h := newHost(t, untilTerm, nil)
		h.want(h.detached("run", "-d", "-b", h.b, h.n), result{})
		var execs sync.WaitGroup
		for range 4 {
			execs.Go(func() {
				for range 5 {
					if r := h.call("", "exec", h.n, "sleep", "100"); r.status == 0 {
						t.Errorf("an exec ended well: %+v", r)
					}
				}
			})
		}
		h.want(h.call("", "delete", "--force", h.n), result{})
		execs.Wait()
	}
}

// TestIDAnew: who knows a container that is gone does not touch the next of its id.
func TestIDAnew(t *testing.T) {
	h := newHost(t, untilTerm, nil)
	r := &request{global: globals{root: h.root}}
	h.want(h.detached("create", "-b", h.b, h.n), result{})
	old, err := r.load(h.n)
	if err != nil {
		t.Fatal(err)
	}
	h.want(h.call("", "delete", "--force", h.n), result{})
	h.want(h.detached("create", "-b", h.b, h.n), result{})
	if err := old.Delete(t.Context(), true); err == nil {
		t.Error("the old one is deleted twice")
	}
	h.want(h.detached("start", h.n), result{})
	h.want(h.call("", "delete", "--force", h.n), result{})
}
