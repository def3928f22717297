package main

import (
	"encoding/json"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	v1 "github.com/containerd/cgroups/v3/cgroup1/stats"
	v2 "github.com/containerd/cgroups/v3/cgroup2/stats"
	"github.com/opencontainers/runtime-spec/specs-go"
	"github.com/opencontainers/runtime-spec/specs-go/features"
	"github.com/spf13/pflag"

	"gantry/runtime/cgroup"
	"gantry/runtime/validate"
)

// result is what a call of grun gave.
type result struct {
	status      int
	out, stderr string
}

// call runs a command line in this process.
func call(t *testing.T, stdin string, args ...string) result {
	t.Helper()
	dir := t.TempDir()
	file := func(name, text string) *os.File {
		f, err := os.Create(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		f.WriteString(text)
		f.Seek(0, 0)
		t.Cleanup(func() { f.Close() })
		return f
	}
	in, out, stderr := file("in", stdin), file("out", ""), file("err", "")
	status := execute(t.Context(), args, in, out, stderr)
	o, _ := os.ReadFile(out.Name())
	e, _ := os.ReadFile(stderr.Name())
	return result{status, string(o), string(e)}
}

func TestErrors(t *testing.T) {
	root := t.TempDir()
	empty := t.TempDir()
	terminal := t.TempDir()
	call(t, "", "spec", "--bundle", terminal)
	long := strings.Repeat("a", 1025)
	for _, c := range []struct{ line, want string }{
		{"bogus", `no command "bogus"`},
		{"--bogus list", "unknown flag: --bogus"},
		{"--log-format xml list", `--log-format: "xml" is neither text nor json`},
		{"--rootless maybe list", `--rootless: "maybe" is neither true nor false nor auto`},
		{"run --bogus x", "run: unknown flag: --bogus"},
		{"create", `grun: "create" requires exactly 1 argument(s)`},
		{"create a b", `grun: "create" requires exactly 1 argument(s)`},
		{"kill", `grun: "kill" requires a minimum of 1 argument(s)`},
		{"kill a b c", `grun: "kill" requires a maximum of 2 argument(s)`},
		{"list x", `grun: "list" requires exactly 0 argument(s)`},
		{"list --format yaml", `invalid format option "yaml"`},
		{"ps --format yaml x", `invalid format option "yaml"`},
		{"ps x -ef", "options of ps are not supported, the table is our own"},
		{"state nope", "container does not exist"},
		{"state ..", "invalid container ID format"},
		{"state " + long, "invalid container ID format"},
		{"start nope", "container does not exist"},
		{"kill nope", "container does not exist"},
		{"kill nope SIGFOO", `unknown signal "SIGFOO"`},
		{"kill nope 0", `unknown signal "0"`},
		{"delete nope", "container does not exist"},
		{"pause nope", "container does not exist"},
		{"resume nope", "container does not exist"},
		{"exec nope ls", "exec failed: container does not exist"},
		{"exec nope", "exec failed: process args cannot be empty"},
		{"exec --cgroup sub nope ls", "exec failed: --cgroup is not implemented"},
		{"events --interval 0s nope", "duration interval must be greater than 0"},
		{"events nope", "container does not exist"},
		{"update --cpu-share x nope", `--cpu-share: "x" is not a number that fits`},
		{"update --l3-cache-schema x nope", "--l3-cache-schema: not implemented"},
		{"update --blkio-weight 5 nope", "resources.blockIO.weight: 5 is not within 10 and 1000"},
		{"update --resources=/no/file nope", "open /no/file: no such file or directory"},
		{"create --bundle " + empty + " x", "grun create failed: JSON specification file " + empty + "/config.json not found"},
		{"create --bundle " + terminal + " x", "grun create failed: " + errConsoleWanted.Error()},
		{"run --detach --bundle " + terminal + " x", "grun run failed: " + errConsoleWanted.Error()},
		{"run --console-socket /s --bundle " + terminal + " x", "grun run failed: " + errConsoleUnwanted.Error()},
		{"checkpoint --help", "checkpoint is not implemented"},
		{"checkpoint --image-path /d --work-path /d x", "checkpoint is not implemented"},
		{"restore x", "restore is not implemented"},
		{"spec --bundle " + terminal, "file " + terminal + "/config.json exists, remove it first"},
	} {
		t.Run(c.line, func(t *testing.T) {
			log := filepath.Join(t.TempDir(), "log")
			args := append([]string{"--root", root, "--log", log, "--log-format", "json"}, strings.Fields(c.line)...)
			got := call(t, "", args...)
			var line struct{ Level, Msg, Time string }
			b, _ := os.ReadFile(log)
			if strings.HasPrefix(c.line, "--") { // the log is not yet configured, or was refused
				if got.status != 1 || !strings.Contains(got.stderr, "msg=") || !strings.Contains(strings.ReplaceAll(got.stderr, `\"`, `"`), c.want) {
					t.Errorf("%+v, want %q", got, c.want)
				}
				return
			}
			if err := json.Unmarshal(b, &line); err != nil {
				t.Fatalf("log %q: %v", b, err)
			}
			if _, err := time.Parse(time.RFC3339, line.Time); err != nil || line.Level != "error" || line.Msg != c.want {
				t.Errorf("log %+v, want %q", line, c.want)
			}
			if got.status != 1 || got.stderr != c.want+"\n" {
				t.Errorf("%+v, want status 1 and %q", got, c.want)
			}
		})
	}
}

func TestDeleteForceOfNone(t *testing.T) {
	got := call(t, "", "--root", t.TempDir(), "delete", "--force", "nope")
	if got.status != 0 || got.stderr != "container does not exist\n" {
		t.Errorf("%+v", got)
	}
	if got := call(t, "", "--root", t.TempDir(), "delete", "nope", "-f"); got.status != 0 {
		t.Errorf("flag after the id: %+v", got)
	}
}

func TestLogLines(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	l := newLogger(nil)
	if got := string(l.line(slog.LevelError, "a \"b\"\n<c>", at)); got != `time="2026-01-02T03:04:05Z" level=error msg="a \"b\"\n<c>"`+"\n" {
		t.Errorf("text %s", got)
	}
	l.json = true
	if got := string(l.line(slog.LevelWarn, "a \"b\"\n<c>", at)); got != `{"level":"warning","msg":"a \"b\"\n<c>","time":"2026-01-02T03:04:05Z"}`+"\n" {
		t.Errorf("json %s", got)
	}
}

func TestVersionAndHelp(t *testing.T) {
	got := call(t, "", "--version")
	lines := strings.Split(got.out, "\n")
	if got.status != 0 || !strings.HasPrefix(lines[0], "grun version ") || lines[2] != "spec: 1.3.0" {
		t.Errorf("%+v", got)
	}
	for _, args := range [][]string{{}, {"--help"}, {"help"}, {"run", "--help"}, {"exec", "-h"}} {
		if got := call(t, "", args...); got.status != 0 || !strings.Contains(got.out, "usage: grun") || got.stderr != "" {
			t.Errorf("%q: %+v", args, got)
		}
	}
}

func TestDefaultRoot(t *testing.T) {
	for _, c := range []struct {
		uid       int
		run, want string
	}{{0, "/run/user/0", "/run/grun"}, {7, "/run/user/7", "/run/user/7/grun"}, {7, "", "/run/grun"}} {
		if got := defaultRoot(c.uid, c.run); got != c.want {
			t.Errorf("%v: %s", c, got)
		}
	}
}

func TestSpec(t *testing.T) {
	for _, args := range [][]string{{"spec"}, {"spec", "--rootless"}} {
		dir := t.TempDir()
		if got := call(t, "", append(args, "-b", dir)...); got.status != 0 {
			t.Fatalf("%+v", got)
		}
		_, s, err := loadBundle(dir)
		if err != nil {
			t.Fatal(err)
		}
		if err := validate.Spec(s); err != nil {
			t.Errorf("%q: %v", args, err)
		}
	}
}

func TestFeatures(t *testing.T) {
	got := call(t, "", "features")
	var f features.Features
	if err := json.Unmarshal([]byte(got.out), &f); err != nil {
		t.Fatal(err)
	}
	if f.OCIVersionMax != specs.Version || len(f.Linux.Capabilities) != 41 || f.Linux.Capabilities[40] != "CAP_CHECKPOINT_RESTORE" {
		t.Errorf("%+v", f)
	}
}

func TestPrintList(t *testing.T) {
	states := []*containerState{{ID: "web", Pid: 7, Status: "running", Bundle: "/b", Created: time.Unix(0, 1).UTC(), Owner: "root"}}
	for _, c := range []struct {
		format string
		quiet  bool
		want   string
	}{
		{"table", true, "web\n"},
		{"table", false, "ID          PID         STATUS      BUNDLE      CREATED                          OWNER\n" +
			"web         7           running     /b          1970-01-01T00:00:00.000000001Z   root\n"},
		{"json", false, `[{"ociVersion":"","id":"web","pid":7,"status":"running","bundle":"/b","rootfs":"","created":"1970-01-01T00:00:00.000000001Z","owner":"root"}]` + "\n"},
	} {
		var b strings.Builder
		if err := printList(&b, states, c.format, c.quiet); err != nil || b.String() != c.want {
			t.Errorf("%v: %q", c, b.String())
		}
	}
	if got := call(t, "", "--root", t.TempDir(), "list", "-f", "json"); got.out != "[]\n" {
		t.Errorf("%+v", got)
	}
	if got := call(t, "", "--root", filepath.Join(t.TempDir(), "none"), "list", "-q"); got.status != 0 || got.out != "" {
		t.Errorf("%+v", got)
	}
}

func TestUpdateFlags(t *testing.T) {
	f := pflag.NewFlagSet("update", pflag.ContinueOnError)
	updateCommand.prepare(f)
	line := "--memory 64m --memory-swap -1 --memory-reservation 1024 --cpu-quota -1 --cpu-period 1000 --cpu-share 2 --cpu-burst 3 --cpu-idle 1 --cpuset-cpus 0-1 --cpuset-mems 0 --pids-limit -1 --blkio-weight 500 --cpu-rt-period 4 --cpu-rt-runtime 5"
	if err := f.Parse(strings.Fields(line)); err != nil {
		t.Fatal(err)
	}
	var r specs.LinuxResources
	if err := applyLimits(f, &r); err != nil {
		t.Fatal(err)
	}
	got, _ := json.Marshal(r)
	want := `{"memory":{"limit":67108864,"reservation":1024,"swap":-1},"cpu":{"shares":2,"quota":-1,"burst":3,"period":1000,"realtimeRuntime":5,"realtimePeriod":4,"cpus":"0-1","mems":"0","idle":1},"pids":{"limit":-1},"blockIO":{"weight":500}}`
	if string(got) != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	for _, bad := range []string{"--memory=x", "--blkio-weight=65536", "--cpu-share=-1", "--cpu-period=1.5"} {
		f := pflag.NewFlagSet("update", pflag.ContinueOnError)
		updateCommand.prepare(f)
		f.Parse([]string{bad})
		if applyLimits(f, &specs.LinuxResources{}) == nil {
			t.Errorf("%s is taken", bad)
		}
	}
}

func TestExecProcess(t *testing.T) {
	dir := t.TempDir()
	call(t, "", "spec", "-b", dir)
	build := func(line string) (*specs.Process, error) {
		f := pflag.NewFlagSet("exec", pflag.ContinueOnError)
		f.SetInterspersed(false)
		var o execFlags
		o.declare(f)
		if err := f.Parse(strings.Fields(line)); err != nil {
			t.Fatal(err)
		}
		return o.build(dir, f.Args())
	}
	p, err := build("-e A=b --env C=d,e -t -u 12:34 -g 5,6 -g 7 --cwd /tmp --cap CAP_KILL -c CAP_SYS_ADMIN --no-new-privs=false --apparmor prof ls -l -t")
	if err != nil {
		t.Fatal(err)
	}
	got, _ := json.Marshal(p)
	want := `{"terminal":true,"user":{"uid":12,"gid":34,"additionalGids":[5,6,7]},"args":["ls","-l","-t"],` +
		`"env":["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin","TERM=xterm","A=b","C=d,e"],"cwd":"/tmp",` +
		`"capabilities":{"bounding":["CAP_AUDIT_WRITE","CAP_KILL","CAP_NET_BIND_SERVICE","CAP_SYS_ADMIN"],` +
		`"effective":["CAP_AUDIT_WRITE","CAP_KILL","CAP_NET_BIND_SERVICE","CAP_SYS_ADMIN"],` +
		`"permitted":["CAP_AUDIT_WRITE","CAP_KILL","CAP_NET_BIND_SERVICE","CAP_SYS_ADMIN"]},` +
		`"rlimits":[{"type":"RLIMIT_NOFILE","hard":1024,"soft":1024}],"apparmorProfile":"prof"}`
	if string(got) != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	file := filepath.Join(dir, "process.json")
	os.WriteFile(file, []byte(`{"args":["x"],"cwd":"/","user":{"uid":1,"gid":1}}`), 0o600)
	if p, err := build("--process " + file + " --tty --user 9"); err != nil || p.Terminal || p.User.UID != 1 || p.Args[0] != "x" {
		t.Errorf("a process file stands alone: %+v, %v", p, err)
	}
	for _, bad := range []string{"-u root ls", "-u 1:x ls", "-u -1 ls", "-u 4294967296 ls"} {
		if _, err := build(bad); err == nil {
			t.Errorf("%s is taken", bad)
		}
	}
}

func TestParseStat(t *testing.T) {
	row, name, err := parseStat([]byte("7 (a) b (c) S 3 7 7 0 -1 4194304 1 2 3 4 150 50 0 0 20 0 1 0 1000 5 6"), time.Unix(100, 0))
	if err != nil || name != "a) b (c" || row.ppid != 3 || row.cpu != 2*time.Second || !row.started.Equal(time.Unix(110, 0)) {
		t.Errorf("%+v, %q, %v", row, name, err)
	}
	for _, bad := range []string{"", "7", "7 (a", "7 (a) S 1", ")("} {
		if _, _, err := parseStat([]byte(bad), time.Time{}); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
	own, err := readProc("/proc", os.Getpid())
	if err != nil || own.ppid != os.Getppid() || own.command == "" {
		t.Errorf("%+v, %v", own, err)
	}
	if got := hms(3*time.Hour + 4*time.Minute + 5*time.Second); got != "03:04:05" {
		t.Error(got)
	}
	if got := printable([]byte("a\x1b[31m\nb")); got != "a?[31m?b" {
		t.Errorf("%q", got)
	}
}

func TestStats(t *testing.T) {
	one := &cgroup.Stats{V1: &v1.Metrics{
		CPU:    &v1.CPUStat{Usage: &v1.CPUUsage{Total: 5}},
		Memory: &v1.MemoryStat{Usage: &v1.MemoryEntry{Usage: 6, Limit: 7}},
		Pids:   &v1.PidsStat{Current: 2},
	}}
	two := &cgroup.Stats{V2: &v2.Metrics{
		CPU:    &v2.CPUStat{UsageUsec: 5},
		Memory: &v2.MemoryStat{Usage: 6, UsageLimit: 7},
		Io:     &v2.IOStat{Usage: []*v2.IOEntry{{Major: 8, Rbytes: 9}}},
	}}
	if s := statsOf(one); s.CPU.Usage.Total != 5 || s.Memory.Usage.Usage != 6 || s.Memory.Usage.Limit != 7 || s.Pids.Current != 2 {
		t.Errorf("%+v", s)
	}
	if s := statsOf(two); s.CPU.Usage.Total != 5000 || s.Memory.Usage.Usage != 6 || s.Blkio.Bytes[0].Value != 9 {
		t.Errorf("%+v", s)
	}
	statsOf(&cgroup.Stats{V1: &v1.Metrics{}})
	statsOf(&cgroup.Stats{V2: &v2.Metrics{}})
}
