package integrationcli

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	containertypes "github.com/docker/docker/api/types/container"

	"gantry/internal/testutil/engine"
	"gantry/internal/testutil/leak"
	"gantry/internal/testutil/need"
)

// healthOf is a container's state of health, the zero one when it has none.
func healthOf(t *testing.T, e *engine.Engine, ref string) (h containertypes.Health) {
	t.Helper()
	if err := json.Unmarshal([]byte(e.Must("inspect", "-f", "{{json .State.Health}}", ref)), &h); err != nil {
		t.Fatal(err)
	}
	return h
}

// healthWithin waits until a container's health is as wanted.
func healthWithin(t *testing.T, e *engine.Engine, ref, what string, good func(containertypes.Health) bool) containertypes.Health {
	t.Helper()
	var h containertypes.Health
	for range 300 {
		if h = healthOf(t, e, ref); good(h) {
			return h
		}
		time.Sleep(100 * time.Millisecond)
	}
	t.Fatalf("%s is not %s: %+v", ref, what, h)
	return h
}

func is(status containertypes.HealthStatus) func(containertypes.Health) bool {
	return func(h containertypes.Health) bool { return h.Status == status }
}

// checked runs a container that sleeps, with a check each 200 ms.
func checked(e *engine.Engine, name, check string, flags ...string) {
	args := append([]string{"run", "-d", "--name", name, "--network", "none", "--health-interval", "200ms", "--health-cmd", check}, flags...)
	e.Must(append(args, image, "sleep", "1000")...)
}

func TestHealthCheck(t *testing.T) {
	t.Parallel()
	e := start(t)
	since := fmt.Sprint(time.Now().Unix() - 1)
	checked(e, "web", "echo looked; test -e /ok", "--health-retries", "2", "--health-start-period", "1s", "--health-start-interval", "200ms")
	h := healthOf(t, e, "web")
	if h.Status != containertypes.Starting || h.FailingStreak != 0 {
		t.Errorf("at first: %+v", h)
	}
	compare(t, "ps", e.Must("ps", "--format", "{{.Status}}"), "…(health: starting)")
	h = healthWithin(t, e, "web", "unhealthy", is(containertypes.Unhealthy))
	if h.FailingStreak < 2 || len(h.Log) == 0 || h.Log[0].ExitCode != 1 || h.Log[0].Output != "looked\n" {
		t.Errorf("unhealthy: %+v", h)
	}
	first := h.Log[0]
	if s := time.Duration(first.End.Sub(first.Start)); s <= 0 || s > time.Minute {
		t.Errorf("a check took %v", s)
	}
	e.Must("exec", "web", "touch", "/ok")
	h = healthWithin(t, e, "web", "healthy", is(containertypes.Healthy))
	if h.FailingStreak != 0 {
		t.Errorf("healthy: %+v", h)
	}
	compare(t, "ps", e.Must("ps", "--format", "{{.Status}}"), "…(healthy)")
	for status, names := range map[string]string{"healthy": "web", "unhealthy": "-", "starting": "-", "none": "-"} {
		compare(t, "filter "+status, e.Must("ps", "-a", "--filter", "health="+status, "--format", "{{.Names}}"), names)
	}
	h = healthWithin(t, e, "web", "looked at again and again", func(h containertypes.Health) bool { return len(h.Log) == 5 })
	time.Sleep(time.Second)
	if h = healthOf(t, e, "web"); len(h.Log) != 5 {
		t.Errorf("%d results are kept", len(h.Log))
	}
	e.Must("stop", "-t", "0", "web")
	if h = healthOf(t, e, "web"); h.Status != containertypes.Unhealthy || len(h.Log) != 5 {
		t.Errorf("stopped: %+v", h)
	}
	compare(t, "ps", e.Must("ps", "-a", "--format", "{{.Status}}"), "Exited (137) …")
	checkEvents(t, e, since)
	e.Must("start", "web")
	healthWithin(t, e, "web", "healthy again", is(containertypes.Healthy))
}

// checkEvents: each check is told as an exec, a change of health once.
func checkEvents(t *testing.T, e *engine.Engine, since string) {
	t.Helper()
	raw := e.Must("events", "--since", since, "--until", fmt.Sprint(time.Now().Unix()+1), "--filter", "container=web",
		"--format", `{{.Action}}|{{index .Actor.Attributes "exitCode"}}|{{index .Actor.Attributes "execID"}}`)
	byExec := map[string][]string{}
	var states []string
	for line := range strings.SplitSeq(strings.TrimSpace(raw), "\n") {
		f := strings.Split(line, "|")
		if id := f[2]; id != "" {
			byExec[id] = append(byExec[id], strings.TrimSuffix(f[0]+" "+f[1], " "))
		}
		if strings.HasPrefix(f[0], "health_status") {
			states = append(states, f[0])
		}
	}
	if got := strings.Join(states, ", "); got != "health_status: unhealthy, health_status: healthy" {
		t.Errorf("states told: %s", got)
	}
	const command = ": /bin/sh -c echo looked; test -e /ok"
	told := map[string]int{}
	for _, story := range byExec {
		told[strings.Join(story, ", ")]++
	}
	for _, code := range []string{"0", "1"} {
		if story := "exec_create" + command + ", exec_start" + command + ", exec_die " + code; told[story] == 0 {
			t.Errorf("nowhere %q in %v", story, told)
		}
	}
}

// TestHealthCheckKinds: where a check comes from, and what it is run as.
func TestHealthCheckKinds(t *testing.T) {
	t.Parallel()
	e := start(t)
	e.Must("run", "--name", "base", image, "true")
	e.Must("commit", "--change", `HEALTHCHECK --interval=200ms --timeout=5s --retries=7 CMD echo of the image`, "base", "checked")
	config := func(ref string) string {
		return e.Must("inspect", "-f", "{{.Config.Healthcheck.Test}} {{.Config.Healthcheck.Interval}} {{.Config.Healthcheck.Timeout}} {{.Config.Healthcheck.Retries}}", ref)
	}
	for _, row := range []struct {
		name   string
		flags  []string
		config string
		out    string // of the first check; "" is no check
	}{
		{"inherited", nil, "[CMD-SHELL echo of the image] 200ms 5s 7", "of the image\n"},
		{"partly", []string{"--health-retries", "2"}, "[CMD-SHELL echo of the image] 200ms 5s 2", "of the image\n"},
		{"own", []string{"--health-cmd", "echo own"}, "[CMD-SHELL echo own] 200ms 5s 7", "own\n"},
		{"none", []string{"--no-healthcheck"}, "[NONE] 200ms 5s 7", ""},
		{"as the container", []string{"--user", "tester", "--env", "A=b", "-w", "/tmp", "--hostname", "box", "--health-cmd", "id -un; pwd; echo $A $HOME; hostname; echo 2 >&2"},
			"[CMD-SHELL id -un; pwd; echo $A $HOME; hostname; echo 2 >&2] 200ms 5s 7", "tester\n/tmp\nb /home/tester\nbox\n2\n"},
		{"cut", []string{"--health-cmd", "head -c 5000 /dev/zero | tr '\\0' x"}, "", strings.Repeat("x", 4096) + "..."},
	} {
		t.Run(row.name, func(t *testing.T) {
			e.Must(append(append([]string{"run", "-d", "--name", "c1", "--network", "none"}, row.flags...), "checked", "sleep", "1000")...)
			defer e.Must("rm", "-f", "c1")
			compare(t, "config", config("c1"), row.config)
			if row.out == "" {
				if raw := e.Must("inspect", "-f", "{{json .State.Health}}", "c1"); strings.TrimSpace(raw) != "null" {
					t.Errorf("health %s", raw)
				}
				compare(t, "filter", e.Must("ps", "--filter", "health=none", "--format", "{{.Names}}"), "c1")
				return
			}
			h := healthWithin(t, e, "c1", "healthy", is(containertypes.Healthy))
			if h.Log[0].Output != row.out {
				t.Errorf("the check says %q", h.Log[0].Output)
			}
		})
	}
	t.Run("command and shell", func(t *testing.T) {
		for name, c := range map[string]object{
			"exec":  {"Healthcheck": object{"Test": []string{"CMD", "echo", "$HOME"}, "Interval": 2e8}},
			"shell": {"Healthcheck": object{"Test": []string{"CMD-SHELL", "$HOME"}, "Interval": 2e8}, "Shell": []string{"echo"}},
		} {
			c["Image"], c["Cmd"], c["HostConfig"] = image, []string{"sleep", "1000"}, object{"NetworkMode": "none"}
			if _, err := want(e, 201, "POST", "/containers/create?name="+name, c); err != nil {
				t.Fatal(err)
			}
			e.Must("start", name)
			if h := healthWithin(t, e, name, "healthy", is(containertypes.Healthy)); h.Log[0].Output != "$HOME\n" {
				t.Errorf("%s: %q", name, h.Log[0].Output)
			}
		}
	})
	t.Run("no such program", func(t *testing.T) {
		c := object{"Image": image, "Cmd": []string{"sleep", "1000"}, "Healthcheck": object{"Test": []string{"CMD", "nowhere"}, "Interval": 2e8, "Retries": 1}}
		if _, err := want(e, 201, "POST", "/containers/create?name=lost", c); err != nil {
			t.Fatal(err)
		}
		e.Must("start", "lost")
		h := healthWithin(t, e, "lost", "unhealthy", is(containertypes.Unhealthy))
		if r := h.Log[0]; r.ExitCode != -1 || !strings.HasPrefix(r.Output, `OCI runtime exec failed: exec failed: unable to start container process: exec: "nowhere": executable file not found in $PATH`) {
			t.Errorf("%+v", r)
		}
	})
}

// TestHealthCheckRefused: dockerd's words.
func TestHealthCheckRefused(t *testing.T) {
	t.Parallel()
	e := start(t)
	for text, h := range map[string]object{
		"Interval in Healthcheck cannot be less than 1ms":      {"Interval": 1},
		"Timeout in Healthcheck cannot be less than 1ms":       {"Timeout": 999_999},
		"StartPeriod in Healthcheck cannot be less than 1ms":   {"StartPeriod": -1},
		"StartInterval in Healthcheck cannot be less than 1ms": {"StartInterval": 5},
		"Retries in Healthcheck cannot be negative":            {"Retries": -1},
	} {
		h["Test"] = []string{"CMD", "true"}
		got, err := want(e, 400, "POST", "/containers/create", object{"Image": image, "Cmd": []string{"true"}, "Healthcheck": h})
		if err != nil || field(got, "message") != text {
			t.Errorf("%v: %s, %v", h, got, err)
		}
	}
}

// initOf is the pid of a container's first process.
func initOf(e *engine.Engine, ref string) string {
	return strings.TrimSpace(e.Must("inspect", "-f", "{{.State.Pid}}", ref))
}

// besides are the commands that run in a container's pid namespace beside its init.
func besides(t *testing.T, init string) (list []string) {
	t.Helper()
	ns, err := os.Readlink(filepath.Join("/proc", init, "ns/pid"))
	if err != nil {
		t.Fatal(err)
	}
	all, _ := filepath.Glob("/proc/[0-9]*")
	for _, dir := range all {
		if own, _ := os.Readlink(dir + "/ns/pid"); own != ns || filepath.Base(dir) == init {
			continue
		}
		if cmd, _ := os.ReadFile(dir + "/cmdline"); len(cmd) > 0 {
			list = append(list, strings.ReplaceAll(strings.TrimRight(string(cmd), "\x00"), "\x00", " "))
		}
	}
	return list
}

// alone waits until nothing runs in a container but its init.
func alone(t *testing.T, init string) {
	t.Helper()
	var left []string
	for range 100 {
		if left = besides(t, init); len(left) == 0 {
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
	t.Errorf("beside the init are left: %v", left)
}

// forks begins processes by every way to get away from one's parent, and stays.
const forks = "sleep 12345 & setsid sleep 12345 & (setsid sh -c 'sleep 12345 & sleep 12345' &) ; echo forked; sleep 12345"

// TestHealthCheckTimeout: a check whose time is over ends with all that it has begun.
func TestHealthCheckTimeout(t *testing.T) {
	t.Parallel()
	e := start(t)
	checked(e, "slow", forks, "--health-timeout", "500ms", "--health-interval", "1h",
		"--health-start-period", "1h", "--health-start-interval", "2s")
	h := healthWithin(t, e, "slow", "checked", func(h containertypes.Health) bool { return len(h.Log) > 0 })
	if r := h.Log[0]; r.ExitCode != -1 || r.Output != "Health check exceeded timeout (500ms): forked\n" {
		t.Errorf("%+v", r)
	}
	alone(t, initOf(e, "slow"))
}

// TestHealthCheckPause: nothing is checked in a paused container.
func TestHealthCheckPause(t *testing.T) {
	t.Parallel()
	e := start(t)
	checked(e, "web", "true")
	healthWithin(t, e, "web", "healthy", is(containertypes.Healthy))
	e.Must("pause", "web")
	before := healthOf(t, e, "web")
	if before.Status != containertypes.Unhealthy { // dockerd's word for it
		t.Errorf("paused: %+v", before)
	}
	compare(t, "ps", e.Must("ps", "--format", "{{.Status}}"), "…(Paused)")
	time.Sleep(time.Second)
	last := func(h containertypes.Health) time.Time { return h.Log[len(h.Log)-1].Start }
	if h := healthOf(t, e, "web"); !last(h).Equal(last(before)) {
		t.Errorf("checked while paused: %+v", h)
	}
	e.Must("unpause", "web")
	healthWithin(t, e, "web", "healthy", is(containertypes.Healthy))
}

// TestHealthCheckEnds: a check under way ends with a pause, with the engine and with the
// container, and with it all that it has begun.
func TestHealthCheckEnds(t *testing.T) {
	t.Parallel()
	e := start(t)
	checked(e, "web", "[ -e /ok ] || { "+forks+"; }", "--health-timeout", "1h")
	init := initOf(e, "web")
	underWay := func() {
		t.Helper()
		for range 200 {
			if slices.Contains(besides(t, init), "sleep 12345") {
				return
			}
			time.Sleep(50 * time.Millisecond)
		}
		t.Fatal("no check is under way")
	}
	underWay()
	e.Kill()
	alone(t, init)
	e.Launch()
	if h := healthOf(t, e, "web"); h.Status != containertypes.Starting {
		t.Errorf("after the engine's death: %+v", h)
	}
	underWay()
	e.Must("pause", "web")
	e.Must("unpause", "web")
	underWay()
	e.Must("exec", "web", "touch", "/ok")
	e.Must("restart", "-t", "0", "web")
	init = initOf(e, "web")
	healthWithin(t, e, "web", "healthy", is(containertypes.Healthy))
	e.Kill()
	e.Launch()
	healthWithin(t, e, "web", "healthy", is(containertypes.Healthy))
	alone(t, init)
}

// TestHealthCheckRuntimes: checks where the shim is another's, which gives no output, and
// where the runtime is.
func TestHealthCheckRuntimes(t *testing.T) {
	t.Parallel()
	need.Command(t, "containerd-shim-runc-v2")
	runc := need.Command(t, "runc")
	config := filepath.Join(t.TempDir(), "daemon.json")
	text := `{"runtimes":{"` + leak.ForeignRuntime + `":{"runtimeType":"io.containerd.runc.v2"},"real":{"path":"` + runc + `"}}}`
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	e := start(t, "--config-file", config)
	for runtime, out := range map[string]string{leak.ForeignRuntime: "", "real": "looked\n"} {
		checked(e, runtime, "echo looked; [ ! -e /stop ] || sleep 12345", "--runtime", runtime, "--health-timeout", "1s", "--health-retries", "1")
		h := healthWithin(t, e, runtime, "healthy", is(containertypes.Healthy))
		if h.Log[0].Output != out {
			t.Errorf("%s: the check says %q", runtime, h.Log[0].Output)
		}
		e.Must("exec", runtime, "touch", "/stop")
		h = healthWithin(t, e, runtime, "unhealthy", is(containertypes.Unhealthy))
		last := h.Log[len(h.Log)-1]
		if last.ExitCode != -1 || !strings.HasPrefix(last.Output, "Health check exceeded timeout (1s)") {
			t.Errorf("%s: %+v", runtime, last)
		}
		e.Must("exec", runtime, "rm", "/stop")
		healthWithin(t, e, runtime, "healthy again", is(containertypes.Healthy))
		alone(t, initOf(e, runtime))
	}
}
