package container_test

import (
	"context"
	"io"
	"os"
	"testing"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"

	"gantry/runtime/cgroup"
	"gantry/runtime/container"
)

// TestExecBesideInit execs into a container that handed its cgroup's controllers
// down, as nested engines do: the kernel lets no process into that cgroup.
func TestExecBesideInit(t *testing.T) {
	if cgroup.Mode() != cgroup.V2 {
		t.Skip("needs cgroup v2 alone: only there controllers are handed down")
	}
	b := newBed(t)
	spec := b.spec("sh", "-c", "cd /sys/fs/cgroup && mkdir inner && echo 0 > inner/cgroup.procs && echo +pids > cgroup.subtree_control && echo ready; exec sleep 100")
	for i, m := range spec.Mounts {
		if m.Type == "cgroup" {
			spec.Mounts[i].Options = []string{"rw"}
		}
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	c, err := b.create(spec, func(o *container.CreateOptions) { o.Stdout, o.Stderr = w, w })
	w.Close()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(context.Background()); err != nil {
		t.Fatal(err)
	}
	line := make([]byte, 100)
	r.SetReadDeadline(time.Now().Add(20 * time.Second))
	if n, err := r.Read(line); string(line[:n]) != "ready\n" {
		t.Fatalf("%q, %v", line[:n], err)
	}
	out, in, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	p, err := c.Exec(context.Background(), container.ExecOptions{Stdout: in, Process: &specs.Process{
		Args: []string{"cat", "/proc/self/cgroup"}, Cwd: "/", Env: []string{"PATH=/bin"}}})
	in.Close()
	if err != nil {
		t.Fatal(err)
	}
	if got, _ := io.ReadAll(out); string(got) != "0::/inner\n" {
		t.Errorf("exec is in %q", got)
	}
	b.wait(p.PidFD)
}
