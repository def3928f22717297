package report

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"strings"
	"testing"

	"bench/internal/stats"
)

var update = flag.Bool("update", false, "rewrite the golden file")

// sample is a run with a met aim, a missed one, one not judged for want of a peer's
// figure, growth, counts, a failure and a metric that only one engine has.
func sample(t *testing.T) Document {
	t.Helper()
	b := stats.NewBook("docker", "gantry")
	add := func(test, metric, unit string, peer, ours float64) {
		for i := range 4 {
			b.Add(stats.Key{Test: test, Metric: metric, Unit: unit}, "docker", peer+float64(i))
			b.Add(stats.Key{Test: test, Metric: metric, Unit: unit}, "gantry", ours+float64(i)/8)
		}
	}
	add("run_none", "total", "ms", 200, 20)
	add("exec", "total", "ms", 45, 15)
	add("inspect", "request", "ms", 0.8, 0.4)
	add("flat_stopped", "total", "ms", 300, 30)
	add("flat_stopped", "inspect", "ms", 0.8, 0.41)
	add("counts_none", "execs", "", 12, 2)
	b.Add(stats.Key{Test: "mem_none", Metric: "pss_per_container", Unit: "KiB"}, "gantry", 1400)
	b.Errorf("port: docker: setup: no such thing")
	r := b.Report(map[string]any{
		"cpus": 2, "load_before": "0.1", "load_after": "1.0", "uname": "Linux version 6.18",
		"options":        map[string]any{"FlatStopped": 500, "FlatRunning": 100},
		"version_docker": map[string]any{"Version": "20.10.24"}, "version_gantry": map[string]any{"Version": "0.1.0"},
	}, true)
	rb := stats.NewBook("runc", "crun", "grun")
	for name, v := range map[string]float64{"runc": 40, "crun": 18, "grun": 8} {
		for i := range 4 {
			rb.Add(stats.Key{Test: "run", Metric: "true", Unit: "ms"}, name, v+float64(i)/4)
		}
	}
	rr := rb.Report(nil, true)
	cb := stats.NewBook("containerd", "gantry")
	core := func(test, metric, unit string, peer, ours float64) {
		cb.Add(stats.Key{Test: test, Metric: metric, Unit: unit}, "containerd", peer)
		cb.Add(stats.Key{Test: test, Metric: metric, Unit: unit}, "gantry", ours)
	}
	core("core_task", "task", "ms", 60, 15)
	core("core_counts", "syncs", "", 20, 15)
	core("core_unpack", "speedup", "x", 1.01, 1.4)
	cr := cb.Report(map[string]any{"cpus": 2}, true)
	d := Document{Name: "sample", Date: "2026-01-02", Commit: "abc", Command: "make bench", Engine: &r, Runtime: &rr, Core: &cr,
		Floor: []Step{{Name: "  + all", N: 50, Min: 1, Median: 2.5, P95: 3, Max: 4}}}
	raw, err := json.Marshal(d) // as a reader of the document has it
	if err != nil {
		t.Fatal(err)
	}
	var back Document
	if err := json.Unmarshal(raw, &back); err != nil {
		t.Fatal(err)
	}
	return back
}

func TestMarkdown(t *testing.T) {
	var got bytes.Buffer
	if err := sample(t).Markdown(&got, "results/sample.json"); err != nil {
		t.Fatal(err)
	}
	const golden = "testdata/sample.md"
	if *update {
		if err := os.WriteFile(golden, got.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got.Bytes(), want) {
		t.Errorf("differs from %s (-update rewrites it):\n%s", golden, got.String())
	}
}

func TestAim(t *testing.T) {
	for _, c := range []struct {
		aim  Aim
		v    float64
		met  bool
		text string
	}{
		{atMost("t", "m", "", 8), 0.125, true, "≤ 1/8"},
		{atMost("t", "m", "", 8), 0.126, false, "≤ 1/8"},
		{atLeast("t", "m", "", 1.5), 1.5, true, "≥ 1.5x"},
		{atLeast("t", "m", "", 1.5), 1.49, false, "≥ 1.5x"},
	} {
		if got := c.aim.Met(c.v); got != c.met || c.aim.String() != c.text {
			t.Errorf("%v of %v: %v", c.aim, c.v, got)
		}
	}
}

func TestParseFloor(t *testing.T) {
	in := "cgroup hierarchies: 9\n" +
		"  + NEWPID                         n=50   min   0.400  median   0.500  p95   0.700  max   1.000 ms\n" +
		"veth: delete                       failed: Operation not permitted\n"
	got, err := ParseFloor(strings.NewReader(in))
	if err != nil {
		t.Fatal(err)
	}
	want := Step{Name: "  + NEWPID", N: 50, Min: 0.4, Median: 0.5, P95: 0.7, Max: 1}
	if len(got) != 1 || got[0] != want {
		t.Errorf("got %+v", got)
	}
	if _, err := ParseFloor(strings.NewReader("x n=many\n")); err == nil {
		t.Error("no error for a line that is cut short")
	}
}
