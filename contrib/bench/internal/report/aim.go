package report

import (
	"fmt"
	"slices"

	"bench/internal/stats"
)

// Aim is what a metric should reach: a bound of the ratio to the peer, or of the value.
type Aim struct {
	Test, Metric string
	What         string  // in words
	Bound        float64 // of the paired ratio to the peer, or of the median when Unit is set
	Words        string  // the bound as people write it
	AtLeast      bool    // the bound is a lower one
	Unit         string  // of an absolute bound
}

// Met says whether v is within the bound.
func (a Aim) Met(v float64) bool {
	if a.AtLeast {
		return v >= a.Bound
	}
	return v <= a.Bound
}

func (a Aim) String() string {
	sign := "≤"
	if a.AtLeast {
		sign = "≥"
	}
	return sign + " " + a.Words
}

func atMost(test, metric, what string, part float64) Aim {
	return Aim{Test: test, Metric: metric, What: what, Bound: 1 / part, Words: fmt.Sprintf("1/%g", part)}
}

func atLeast(test, metric, what string, times float64) Aim {
	return Aim{Test: test, Metric: metric, What: what, Bound: times, Words: fmt.Sprintf("%gx", times), AtLeast: true}
}

// Aims are the project's, in the order of the table.
var Aims = []Aim{
	atMost("run_none", "total", "life cycle, network none", 8),
	atMost("run_none", "cpu", "its CPU time", 8),
	atMost("run_bridge", "total", "life cycle, network bridge", 8),
	atMost("run_bridge", "cpu", "its CPU time", 8),
	atMost("exec", "total", "exec", 5),
	atMost("startstop", "stop", "stop", 4),
	atMost("startstop", "kill", "kill", 4),
	atLeast("parallel_none", "throughput", "8 clients, none", 8),
	atLeast("parallel_bridge", "throughput", "8 clients, bridge", 8),
	atMost("list_stopped", "request", "list of stopped", 5),
	atMost("list_running", "request", "list of running", 5),
	atMost("inspect", "request", "inspect", 1),
	atLeast("rate/_ping_c1", "requests", "_ping, 1 client", 1),
	atLeast("rate/_ping_c16", "requests", "_ping, 16 clients", 1),
	atLeast("rate/version_c1", "requests", "/version, 1 client", 1),
	atLeast("rate/version_c16", "requests", "/version, 16 clients", 1),
	atLeast("attach", "throughput", "attach", 4),
	atLeast("logs", "follow", "logs, followed", 4),
	atLeast("logs", "readback", "logs, read", 4),
	atLeast("image", "load", "load", 1.5),
	atLeast("image", "save", "save", 1.5),
	atLeast("copy", "put", "cp into", 1.5),
	atLeast("copy", "get", "cp out of", 1.5),
	atMost("commit", "commit", "commit of 20 MB", 1),
	atMost("files", "put", "cp into, 10,000 files", 1),
	atMost("files", "get", "cp out of, 10,000 files", 1),
	atMost("files", "export", "export", 1),
	atMost("files", "changes", "diff", 1),
	atMost("files", "commit", "commit of 10,000 files", 1),
	atMost("df", "request", "system df", 1),
	atMost("stats", "watch_cpu", "CPU of 100 streams of stats", 1),
	atMost("health", "watch_cpu", "CPU of 100 health checks a second", 1),
	atMost("health", "cpu_per_probe", "CPU of a health check", 1),
	atLeast("events", "throughput", "events under load", 1),
	atLeast("port", "throughput", "published port", 1),
	atLeast("port", "connections", "its connections", 1),
	atMost("coldstart_0", "first_ping", "first _ping, no containers", 6),
	atMost("coldstart_100", "first_ping", "first _ping, 100 stopped", 6),
	atMost("mem_none", "idle_pss", "idle memory", 3),
	{Test: "mem_none", Metric: "pss_per_container", What: "memory per container, none", Bound: 2. / 3, Words: "2/3"},
	{Test: "mem_bridge", Metric: "pss_per_container", What: "memory per container, bridge", Bound: 2. / 3, Words: "2/3"},
	atMost("mem_none", "cpu_with_containers", "CPU of 20 idle containers", 1),
	{Test: "run_none", Metric: "total", What: "beyond: life cycle, none", Bound: 12, Words: "12 ms", Unit: "ms"},
	{Test: "mem_none", Metric: "pss_per_container", What: "beyond: memory per container", Bound: 1536, Words: "1536 KiB", Unit: "KiB"},
}

// coreAims are of the core beside containerd.
var coreAims = []Aim{
	atMost("core_task", "task", "life cycle of a task, Go client", 3),
	atMost("core_task", "container", "with its container and snapshot", 1),
	atMost("core_task", "cpu", "its CPU time", 3),
	atMost("core_runc_shim", "task", "the task in runc's own shim", 1),
	atMost("core_ctr", "total", "ctr run --rm, a program each", 3),
	atMost("core_ctr", "beyond_version", "beyond what ctr version takes", 3),
	atLeast("core_parallel", "throughput", "8 tasks at a time", 3),
	atMost("core_memory", "idle_pss", "idle memory", 2),
	atMost("core_memory", "tasks_pss", "memory with 100 tasks", 2),
	atMost("core_images", "list", "list of 10,000 images", 1),
	atMost("core_containers", "list", "list of 10,000 containers", 1),
	atMost("core_unpack", "serial", "unpack of 14 layers, 500 MB, one by one", 1),
	atMost("core_unpack", "parallel", "the same, four at a time", 1),
	{Test: "core_unpack", Metric: "speedup", What: "the one over the other", Bound: 1.5, Words: "1.5x", Unit: "x", AtLeast: true},
}

// runtimeAim is an Aim of our command line beside that of one peer.
type runtimeAim struct {
	Aim
	peer string
}

// ourRuntime is its name in a run.
const ourRuntime = "grun"

var runtimeAims = []runtimeAim{
	{atMost("run", "true", "run", 4), "runc"},
	{atMost("run", "true", "run", 2), "crun"},
	{atMost("life", "create", "create", 4), "runc"},
	{atMost("life", "create", "create", 2), "crun"},
	{atMost("life", "exec_true", "exec", 4), "runc"},
	{atMost("life", "delete", "delete", 1), "runc"},
	{atMost("life", "kill", "kill", 1), "runc"},
	{atMost("life", "state", "state", 1), "runc"},
	{atMost("peak_rss", "run_true", "peak memory of run", 1), "runc"},
}

// flat is a metric that should not grow with the number of containers present.
type flat struct {
	what         string
	test, metric string
	alone        [2]string // test and metric without the containers
}

// FlatBound is how much a metric may grow by containers that it does not concern.
const FlatBound = 1.25

var flats = []flat{
	{"life cycle beside stopped", "flat_stopped", "total", [2]string{"run_none", "total"}},
	{"inspect beside stopped", "flat_stopped", "inspect", [2]string{"inspect", "request"}},
	{"life cycle beside running", "flat_running", "total", [2]string{"run_none", "total"}},
	{"inspect beside running", "flat_running", "inspect", [2]string{"inspect", "request"}},
}

func median(r *stats.Report, test, metric, subject string) (stats.Summary, bool) {
	i := slices.IndexFunc(r.Results, func(s stats.Summary) bool {
		return s.Test == test && s.Metric == metric && s.Subject == subject
	})
	if i < 0 {
		return stats.Summary{}, false
	}
	return r.Results[i], true
}

func ratio(r *stats.Report, test, metric, of string) (stats.Ratio, bool) {
	i := slices.IndexFunc(r.Ratios, func(s stats.Ratio) bool {
		return s.Test == test && s.Metric == metric && s.Of == of
	})
	if i < 0 {
		return stats.Ratio{}, false
	}
	return r.Ratios[i], true
}
