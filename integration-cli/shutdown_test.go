package integrationcli

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"gantry/internal/testutil/leak"
)

// TestWithoutLiveRestore tells a daemon to end that takes its containers along: each
// gets its own signal and time, all at once, and policies are for the next daemon.
func TestWithoutLiveRestore(t *testing.T) {
	t.Parallel()
	e := start(t, "--live-restore=false", "--shutdown-timeout", "1")
	const deaf = "trap '' TERM; echo up; while :; do usleep 50000; done"
	for _, c := range []struct {
		name, script string
		flags        []string
	}{
		{"signal", "trap 'exit 6' USR1; trap 'exit 1' TERM; echo up; while :; do usleep 50000; done", []string{"--stop-signal", "USR1"}},
		{"deaf", deaf, []string{"--stop-timeout", "1"}},
		{"deafer", deaf, []string{"--stop-timeout", "3"}},
		{"slow", "trap 'sleep 2; exit 4' TERM; echo up; while :; do usleep 50000; done", []string{"--stop-timeout", "20"}},
		{"frozen", "trap 'exit 8' TERM; echo up; while :; do usleep 50000; done", nil},
		{"always", "echo up; sleep 1000", []string{"--restart", "always", "--stop-timeout", "0"}},
		{"unless", "echo up; sleep 1000", []string{"--restart", "unless-stopped", "--stop-timeout", "0"}},
		{"failing", "trap 'exit 7' TERM; echo up; while :; do usleep 50000; done", []string{"--restart", "on-failure"}},
		{"left", "echo up; sleep 1000", []string{"--restart", "unless-stopped"}},
		{"vanishes", "echo up; sleep 1000", []string{"--rm", "--stop-timeout", "0"}},
	} {
		e.Must(append(append([]string{"run", "-d", "--network", "none", "--name", c.name}, c.flags...), image, "sh", "-c", c.script)...)
		eventually(t, c.name+" is up", func() bool { return e.Docker("logs", c.name).Stdout == "up\n" })
	}
	e.Must("stop", "-t", "0", "left")
	e.Must("pause", "frozen")
	var pids []int
	for _, id := range ids(t, e) {
		if pid := inspect(t, e, id).State.Pid; pid > 0 {
			pids = append(pids, pid)
		}
	}
	began := time.Now()
	e.Terminate()
	if took := time.Since(began); took > 15*time.Second || took < 3*time.Second {
		t.Errorf("took %v; the most patient has three seconds, and nobody waits for another", took)
	}
	for _, pid := range pids {
		if syscall.Kill(pid, 0) == nil {
			t.Errorf("process %d of a container still runs", pid)
		}
	}
	e.Launch()
	for name, code := range map[string]int{"signal": 6, "deaf": 137, "deafer": 137, "slow": 4, "left": 137, "frozen": 8} {
		if in := inspect(t, e, name); in.State.Status != "exited" || in.State.ExitCode != code {
			t.Errorf("%s: %+v", name, in.State)
		}
	}
	for _, name := range []string{"always", "unless", "failing"} {
		eventually(t, "the policy has started "+name, func() bool { return status(e, name) == "running" })
	}
	eventually(t, "what removes itself has gone", func() bool { return e.Docker("inspect", "vanishes").Code != 0 })
}

// TestShimKilled kills shims: their containers end at once, with all their processes and
// everything else they had, and their policies hold.
func TestShimKilled(t *testing.T) {
	e := start(t)
	const tree = "setsid sleep 71717 & (sleep 71717 & sleep 71717) & trap '' TERM HUP; sleep 71717; sleep 71717"
	e.Must("run", "-d", "--name", "tree", "-p", "80", "--stop-signal", "KILL", image, "sh", "-c", tree)
	e.Must("run", "-d", "--name", "always", "--restart", "always", image, "sleep", "1000")
	e.Must("run", "-d", "--name", "frozen", "--network", "none", image, "sleep", "71717")
	e.Must("exec", "-d", "tree", "sleep", "71717")
	e.Must("pause", "frozen")
	p := port(t, e, "tree", "80/tcp")
	key := inspect(t, e, "tree").NetworkSettings.SandboxKey
	bound := time.Duration(scale(2, 6)) * time.Second // the machine may be busy
	for _, name := range []string{"tree", "always", "frozen"} {
		pid := inspect(t, e, name).State.Pid
		began := time.Now()
		if err := syscall.Kill(shimOf(t, e, name), syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		eventually(t, name+" has ended", func() bool { return inspect(t, e, name).State.Pid != pid })
		if took := time.Since(began); took > bound {
			t.Errorf("%s is reported after %v", name, took)
		}
	}
	for _, name := range []string{"tree", "frozen"} {
		if in := inspect(t, e, name); in.State.Status != "exited" || in.State.ExitCode != 137 || in.State.OOMKilled {
			t.Errorf("%s: %+v", name, in.State)
		}
	}
	eventually(t, "the policy has started its own", func() bool { return status(e, "always") == "running" })
	eventually(t, "no process is left", func() bool { return !anyCommand("sleep\x0071717") })
	if err := shut(p); err != nil {
		t.Errorf("the port: %v", err)
	}
	if _, err := os.Stat(key); key == "" || err == nil {
		t.Errorf("the network namespace %q is still there", key)
	}
	e.Must("rm", "-f", "always")
	eventually(t, "no cgroup is left", func() bool { // but for the one that all share
		found, _ := filepath.Glob("/sys/fs/cgroup/*/" + leak.Instance(e.Dir) + "/*/cgroup.procs")
		return len(found) == 0
	})
	e.Must("start", "tree")
	e.Must("exec", "tree", "true")
}

// anyCommand looks for a process whose command line begins so.
func anyCommand(line string) bool {
	all, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, p := range all {
		if raw, _ := os.ReadFile(p); strings.HasPrefix(string(raw), line) {
			return true
		}
	}
	return false
}
