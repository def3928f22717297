// Corebench measures what serves containerd's API on a unix socket, by containerd's own
// client. With several subjects it interleaves their repetitions; ratios are to the first.
package main

import (
	"context"
	"flag"
	"fmt"
	"log"
	"os"
	"os/signal"
	"path"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	tasksapi "github.com/containerd/containerd/api/services/tasks/v1"
	containerd "github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/pkg/namespaces"

	"bench/internal/cputime"
	"bench/internal/stats"
)

// subject is a core under test.
type subject struct {
	name, socket string
	pid          int    // of its daemon
	cgroup       string // that all it runs is below, in each hierarchy; its last part is the namespace of all that is made
	namespace    string
	client       *containerd.Client
	image        containerd.Image // busybox, unpacked
}

// in is ctx in the subject's namespace.
func (s *subject) in(ctx context.Context) context.Context {
	return namespaces.WithNamespace(ctx, s.namespace)
}

type options struct {
	N, Workers, Batch, Records, Tasks, Layers, LayerMB int
	Settle                                             time.Duration
	CTR, Rootfs, RuncShim                              string
	Accounting, Unified, Tracefs                       string
}

// add notes a sample.
type add func(metric, unit string, v float64)

// test is one benchmark. It is repeated N/cost times for each subject, once without being
// noted, or just once when cost is 0.
type test struct {
	name, about string
	cost        int
	setup       func(context.Context, *subject) error
	rep         func(ctx context.Context, s *subject, i int, add add) error
	teardown    func(context.Context, *subject) error
}

// subjects collects -core flags, NAME=SOCKET,PID,CGROUP.
type subjects []*subject

func (s *subjects) String() string { return "" }

func (s *subjects) Set(v string) error {
	name, rest, ok := strings.Cut(v, "=")
	f := strings.Split(rest, ",")
	if !ok || len(f) != 3 {
		return fmt.Errorf("%q is not NAME=SOCKET,PID,CGROUP", v)
	}
	pid, err := strconv.Atoi(f[1])
	if err != nil {
		return err
	}
	*s = append(*s, &subject{name: name, socket: f[0], pid: pid, cgroup: f[2], namespace: path.Base(f[2])})
	return nil
}

func main() {
	log.SetFlags(log.Ltime)
	log.SetPrefix("corebench: ")
	var all subjects
	var o options
	flag.Var(&all, "core", "a core under test: NAME=SOCKET,PID,CGROUP (repeat)")
	flag.IntVar(&o.N, "n", 20, "repetitions (expensive tests run a fraction of it)")
	flag.IntVar(&o.Workers, "c", 8, "concurrency of the parallel test")
	flag.IntVar(&o.Batch, "batch", 32, "tasks per repetition of the parallel test")
	flag.IntVar(&o.Records, "records", 10000, "images, and containers, of the list tests")
	flag.IntVar(&o.Tasks, "tasks", 100, "running tasks of the memory test")
	flag.IntVar(&o.Layers, "layers", 14, "layers of the unpacked image")
	flag.IntVar(&o.LayerMB, "layer-mb", 36, "MB in each of them")
	flag.DurationVar(&o.Settle, "settle", 5*time.Second, "rest before memory is read")
	flag.StringVar(&o.CTR, "ctr", "ctr", "the client program of the ctr test")
	flag.StringVar(&o.Rootfs, "rootfs", os.Getenv("BENCH_ROOTFS"), "tar of a root with busybox ($BENCH_ROOTFS)")
	flag.StringVar(&o.RuncShim, "runc-shim", "containerd-shim-runc-v2", "path of runc's own shim")
	flag.StringVar(&o.Accounting, "accounting", "", "directory of the hierarchy that accounts CPU time: adds it to every test")
	flag.StringVar(&o.Unified, "unified", "", "directory of the cgroup v2 hierarchy, for what is counted")
	flag.StringVar(&o.Tracefs, "tracefs", "", "where tracefs is mounted, for what is counted")
	run := flag.String("run", ".", "run only tests whose name matches this regular expression")
	out := flag.String("json", "", "where the JSON goes")
	flag.Parse()
	if len(all) == 0 || o.Rootfs == "" {
		log.Fatal("needs -core and -rootfs")
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	book := stats.NewBook()
	meta := map[string]any{"tool": "corebench", "date": time.Now().UTC().Format(time.RFC3339), "options": o,
		"cpus": runtime.NumCPU(), "load_before": read("/proc/loadavg"), "uname": read("/proc/version")}
	for _, s := range all {
		book.Subjects = append(book.Subjects, s.name)
		ctx := s.in(ctx)
		if err := s.prepare(ctx, o); err != nil {
			log.Fatalf("%s: %v", s.name, err)
		}
		v, err := s.client.Version(ctx)
		if err != nil {
			log.Fatalf("%s: %v", s.name, err)
		}
		meta["version_"+s.name] = map[string]any{"Version": v.Version}
	}
	match := regexp.MustCompile(*run)
	for _, t := range tests(o) {
		if match.MatchString(t.name) && ctx.Err() == nil {
			repeat(ctx, t, all, o.N, o.Accounting, book)
		}
	}
	meta["load_after"] = read("/proc/loadavg")
	report := book.Report(meta, true)
	report.WriteTable(os.Stdout)
	if *out != "" {
		f, err := os.Create(*out)
		if err != nil {
			log.Fatal(err)
		}
		if err := report.WriteJSON(f); err != nil {
			log.Fatal(err)
		}
		if err := f.Close(); err != nil {
			log.Fatal(err)
		}
	}
	if len(report.Errors) > 0 || ctx.Err() != nil {
		os.Exit(1)
	}
}

// cpu is what the core, its shims and containers have used, in ms.
func (s *subject) cpu(accounting string) (float64, bool) {
	if accounting == "" {
		return 0, false
	}
	return cputime.Read(cputime.File(filepath.Join(accounting, s.cgroup)))
}

// empty checks that a test has left no containers and no tasks.
func (s *subject) empty(ctx context.Context) error {
	left, err := s.client.Containers(ctx)
	if err != nil {
		return err
	}
	tasks, err := s.client.TaskService().List(ctx, &tasksapi.ListTasksRequest{})
	if err != nil {
		return err
	}
	if len(left) > 0 || len(tasks.Tasks) > 0 {
		return fmt.Errorf("%d containers and %d tasks are left", len(left), len(tasks.Tasks))
	}
	return nil
}

// repeat runs a test on all subjects, interleaved. One that fails is dropped from it.
func repeat(ctx context.Context, t test, all subjects, n int, accounting string, book *stats.Book) {
	began := time.Now()
	live := slices.Clone(all)
	drop := func(s *subject, what string, err error) {
		log.Printf("%s: %s: %s: %v", t.name, s.name, what, err)
		book.Errorf("%s: %s: %s: %v", t.name, s.name, what, err)
		live = slices.DeleteFunc(live, func(x *subject) bool { return x == s })
	}
	if t.setup != nil {
		for _, s := range all {
			if err := t.setup(s.in(ctx), s); err != nil {
				drop(s, "setup", err)
			}
		}
	}
	first, last := -1, max(2, n/max(1, t.cost))
	if t.cost == 0 {
		first, last = 0, 1
	}
	for i := first; i < last && ctx.Err() == nil; i++ {
		order := slices.Clone(live)
		if i%2 != 0 {
			slices.Reverse(order)
		}
		for _, s := range order {
			before, counted := s.cpu(accounting)
			err := t.rep(s.in(ctx), s, i, func(metric, unit string, v float64) {
				if i >= 0 {
					book.Add(stats.Key{Test: t.name, Metric: metric, Unit: unit}, s.name, v)
				}
			})
			if err != nil {
				drop(s, fmt.Sprintf("repetition %d", i), err)
				continue
			}
			if after, ok := s.cpu(accounting); ok && counted && i >= 0 && t.cost > 0 {
				book.Add(stats.Key{Test: t.name, Metric: "cpu", Unit: "ms"}, s.name, after-before)
			}
		}
	}
	if t.teardown != nil {
		for _, s := range all {
			if err := t.teardown(s.in(ctx), s); err != nil {
				drop(s, "teardown", err)
			}
		}
	}
	for _, s := range all {
		if err := s.empty(s.in(ctx)); err != nil && ctx.Err() == nil {
			drop(s, "afterwards", err)
		}
	}
	log.Printf("%s: %.1f s", t.name, time.Since(began).Seconds())
}

func read(path string) string {
	text, _ := os.ReadFile(path)
	return strings.TrimSpace(string(text))
}
