package integrationcli

import (
	"strings"
	"testing"
)

// TestKilledForMemory: a container is OOMKilled when one of its processes was killed for
// lack of memory, whatever came of the others, and not when a user killed it.
func TestKilledForMemory(t *testing.T) {
	t.Parallel()
	e := start(t)
	limit := []string{"-d", "-m", "16m", "--memory-swap", "16m"}
	begin := func(name string, more []string, script string) {
		t.Helper()
		e.Must(append(append(append([]string{"run", "--name", name}, limit...), more...), image, "sh", "-c", script)...)
	}
	killed := func(name string) bool { return inspect(t, e, name).State.OOMKilled }
	told := func(name string) int { return strings.Count(actions(t, e, name), "oom") }

	begin("init", nil, "exec tail /dev/zero")
	begin("tini", []string{"--init"}, "exec tail /dev/zero")
	begin("child", nil, "tail /dev/zero; exec sleep 1000")
	begin("ended", nil, "tail /dev/zero; exit 0")
	begin("exec", nil, "exec sleep 1000")
	begin("user", nil, "exec sleep 1000")
	if r := e.Docker("exec", "exec", "sh", "-c", "exec tail /dev/zero"); r.Code != 137 {
		t.Errorf("exec: exit %d", r.Code)
	}
	e.Must("kill", "user")
	for name, code := range map[string]string{"init": "137", "tini": "137", "ended": "0", "user": "137"} {
		if got := e.Must("wait", name); got != code {
			t.Errorf("%s: exit %s, want %s", name, got, code)
		}
	}
	for _, name := range []string{"init", "tini", "ended"} { // known with the exit
		if !killed(name) {
			t.Errorf("%s is not OOMKilled", name)
		}
	}
	for _, name := range []string{"child", "exec"} {
		eventually(t, name+" is OOMKilled while it runs", func() bool { return killed(name) })
		if in := inspect(t, e, name); !in.State.Running {
			t.Errorf("%s: %+v", name, in.State)
		}
	}
	if killed("user") || told("user") != 0 {
		t.Error("killed by a user, and OOMKilled")
	}
	for _, name := range []string{"init", "tini", "child", "ended", "exec"} {
		if n := told(name); n != 1 {
			t.Errorf("%s: %d events of it: %s", name, n, actions(t, e, name))
		}
	}
	e.Must("restart", "-t", "0", "exec")
	if killed("exec") {
		t.Error("a new run, and OOMKilled")
	}
}
