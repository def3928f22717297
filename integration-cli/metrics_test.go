package integrationcli

import (
	"bytes"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"
)

// scrape reads /metrics: values by their names with labels.
func scrape(t *testing.T, addr string) map[string]float64 {
	t.Helper()
	resp, err := http.Get("http://" + addr + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("%s %v", resp.Status, err)
	}
	out := map[string]float64{}
	for line := range bytes.Lines(raw) {
		i := bytes.LastIndexByte(line, ' ')
		if line[0] == '#' || i < 0 {
			continue
		}
		v, err := strconv.ParseFloat(strings.TrimSpace(string(line[i:])), 64)
		if err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		out[string(line[:i])] = v
	}
	return out
}

func TestMetrics(t *testing.T) {
	addr := freePort(t)
	e := start(t, "--metrics-addr", addr)
	const actions, states = "engine_daemon_container_actions_seconds_count", "engine_daemon_container_states_containers"
	before := scrape(t, addr)
	for _, action := range []string{"changes", "commit", "create", "delete", "start"} {
		if before[actions+`{action="`+action+`"}`] != 1 { // an observation of nothing, as with dockerd
			t.Errorf("%s begins with %v", action, before[actions+`{action="`+action+`"}`])
		}
	}
	e.Must("run", "-d", "--name", "up", image, "sleep", "1000")
	e.Must("run", "-d", "--name", "held", image, "sleep", "1000")
	e.Must("pause", "held")
	e.Must("create", "--name", "new", image)
	e.Must("create", "--name", "gone", image)
	e.Must("rm", "gone")
	e.Docker("start", "nobody")
	e.Must("info")
	after := scrape(t, addr)
	for name, want := range map[string]float64{
		actions + `{action="create"}`:                                             1 + 4,
		actions + `{action="start"}`:                                              1 + 2, // one that fails is not counted
		actions + `{action="delete"}`:                                             1 + 1,
		states + `{state="running"}`:                                              1,
		states + `{state="paused"}`:                                               1,
		states + `{state="stopped"}`:                                              1,
		`engine_daemon_network_actions_seconds_count{action="allocate"}`:          2,
		`engine_daemon_host_info_functions_seconds_count{function="system_info"}`: 1,
		"engine_daemon_health_checks_total":                                       0,
		"engine_daemon_health_checks_failed_total":                                0,
		"engine_daemon_events_subscribers_total":                                  0,
	} {
		if after[name] != want {
			t.Errorf("%s is %v, want %v", name, after[name], want)
		}
	}
	if got := after["engine_daemon_events_total"] - before["engine_daemon_events_total"]; got < 8 {
		t.Errorf("%v events counted", got)
	}
	if after["engine_daemon_engine_cpus_cpus"] < 1 || after["engine_daemon_engine_memory_bytes"] < 1<<20 {
		t.Errorf("the host is %v CPUs, %v bytes", after["engine_daemon_engine_cpus_cpus"], after["engine_daemon_engine_memory_bytes"])
	}
	id, told := e.Must("info", "-f", "{{.ID}}"), false
	for name, v := range after {
		told = told || strings.HasPrefix(name, "engine_daemon_engine_info{") && strings.Contains(name, `daemon_id="`+id+`"`) && v == 1
	}
	if !told || after["go_goroutines"] == 0 || after["process_open_fds"] == 0 {
		t.Error("the engine's info, Go's or the process's metrics are missing")
	}
	e.Must("run", "-d", "--name", "sick", "--health-cmd", "exit 1", "--health-interval", "100ms", "--health-retries", "1", image, "sleep", "1000")
	eventually(t, "failed checks are counted", func() bool {
		m := scrape(t, addr)
		return m["engine_daemon_health_checks_failed_total"] >= 2 && m["engine_daemon_health_checks_total"] >= m["engine_daemon_health_checks_failed_total"]
	})
}
