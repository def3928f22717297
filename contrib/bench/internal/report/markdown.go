package report

import (
	"fmt"
	"io"
	"math"
	"strings"

	"bench/internal/stats"
)

// Markdown renders d; source is the path of its JSON, for the reader.
func (d Document) Markdown(w io.Writer, source string) error {
	p := &printer{w: w}
	p.line("# Figures")
	p.line("")
	p.line("Made by `%s`; do not edit. Raw figures: [%s](%s). What is missed, and where the time goes: [NOTES.md](NOTES.md).", d.Command, source, source)
	p.line("")
	p.line("A ratio is ours over the peer's, the median over neighbouring repetitions of both with its quartiles in parentheses; of times and memory less is better, of rates more. The other figures are medians. CPU is that of daemon, helpers, runtime and container together.")
	p.line("")
	p.line("- date %s, commit %s", d.Date, d.Commit)
	if d.Engine != nil {
		p.machine(d.Engine)
		p.aims(d.Engine, "Aims", Aims)
		p.flat(d.Engine)
		p.counts(d.Engine, "Counts", operations)
		p.section("Everything measured", "")
		p.all(d.Engine)
	}
	if d.Core != nil {
		p.section("The core", "By containerd's own clients, beside Debian's containerd: `gantryd core` with our shim, containerd with runc's, both as `io.containerd.runc.v2`; one row has runc's shim under both.")
		p.machine(d.Core)
		p.aims(d.Core, "Aims of the core", coreAims)
		p.counts(d.Core, "Counts of the core", coreOperations)
		p.section("Everything measured of the core", "")
		p.all(d.Core)
	}
	if d.Runtime != nil {
		p.section("Runtimes", "The command lines alone, on one bundle with Docker's default seccomp profile.")
		p.runtimeAims(d.Runtime)
		p.line("\nThe ratio is to the first.\n")
		p.all(d.Runtime)
	}
	if len(d.Floor) > 0 {
		p.floor(d.Floor)
	}
	return p.err
}

// printer keeps the first error of its writes.
type printer struct {
	w   io.Writer
	err error
}

func (p *printer) line(format string, args ...any) {
	if p.err == nil {
		_, p.err = fmt.Fprintf(p.w, format+"\n", args...)
	}
}

func (p *printer) row(cells ...string) { p.line("| %s |", strings.Join(cells, " | ")) }

func (p *printer) section(title, about string) {
	p.line("\n## %s\n", title)
	if about != "" {
		p.line("%s\n", about)
	}
}

// table prints a head whose columns after the first left ones are right-aligned.
func (p *printer) table(left int, head ...string) {
	p.row(head...)
	rule := make([]string, len(head))
	for i := range head {
		rule[i] = "--:"
		if i < left {
			rule[i] = "---"
		}
	}
	p.row(rule...)
}

func (p *printer) machine(r *stats.Report) {
	p.line("- %v processors, load %v before and %v after", r.Meta["cpus"], r.Meta["load_before"], r.Meta["load_after"])
	p.line("- %v", r.Meta["uname"])
	for _, s := range subjects(r) {
		if v, ok := r.Meta["version_"+s].(map[string]any); ok {
			p.line("- %s %v", s, v["Version"])
		}
	}
	for _, e := range r.Errors {
		p.line("- **failed**: %s", e)
	}
}

// subjects returns the endpoints in the order in which they were given.
func subjects(r *stats.Report) (names []string) {
	seen := map[string]bool{}
	for _, s := range r.Results {
		if !seen[s.Subject] {
			seen[s.Subject] = true
			names = append(names, s.Subject)
		}
	}
	return names
}

// pair returns the peer's and our name; the peer's is "" when it was not measured.
func pair(r *stats.Report) (peer, ours string) {
	switch names := subjects(r); len(names) {
	case 0:
		return "", ""
	case 1:
		return "", names[0]
	default:
		return names[0], names[1]
	}
}

func (p *printer) aims(r *stats.Report, title string, aims []Aim) {
	peer, ours := pair(r)
	p.section(title, "")
	p.table(1, "what", "peer", "ours", "unit", "ratio", "aim", "met")
	met, judged := 0, 0
	for _, a := range aims {
		mine, ok := median(r, a.Test, a.Metric, ours)
		if !ok {
			p.row(a.What, "", "", "", "not measured", a.String(), "")
			continue
		}
		v, shown := mine.Median, ""
		x, hasRatio := ratio(r, a.Test, a.Metric, ours)
		if hasRatio {
			shown = quartiles(x)
		}
		verdict := ""
		if a.Unit == "" {
			v = x.Paired
		}
		if a.Unit != "" || hasRatio {
			judged++
			verdict = "**no**"
			if a.Met(v) {
				verdict, met = "yes", met+1
			}
		}
		p.row(a.What, value(r, a.Test, a.Metric, peer), num(mine.Median), mine.Unit, shown, a.String(), verdict)
	}
	p.line("\n%d of %d met.", met, judged)
}

func (p *printer) runtimeAims(r *stats.Report) {
	p.table(2, "what", "peer", "peer's", "ours", "unit", "ratio", "aim", "met")
	for _, a := range runtimeAims {
		peer, ok1 := median(r, a.Test, a.Metric, a.peer)
		ours, ok2 := median(r, a.Test, a.Metric, ourRuntime)
		if !ok1 || !ok2 {
			p.row(a.What, a.peer, "", "", "", "not measured", a.String(), "")
			continue
		}
		v := ours.Median / peer.Median
		shown := fmt.Sprintf("%.3f", v)
		if x, ok := ratio(r, a.Test, a.Metric, ourRuntime); ok && x.To == a.peer {
			v, shown = x.Paired, quartiles(x)
		}
		verdict := "**no**"
		if a.Met(v) {
			verdict = "yes"
		}
		p.row(a.What, a.peer, num(peer.Median), num(ours.Median), ours.Unit, shown, a.String(), verdict)
	}
}

func (p *printer) flat(r *stats.Report) {
	peer, ours := pair(r)
	p.section("Beside many containers", fmt.Sprintf("%v stopped, or %v running; each engine against itself without them. Aim of ours: ≤ %g.",
		option(r, "FlatStopped"), option(r, "FlatRunning"), FlatBound))
	p.table(1, "what", "peer alone", "peer beside", "growth", "ours alone", "ours beside", "growth", "met")
	for _, f := range flats {
		cells := []string{f.what}
		verdict := ""
		for _, s := range []string{peer, ours} {
			alone, ok1 := median(r, f.alone[0], f.alone[1], s)
			beside, ok2 := median(r, f.test, f.metric, s)
			if !ok1 || !ok2 {
				cells = append(cells, "", "", "")
				continue
			}
			growth := beside.Median / alone.Median
			cells = append(cells, num(alone.Median), num(beside.Median), fmt.Sprintf("%.2f", growth))
			if s == ours {
				verdict = "**no**"
				if growth <= FlatBound {
					verdict = "yes"
				}
			}
		}
		p.row(append(cells, verdict)...)
	}
}

// operation is one whose executions, forks and syncs a test has counted.
type operation struct{ test, what string }

var (
	operations = []operation{
		{"counts_none", "life cycle, none"}, {"counts_bridge", "life cycle, bridge"}, {"counts_exec", "exec"}, {"counts_stop", "stop"},
	}
	coreOperations = []operation{{"core_counts", "life cycle of a container and its task, Go client"}}
)

func (p *printer) counts(r *stats.Report, title string, operations []operation) {
	peer, ours := pair(r)
	p.section(title, "Per operation, of daemon, helpers, shims and the container's first process, less what the idle daemon does; seconds of afterwork included. Forks are new processes, syncs are fsync, fdatasync, sync_file_range, syncfs and sync.")
	p.table(1, "operation", "execs peer", "ours", "forks peer", "ours", "syncs peer", "ours")
	for _, op := range operations {
		cells := []string{op.what}
		for _, metric := range []string{"execs", "forks", "syncs"} {
			cells = append(cells, value(r, op.test, metric, peer), value(r, op.test, metric, ours))
		}
		p.row(cells...)
	}
}

// all prints every metric of r, one row each, the subjects side by side.
func (p *printer) all(r *stats.Report) {
	names := subjects(r)
	head := append([]string{"test", "metric", "unit"}, names...)
	for _, s := range names[min(1, len(names)):] {
		head = append(head, "ratio "+s)
	}
	p.table(2, head...)
	seen := map[stats.Key]bool{}
	for _, s := range r.Results {
		k := stats.Key{Test: s.Test, Metric: s.Metric, Unit: s.Unit}
		if seen[k] {
			continue
		}
		seen[k] = true
		cells := []string{s.Test, s.Metric, s.Unit}
		for _, name := range names {
			cells = append(cells, value(r, s.Test, s.Metric, name))
		}
		for _, name := range names[min(1, len(names)):] {
			shown := ""
			if x, ok := ratio(r, s.Test, s.Metric, name); ok {
				shown = quartiles(x)
			}
			cells = append(cells, shown)
		}
		p.row(cells...)
	}
}

func (p *printer) floor(steps []Step) {
	p.section("The kernel alone", "No engine: what the steps of a start cost, in ms.")
	p.table(1, "step", "n", "min", "median", "p95", "max")
	for _, s := range steps {
		p.row(strings.TrimLeft(s.Name, " "), fmt.Sprint(s.N), ms(s.Min), ms(s.Median), ms(s.P95), ms(s.Max))
	}
}

func option(r *stats.Report, name string) any {
	o, _ := r.Meta["options"].(map[string]any)
	return o[name]
}

func value(r *stats.Report, test, metric, subject string) string {
	s, ok := median(r, test, metric, subject)
	if !ok {
		return ""
	}
	return num(s.Median)
}

func quartiles(x stats.Ratio) string {
	if x.PairsN == 1 {
		return short(x.Paired)
	}
	return fmt.Sprintf("%s (%s–%s)", short(x.Paired), short(x.PairedLo), short(x.PairedHi))
}

// short is a ratio with the digits that tell 1/8 from 1/7.
func short(v float64) string {
	if math.Abs(v) >= 10 {
		return fmt.Sprintf("%.1f", v)
	}
	if math.Abs(v) >= 1 {
		return fmt.Sprintf("%.2f", v)
	}
	return fmt.Sprintf("%.3f", v)
}

func ms(v float64) string { return fmt.Sprintf("%.3f", v) }

func num(v float64) string {
	switch a := math.Abs(v); {
	case a == math.Trunc(a) && a < 1e6:
		return fmt.Sprintf("%.0f", v)
	case a >= 1000:
		return fmt.Sprintf("%.0f", v)
	case a >= 10:
		return fmt.Sprintf("%.1f", v)
	case a >= 1:
		return fmt.Sprintf("%.2f", v)
	default:
		return fmt.Sprintf("%.3f", v)
	}
}
