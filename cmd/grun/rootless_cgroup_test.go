package main

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"

	"gantry/runtime/cgroup"
)

const cgroups = "/sys/fs/cgroup"

// delegate gives the user a part of cgroup v2, as systemd does for a session, and
// returns it with the cgroup in it that his shell is in.
func (u *plainUser) delegate() (top, shell string) {
	t := u.t
	t.Helper()
	top = filepath.Join(cgroups, "grun-delegated")
	shell = filepath.Join(top, "shell")
	t.Cleanup(func() {
		u.as("delete", "-f", u.n)
		u.cgroup = ""
		if err := errors.Join(os.Remove(shell), os.Remove(top)); err != nil {
			t.Error(err)
		}
	})
	must(t, os.MkdirAll(shell, 0o755))
	for _, dir := range []string{cgroups, top} {
		must(t, os.WriteFile(filepath.Join(dir, "cgroup.subtree_control"), []byte("+memory +pids"), 0))
	}
	for _, dir := range []string{top, shell} {
		for _, name := range []string{"", "cgroup.procs", "cgroup.threads", "cgroup.subtree_control"} {
			must(t, os.Chown(filepath.Join(dir, name), userID, userID))
		}
	}
	return top, shell
}

func limited(s *specs.Spec) {
	limit, pids := int64(64<<20), int64(20)
	s.Linux.Resources = &specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: &limit}, Pids: &specs.LinuxPids{Limit: &pids}}
}

func v2Only(t *testing.T) {
	t.Helper()
	if mode := cgroup.Mode(); mode != cgroup.V2 {
		t.Skipf("needs cgroup v2 alone, where users are delegated a part; here is %s (contrib/vm has it)", mode)
	}
}

// TestRootlessDelegated: in a delegated cgroup all is as with root.
func TestRootlessDelegated(t *testing.T) {
	v2Only(t)
	u := newUser(t, "sleep 1000 & exec sleep 1001", limited)
	top, shell := u.delegate()
	u.cgroup = shell
	own := filepath.Join(top, u.n)
	do := func(args ...string) string {
		t.Helper()
		got := u.as(args...)
		if got.status != 0 || strings.Contains(got.stderr, "warning") {
			t.Errorf("%v: %+v", args, got)
		}
		return got.out
	}
	do("run", "-d", "-b", u.b, u.n)
	holds(t, own, map[string]string{"memory.max": "67108864", "pids.max": "20"})
	do("update", "--pids-limit", "30", u.n)
	holds(t, own, map[string]string{"pids.max": "30"})
	do("pause", u.n)
	holds(t, own, map[string]string{"cgroup.freeze": "1"})
	if got := do("state", u.n); !strings.Contains(got, `"paused"`) {
		t.Error(got)
	}
	do("resume", u.n)
	holds(t, own, map[string]string{"cgroup.freeze": "0"})
	var ev struct {
		Data struct {
			Pids struct{ Current, Limit int }
		}
	}
	if err := json.Unmarshal([]byte(do("events", "--stats", u.n)), &ev); err != nil || ev.Data.Pids.Current != 2 || ev.Data.Pids.Limit != 30 {
		t.Errorf("%+v, %v", ev, err)
	}
	if got := do("exec", u.n, "cat", "/proc/self/cgroup"); got != "0::/\n" {
		t.Errorf("exec in cgroup %q", got)
	}
	do("kill", "--all", u.n, "KILL")
	eventually(t, func() bool { return strings.Contains(u.as("state", u.n).out, "stopped") })
	do("delete", u.n)
	if _, err := os.Stat(own); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("cgroup left: %v", err)
	}
}

func holds(t *testing.T, dir string, want map[string]string) {
	t.Helper()
	for file, value := range want {
		b, err := os.ReadFile(filepath.Join(dir, file))
		if got := strings.TrimSpace(string(b)); err != nil || got != value {
			t.Errorf("%s: %q, %v; want %s", file, got, err, value)
		}
	}
}

// TestRootlessNotDelegated: a cgroup that may not be made, and one that may not be
// moved to, are left out and leave nothing.
func TestRootlessNotDelegated(t *testing.T) {
	v2Only(t)
	for path, want := range map[string]string{
		"/grun-other/x":     "limits left out",
		"/grun-delegated/x": "no process can be moved to cgroup /sys/fs/cgroup/grun-delegated/x",
	} {
		t.Run(filepath.Base(filepath.Dir(path)), func(t *testing.T) {
			u := newUser(t, "echo ran", func(s *specs.Spec) {
				limited(s)
				s.Linux.CgroupsPath = path
			})
			top, _ := u.delegate() // but the user is elsewhere
			got := u.as("run", "-b", u.b, u.n)
			if got.status != 0 || got.out != "ran\n" || !strings.Contains(got.stderr, want) {
				t.Errorf("%+v\nwant %s", got, want)
			}
			if _, err := os.Stat(filepath.Join(top, "x")); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("cgroup left: %v", err)
			}
		})
	}
}
