package keeper_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"gantry/api/shimwire"
)

// A keeper that cannot be replaced at once is, when it can.
func TestReplacedLater(t *testing.T) {
	p := newPlace(t)
	k := p.daemon()
	if _, err := k.Begin(t.Context(), "c", initStreams); err != nil {
		t.Fatal(err)
	}
	binary, aside := filepath.Join(p.dir, shimwire.Binary), filepath.Join(t.TempDir(), "aside")
	if err := os.Rename(binary, aside); err != nil {
		t.Fatal(err)
	}
	pid := p.pid()
	syscall.Kill(pid, syscall.SIGKILL)
	time.Sleep(1500 * time.Millisecond) // it has been tried once
	if got := p.pid(); got != pid {
		t.Fatalf("another, %d, without a program", got)
	}
	if err := os.Rename(aside, binary); err != nil {
		t.Fatal(err)
	}
	p.eventually("it is replaced", func() bool { return p.pid() != pid && strings.Count(p.notes(), "open") == 2 })
	if err := k.End(t.Context(), "c"); err != nil || p.left() != "" {
		t.Errorf("%v, left %s", err, p.left())
	}
}

// The next daemon finds the execs whose fifos the one before has left.
func TestExecs(t *testing.T) {
	p := newPlace(t)
	k, ctx := p.daemon(), context.Background()
	if got := k.Execs("c"); len(got) != 0 {
		t.Errorf("of nothing: %q", got)
	}
	if _, err := k.Begin(ctx, "c", initStreams); err != nil {
		t.Fatal(err)
	}
	for _, x := range []string{"one", "two"} {
		if _, err := k.BeginExec(ctx, "c", x, termStreams); err != nil {
			t.Fatal(err)
		}
	}
	if err := k.EndExec(ctx, "c", "one"); err != nil {
		t.Fatal(err)
	}
	if got := p.daemon().Execs("c"); len(got) != 1 || got[0] != "two" {
		t.Errorf("execs %q", got)
	}
	if err := k.End(ctx, "c"); err != nil || p.left() != "" {
		t.Errorf("%v, left %s", err, p.left())
	}
}
