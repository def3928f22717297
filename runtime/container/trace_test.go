package container_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"gantry/runtime/container"
	"gantry/runtime/hop"
	"gantry/runtime/program"
)

// TestHops follows a container from its creation to its execve, with a seccomp
// filter under which asking for the time would kill.
func TestHops(t *testing.T) {
	b := newBed(t)
	spec := b.spec("true")
	spec.Linux.Seccomp = &specs.LinuxSeccomp{
		DefaultAction: specs.ActAllow,
		Syscalls:      []specs.LinuxSyscall{{Names: []string{"clock_gettime"}, Action: specs.ActKillProcess}},
	}
	var made, begun hop.Trace
	c, err := container.Create(hop.With(t.Context(), &made), container.CreateOptions{
		ID: "traced", Bundle: b.bundle, Root: b.root, Spec: spec,
	})
	if err != nil {
		t.Fatal(err)
	}
	defer b.delete(c)
	if err := c.Start(hop.With(t.Context(), &begun)); err != nil {
		t.Fatal(err)
	}
	hops, _ := made.Hops()
	for _, want := range []string{"runtime create", "make cgroup and set limits", "compile program", "clone init", "set up the container"} {
		find(t, hops, want)
	}
	setup := find(t, hops, "set up the container")
	if hops[setup].Process != "init" || hops[setup].Pid != c.Pid() {
		t.Errorf("%+v is not the init's", hops[setup])
	}
	nested(t, hops, setup, 20)
	after, _ := begun.Hops()
	nested(t, after, find(t, after, "become the command"), 2)
	if last := after[len(after)-1]; !strings.Contains(last.Name, "load seccomp filter") || !strings.Contains(last.Name, "exec") {
		t.Errorf("the last hop is %+v", last)
	}
}

func TestHopsOfExec(t *testing.T) {
	b := newBed(t)
	spec := b.spec("sleep", "1000")
	c, err := b.create(spec, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	var tr hop.Trace
	process := *spec.Process
	process.Args = []string{"true"}
	p, err := c.Exec(hop.With(t.Context(), &tr), container.ExecOptions{Process: &process})
	if err != nil {
		t.Fatal(err)
	}
	defer p.PidFD.Close()
	program.Reap(p.PidFD)
	hops, _ := tr.Hops()
	nested(t, hops, find(t, hops, "become the command"), 5)
}

func find(t *testing.T, hops []hop.Hop, name string) int {
	t.Helper()
	i := slices.IndexFunc(hops, func(h hop.Hop) bool { return h.Name == name })
	if i < 0 {
		t.Fatalf("no hop %q in %d", name, len(hops))
	}
	return i
}

// nested checks that every hop lies within its parent, and that root has parts.
func nested(t *testing.T, hops []hop.Hop, root, parts int) {
	t.Helper()
	n := 0
	for i, h := range hops {
		if h.Parent >= i {
			t.Fatalf("hop %d comes before its parent %d", i, h.Parent)
		}
		if h.End.Before(h.Start) {
			t.Errorf("%+v ends before it begins", h)
		}
		if h.Parent < 0 {
			continue
		}
		if p := hops[h.Parent]; h.Start.Before(p.Start) || h.End.After(p.End) {
			t.Errorf("%q %v–%v is not within %q %v–%v", h.Name, h.Start, h.End, p.Name, p.Start, p.End)
		}
		if h.Parent == root {
			n++
		}
	}
	if n < parts {
		t.Errorf("%q has %d parts, want %d at least", hops[root].Name, n, parts)
	}
}

// TestHopsOfAContainerThatNeverStarts lets go of what was kept for its start.
func TestHopsOfAContainerThatNeverStarts(t *testing.T) {
	b := newBed(t)
	var tr hop.Trace
	c, err := container.Create(hop.With(t.Context(), &tr), container.CreateOptions{
		ID: "unstarted", Bundle: b.bundle, Root: b.root, Spec: b.spec("true"),
	})
	if err != nil {
		t.Fatal(err)
	}
	pidfd, err := unix.Dup(int(c.PidFD().Fd()))
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(pidfd)
	if err := c.Delete(t.Context(), true); err != nil {
		t.Fatal(err)
	}
	if err := unix.Waitid(unix.P_PIDFD, pidfd, nil, unix.WEXITED, nil); err != nil && err != unix.ECHILD {
		t.Error(err)
	}
}
