package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// Every scenario is played twice, on the host's runc and on ours, and compared
// step by step: exit status, standard output, standard error and log.

// step is one command line; {n} is the container's name, {b} the bundle, {d} a
// directory for files. Words are parted by spaces, "~" in a word is a space.
type step struct {
	line  string
	stdin string
	out   func(string) string // makes outputs comparable; nil: as they are
	env   []string
	// why our texts differ on purpose; the exit status is then still compared.
	why string
	// whyStatus says why our exit status is another: ours.
	whyStatus string
	ours      int
}

type scenario struct {
	name   string
	script string // the container's process
	edit   func(*specs.Spec)
	steps  []step
}

const untilTerm = "trap 'exit 3' TERM; while :; do sleep 0.05; done"

const (
	ourHelp   = "help texts are our own"
	newer     = "runc 1.4's words"
	ourDetail = "our error says what was tried"
)

var scenarios = []scenario{
	{name: "no-container", steps: []step{
		{line: "bogus", out: drop},
		{line: "help bogus", out: drop},
		{line: "state nope"}, {line: "start nope"}, {line: "kill nope"}, {line: "kill nope FOO"}, {line: "delete nope"},
		{line: "pause nope"}, {line: "resume nope"}, {line: "ps nope"}, {line: "events nope"}, {line: "update nope"},
		{line: "exec nope ls"}, {line: "exec nope"}, {line: "exec -p /no/file nope"},
		{line: "delete --force nope", why: "runc 1.5 says that there was none, 1.1 nothing"},
		{line: "state ", why: ""},
		{line: "state ..", out: drop},
		{line: "list"}, {line: "list -q"}, {line: "list -f json", out: null},
		{line: "list -f yaml"},
		{line: "--root / list", whyStatus: "runc 1.1 takes it, 1.2 and later refuse", why: newer, ours: 1},
		{line: "--log-format xml list"},
		{line: "--rootless maybe list", why: "runc 1.1 looks at it in create and run only", whyStatus: "the same", ours: 1},
		{line: "--rootless= list"},
		{line: "run -b /no/dir {n}", why: ourDetail},
		{line: "run -b {d} {n}", why: ourDetail},
		{line: "run --preserve-fds 900 -b {b} {n}", why: ourDetail},
		{line: "create -b {b} --console-socket /no/socket {n}"},
		{line: "spec -b /no/dir", why: ourDetail},
		{line: "events --interval 0s nope", why: "runc looks for the container first", whyStatus: ""},
	}},
	{name: "usage", steps: []step{
		{line: "--bogus list", out: firstLine}, {line: "run --bogus x", out: firstLine}, {line: "run --bundle", out: firstLine},
		{line: "run --preserve-fds x {n}", out: firstLine}, {line: "run --keep=x {n}", out: firstLine}, {line: "exec -dt {n} ls", out: firstLine},
		{line: "create", out: firstLine}, {line: "create a b", out: firstLine}, {line: "start", out: firstLine}, {line: "state a b", out: firstLine},
		{line: "kill", out: firstLine}, {line: "kill a b c", out: firstLine}, {line: "delete", out: firstLine}, {line: "exec", out: firstLine},
		{line: "ps", out: firstLine}, {line: "list x", out: firstLine}, {line: "spec x", out: firstLine}, {line: "pause", out: firstLine},
		{line: "update", out: firstLine}, {line: "events", out: firstLine}, {line: "run", out: firstLine},
		{line: "kill a -9", out: firstLine},
		{line: "", why: ourHelp}, {line: "help", why: ourHelp}, {line: "--help", why: ourHelp}, {line: "-h", why: ourHelp},
		{line: "run --help", why: ourHelp}, {line: "run -h", why: ourHelp}, {line: "help run", why: ourHelp}, {line: "--version", out: firstWords}, {line: "-v", out: firstWords},
	}},
	{name: "run", script: "echo out; echo err >&2; exit 42", steps: []step{
		{line: "run -b {b} {n}"},
		{line: "run --bundle={b} --pid-file {d}/pid {n}"},
		{line: "run -bundle {b} {n}"},
		{line: "run {n} -b {b}"},
		{line: "state {n}"},
		{line: "run --keep -b {b} {n}"},
		{line: "state {n}", out: state},
		{line: "run -b {b} {n}", why: ourDetail},
		{line: "start {n}"},
		{line: "exec {n} ls"},
		{line: "pause {n}"}, {line: "resume {n}"},
		{line: "kill {n}"}, {line: "kill {n} 0"},
		{line: "kill --all {n} 9"},
		{line: "ps -f json {n}", out: null},
		{line: "events --stats {n}"},
		{line: "list -f json", out: state}, {line: "list", out: table}, {line: "list -q"},
		{line: "delete {n}"},
		{line: "run --detach --keep -b {b} {n}", why: "the container's own output comes when it comes"},
		{line: "delete -f {n}"},
	}},
	{name: "signalled", script: "kill -9 $$", edit: func(s *specs.Spec) { s.Linux.Namespaces = s.Linux.Namespaces[1:] }, steps: []step{
		{line: "run -b {b} {n}"},
	}},
	{name: "no-command", edit: func(s *specs.Spec) { s.Process.Args = []string{"nope"} }, steps: []step{
		{line: "run -b {b} {n}", why: newer}, {line: "state {n}"},
		{line: "create -b {b} {n}", why: newer}, {line: "state {n}"},
	}},
	{name: "terminal", script: "true", edit: func(s *specs.Spec) { s.Process.Terminal = true }, steps: []step{
		{line: "create -b {b} {n}"}, {line: "run -d -b {b} {n}"},
		{line: "run --console-socket /no/socket -b {b} {n}"},
		{line: "state {n}"},
	}},
	{name: "life", script: untilTerm, steps: []step{
		{line: "create -b {b} --pid-file {d}/pid {n}"},
		{line: "create -b {b} {n}", why: ourDetail},
		{line: "state {n}", out: state},
		{line: "list -f json", out: state},
		{line: "ps --format json {n}", out: count},
		{line: "start {n}"}, {line: "start {n}"},
		{line: "state {n}", out: state}, {line: "list", out: table}, {line: "list -q"},
		{line: "kill {n} 0"}, {line: "kill {n} FOO"}, {line: "kill {n} SIGFOO"},
		{line: "kill {n} 99", why: ourDetail},
		{line: "ps {n}", out: header}, {line: "ps {n} -o pid,comm", out: header}, {line: "ps {n} -o comm"}, {line: "ps -f yaml {n}"},
		{line: "events --stats {n}", out: keys},
		{line: "delete {n}"}, {line: "delete {n} --force=false"},
		{line: "pause {n}"}, {line: "state {n}", out: state}, {line: "pause {n}"},
		{line: "exec {n} ls"}, {line: "start {n}"},
		{line: "resume {n}"}, {line: "resume {n}"}, {line: "state {n}", out: state},
		{line: "update {n} --pids-limit 77"}, {line: "exec {n} cat /sys/fs/cgroup/pids/pids.max"},
		{line: "update --memory 64m {n}"}, {line: "exec {n} cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/pids/pids.max"},
		{line: "update --cpu-share 512 --cpu-quota 50000 --cpu-period 100000 {n}"},
		{line: "exec {n} cat /sys/fs/cgroup/cpu/cpu.shares /sys/fs/cgroup/cpu/cpu.cfs_quota_us /sys/fs/cgroup/cpu/cpu.cfs_period_us"},
		{line: "update --cpu-quota -1 --cpuset-cpus 0 {n}"}, {line: "exec {n} cat /sys/fs/cgroup/cpu/cpu.cfs_quota_us /sys/fs/cgroup/cpuset/cpuset.cpus"},
		{line: "update -r - {n}", stdin: `{"memory":{"reservation":4194304},"pids":{"limit":50}}`},
		{line: "exec {n} cat /sys/fs/cgroup/memory/memory.soft_limit_in_bytes /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/pids/pids.max"},
		{line: "update --resources=/no/file {n}"},
		{line: "update -r - {n}", stdin: `{`, why: ourDetail},
		{line: "update --memory x {n}"},
		{line: "update --cpu-share x {n}"},
		{line: "update --kernel-memory 1m {n}"},
		{line: "update --l3-cache-schema L3:0=f {n}"}, {line: "update --mem-bw-schema MB:0=1 {n}"},
		{line: "kill {n}"}, {line: "?stopped"}, {line: "state {n}", out: state}, {line: "list", out: table},
		{line: "exec {n} ls"}, {line: "kill {n}"}, {line: "kill -a {n} KILL"},
		{line: "delete {n}"}, {line: "delete {n}"}, {line: "state {n}"},
	}},
	{name: "exec", script: untilTerm, steps: []step{
		{line: "run -d -b {b} {n}"},
		{line: "exec {n} sh -c echo~out;~echo~err~>&2;~exit~5"},
		{line: "exec {n} cat", stdin: "data"},
		{line: "exec {n} sh -c kill~-9~$$"},
		{line: "exec {n} nope", why: newer},
		{line: "exec {n} /bin", why: newer},
		{line: "exec {n}", why: newer},
		{line: "exec --cwd /bin -e A=b -e C=d -u 7:8 -g 9 -g 10 {n} sh -c echo~$A~$C~$PWD;id~-u;id~-g;id~-G"},
		{line: "exec --user root {n} ls", why: ourDetail}, {line: "exec --user 1:x {n} ls", why: ourDetail}, {line: "exec --cwd bin {n} ls", why: ourDetail},
		{line: "exec -t {n} ls", whyStatus: "runc wants a terminal of its own, we do without", why: "the same", ours: 0},
		{line: "exec -t -d {n} ls"}, {line: "exec --console-socket /no/socket {n} ls"}, {line: "exec -d --console-socket /no/socket {n} ls"},
		{line: "exec -t -d --console-socket /no/socket {n} ls"},
		{line: "exec --cap CAP_SYS_TIME {n} busybox grep Cap /proc/self/status"},
		{line: "exec --no-new-privs=false {n} busybox grep NoNewPrivs /proc/self/status"},
		{line: "exec --no-new-privs {n} busybox grep NoNewPrivs /proc/self/status"},
		{line: "exec --preserve-fds 900 {n} ls", why: ourDetail},
		{line: "exec --process {d}/process {n}"},
		{line: "exec -p {d}/process --user 3 --env X=y {n}"},
		{line: "exec -p {d}/broken {n}", why: ourDetail},
		{line: "exec --process {d}/nocwd {n}", why: ourDetail},
		{line: "exec -d --pid-file {d}/exec.pid {n} sleep 0.1"},
		{line: "?reap {d}/exec.pid"},
		{line: "exec {n} sh -c busybox~sed~s/.*://~/proc/self/cgroup~|~busybox~sort~-u;busybox~sed~s/.*://~/proc/1/cgroup~|~busybox~sort~-u"},
		{line: "exec --cgroup nope {n} ls", why: ourDetail},
		{line: "exec --cgroup ../.. {n} ls", why: ourDetail},
		{line: "exec --cgroup : {n} ls", why: newer, whyStatus: newer, ours: 255}, {line: "exec --cgroup cpu:a --cgroup b {n} ls", why: newer}, {line: "exec --cgroup bogus:/ {n} ls", why: ourDetail},
		{line: "exec --cgroup / {n} ls /"},
		{line: "pause {n}"}, {line: "exec --ignore-paused=false {n} ls"}, {line: "resume {n}"},
		{line: "delete --force {n}"},
	}},
	{name: "fds", script: "echo $LISTEN_FDS $LISTEN_PID; ls /proc/self/fd | wc -l", steps: []step{
		{line: "run -b {b} {n}"},
		{line: "run -b {b} {n}", env: []string{"LISTEN_FDS=2", "LISTEN_PID=1"}}, // meant for another process
		{line: "run -b {b} {n}", env: []string{"_LIBCONTAINER_STATEDIR=/x", "FOO=bar"}},
	}},
	{name: "environment", script: "env | sort", steps: []step{
		{line: "run -b {b} {n}", env: []string{"_LIBCONTAINER_STATEDIR=/x", "FOO=bar", "LISTEN_FDS=1"}},
	}},
	{name: "spec", steps: []step{
		{line: "spec -b {b}"},
		{line: "spec -b {d}"}, {line: "?cat {d}/config.json", out: config},
		{line: "?rm {d}/config.json"},
		{line: "spec --rootless -b {d}"}, {line: "?cat {d}/config.json", out: config},
	}},
}

func TestAsRunc(t *testing.T) {
	runc, err := exec.LookPath("runc")
	if err != nil {
		t.Skip("needs runc, to compare with:", err)
	}
	for _, s := range scenarios {
		t.Run(s.name, func(t *testing.T) { s.compare(t, runc) })
	}
}

func (s scenario) compare(t *testing.T, runc string) {
	theirs, ours := newPlayer(t, s, runc), newPlayer(t, s, "")
	for i, st := range s.steps {
		a, b := theirs.play(st), ours.play(st)
		want := a.status
		if st.whyStatus != "" {
			want = st.ours
		}
		if b.status != want {
			t.Errorf("%d: %s: exit status %d, want %d\nrunc %+v\nours %+v", i, st.line, b.status, want, a, b)
		}
		if st.why == "" && (a.out != b.out || a.stderr != b.stderr) {
			t.Errorf("%d: %s\nrunc %q\n     %q\nours %q\n     %q", i, st.line, a.out, a.stderr, b.out, b.stderr)
		}
	}
}

// player plays a scenario on one runtime.
type player struct {
	*host
	files string
}

func newPlayer(t *testing.T, s scenario, runtime string) *player {
	h := newHost(t, s.script, s.edit)
	h.n = fmt.Sprintf("as-runc-%d-a", os.Getpid())
	if runtime != "" {
		h.n, h.grun = fmt.Sprintf("as-runc-%d-b", os.Getpid()), runtime
	}
	p := &player{h, t.TempDir()}
	for name, text := range map[string]string{
		"process": `{"args":["sh","-c","id -u; echo $A; pwd; ulimit -n"],"env":["PATH=/bin","A=b"],"cwd":"/bin","user":{"uid":5,"gid":6},` +
			`"rlimits":[{"type":"RLIMIT_NOFILE","soft":60,"hard":60}]}`,
		"broken": "{", "nocwd": `{"args":["ls"]}`,
	} {
		os.WriteFile(filepath.Join(p.files, name), []byte(text), 0o600)
	}
	return p
}

func (p *player) play(s step) result {
	line := strings.NewReplacer("{n}", p.n, "{b}", p.b, "{d}", p.files).Replace(s.line)
	var words []string
	for _, w := range strings.Split(line, " ") {
		words = append(words, strings.ReplaceAll(w, "~", " "))
	}
	if line == "" {
		words = nil
	}
	var r result
	if strings.HasPrefix(line, "?") {
		r = p.look(words)
	} else {
		r = p.run(s, words)
	}
	r.stderr = p.plain(r.stderr)
	r.out = p.plain(r.out)
	if s.out != nil {
		r.out = s.out(r.out)
	}
	return r
}

// run calls the runtime.
func (p *player) run(s step, words []string) result {
	p.t.Helper()
	if strings.Contains(s.line, "create") || strings.Contains(s.line, "-d ") || strings.Contains(s.line, "--detach") {
		return p.detached(words...) // the container keeps what it gets
	}
	cmd := p.cmd(words...)
	var out, stderr bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(s.stdin), &out, &stderr
	cmd.Env = append(os.Environ(), s.env...)
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		p.t.Fatal(err)
	}
	return result{cmd.ProcessState.ExitCode(), out.String(), stderr.String()}
}

// look does what is no call of the runtime.
func (p *player) look(words []string) result {
	switch words[0] {
	case "?stopped":
		for range 500 {
			if strings.Contains(p.call("", "state", p.n).out, "stopped") {
				return result{}
			}
			time.Sleep(10 * time.Millisecond)
		}
		return result{status: 1}
	case "?reap": // what was left to us: a pid namespace does not end before it
		b, _ := os.ReadFile(words[1])
		pid, err := strconv.Atoi(string(b))
		if err != nil {
			p.t.Fatal(err)
		}
		unix.Wait4(pid, nil, 0, nil)
	case "?cat":
		b, _ := os.ReadFile(words[1])
		return result{out: string(b)}
	case "?rm":
		os.Remove(words[1])
	}
	return result{}
}

var stamp = regexp.MustCompile(`time="[^"]*" `)

// plain takes out what differs from call to call, and our names.
func (p *player) plain(s string) string {
	s = strings.NewReplacer(p.b, "BUNDLE", p.files, "FILES", p.root, "ROOT", p.n, "NAME", p.grun, "RUNTIME").Replace(s)
	s = stamp.ReplaceAllString(s, "")
	s = strings.ReplaceAll(s, `\n"`, `"`) // runc 1.1 ends some messages so
	return strings.ReplaceAll(s, "runc", "grun")
}

func drop(string) string { return "" }

func firstLine(s string) string { line, _, _ := strings.Cut(s, "\n"); return line }

// firstWords are the first words of each line, of the first three lines.
func firstWords(s string) string {
	var words []string
	for _, line := range strings.Split(s, "\n")[:3] {
		words = append(words, strings.Fields(line)[0])
	}
	return strings.Join(words, " ")
}

// null is an empty list in either way of writing.
func null(s string) string { return strings.Replace(s, "null", "[]", 1) }

// count is the number of elements.
func count(s string) string {
	var list []any
	if err := json.Unmarshal([]byte(s), &list); err != nil {
		return err.Error()
	}
	return strconv.Itoa(len(list))
}

// header is the first line's words.
func header(s string) string { return fmt.Sprint(strings.Fields(firstLine(s))) }

// state makes containers' states comparable: ids of processes to whether there is
// one, and no times.
func state(s string) string {
	var v any
	if err := json.Unmarshal([]byte(s), &v); err != nil {
		return err.Error()
	}
	list, ok := v.([]any)
	if !ok {
		list = []any{v}
	}
	for _, e := range list {
		m := e.(map[string]any)
		m["pid"] = m["pid"].(float64) != 0
		if _, err := time.Parse(time.RFC3339Nano, m["created"].(string)); err != nil {
			return err.Error()
		}
		delete(m, "created")
		delete(m, "ociVersion") // runc's is that of the newest specification it knows
	}
	b, _ := json.Marshal(v)
	return string(b)
}

// table takes out of list's table what differs.
func table(s string) string {
	var out []string
	for _, line := range strings.Split(s, "\n") {
		f := strings.Fields(line)
		if len(f) == 6 && f[0] != "ID" {
			f[1], f[4] = strconv.FormatBool(f[1] != "0"), "CREATED"
		}
		out = append(out, strings.Join(f, " "))
	}
	return strings.Join(out, "\n")
}

// keys are the names in an object and in those in it, as runc's callers look for.
func keys(s string) string {
	var ev struct {
		Type string
		ID   string
		Data map[string]map[string]any
	}
	dec := json.NewDecoder(strings.NewReader(s))
	if err := dec.Decode(&ev); err != nil {
		return err.Error()
	}
	names := []string{ev.Type, ev.ID}
	for _, at := range []string{"cpu", "memory", "pids"} {
		for _, key := range []string{"usage", "throttling", "usage", "swap", "kernel", "kernelTCP", "raw", "current", "limit"} {
			if _, ok := ev.Data[at][key]; ok {
				names = append(names, at+"."+key)
			}
		}
	}
	return strings.Join(names, " ")
}

// config makes examples of config.json comparable. Ours have a cgroup namespace
// always, runc's on cgroup v2 only.
func config(s string) string {
	var m map[string]any
	if err := json.Unmarshal([]byte(s), &m); err != nil {
		return err.Error()
	}
	delete(m, "ociVersion")
	linux := m["linux"].(map[string]any)
	linux["namespaces"] = slices.DeleteFunc(linux["namespaces"].([]any), func(n any) bool { return n.(map[string]any)["type"] == "cgroup" })
	delete(m["process"].(map[string]any)["capabilities"].(map[string]any), "ambient") // gone since runc 1.2
	b, _ := json.MarshalIndent(m, "", " ")
	return string(b)
}
