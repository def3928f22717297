package main

import (
	"encoding/json"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"github.com/opencontainers/runtime-spec/specs-go/features"
	"github.com/spf13/pflag"
	"golang.org/x/sys/unix"

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
	t.Cleanup(func() { unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0) }) // what run makes of us
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
		{"bogus", `No help topic for 'bogus'`},
		{"help bogus", `No help topic for 'bogus'`},
		{"--bogus list", "flag provided but not defined: -bogus"},
		{"--root / list", "Option --root argument should not be set to /"},
		{"--log-format xml list", `invalid log-format: xml`},
		{"--rootless maybe list", `--rootless: "maybe" is neither true nor false nor auto`},
		{"run --bogus x", "flag provided but not defined: -bogus"},
		{"run --bundle", "flag needs an argument: -bundle"},
		{"run --preserve-fds x y", `invalid value "x" for flag -preserve-fds: parse error`},
		{"run --keep=x y", `invalid boolean value "x" for -keep: parse error`},
		{"run ---keep y", `bad flag syntax: ---keep`},
		{"exec -dt x ls", "flag provided but not defined: -dt"},
		{"create", os.Args[0] + `: "create" requires exactly 1 argument(s)`},
		{"create a b", os.Args[0] + `: "create" requires exactly 1 argument(s)`},
		{"kill", os.Args[0] + `: "kill" requires a minimum of 1 argument(s)`},
		{"kill a b c", os.Args[0] + `: "kill" requires a maximum of 2 argument(s)`},
		{"list x", os.Args[0] + `: "list" requires exactly 0 argument(s)`},
		{"list --format yaml", `invalid format option`},
		{"ps --format yaml x", `container does not exist`},
		{"state nope", "container does not exist"},
		{"state ..", "invalid container ID format"},
		{"state " + long, "invalid container ID format"},
		{"start nope", "container does not exist"},
		{"kill nope", "container does not exist"},
		{"kill nope SIGFOO", `container does not exist`},
		{"delete nope", "container does not exist"},
		{"pause nope", "container does not exist"},
		{"resume nope", "container does not exist"},
		{"exec nope ls", "exec failed: container does not exist"},
		{"exec nope", "exec failed: container does not exist"},
		{"events --interval 0s nope", "duration interval must be greater than 0"},
		{"events nope", "container does not exist"},
		{"update --cpu-share x nope", `container does not exist`},
		{"create --bundle " + empty + " x", "grun create failed: JSON specification file " + empty + "/config.json not found"},
		{"create --bundle " + terminal + " x", "grun create failed: " + errConsoleWanted.Error()},
		{"run --detach --bundle " + terminal + " x", "grun run failed: " + errConsoleWanted.Error()},
		{"run --console-socket /s --bundle " + terminal + " x", "grun run failed: " + errConsoleUnwanted.Error()},
		{"spec --bundle " + terminal, "File config.json exists. Remove it first"},
	} {
		t.Run(c.line, func(t *testing.T) {
			log := filepath.Join(t.TempDir(), "log")
			args := append([]string{"--root", root, "--log", log, "--log-format", "json"}, strings.Fields(c.line)...)
			got := call(t, "", args...)
			var line struct{ Level, Msg, Time string }
			b, _ := os.ReadFile(log)
			status := statusOf(c.line)
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
			if got.status != status || got.stderr != c.want+"\n" {
				t.Errorf("%+v, want status %d and %q", got, status, c.want)
			}
		})
	}
}

// statusOf is the exit status of a command line that fails.
func statusOf(line string) int {
	switch {
	case strings.HasSuffix(line, "bogus"):
		return 3
	case strings.HasPrefix(line, "exec nope"):
		return 255
	}
	return 1
}

// TestIncorrectUsage: help on standard output goes with an error of the command line.
func TestIncorrectUsage(t *testing.T) {
	for line, want := range map[string]string{
		"--bogus":     "Incorrect Usage. flag provided but not defined: -bogus\n\nNAME:\n   grun - ",
		"run --bogus": "Incorrect Usage: flag provided but not defined: -bogus\n\nNAME:\n   grun run - ",
		"create":      "Incorrect Usage.\n\nNAME:\n   grun create - ",
	} {
		if got := call(t, "", strings.Fields(line)...); got.status != 1 || !strings.HasPrefix(got.out, want) {
			t.Errorf("%s: %+v", line, got)
		}
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
	if got := string(l.line(slog.LevelError, "one-word/a.b", at)); got != `time="2026-01-02T03:04:05Z" level=error msg=one-word/a.b`+"\n" {
		t.Errorf("text %s", got)
	}
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
	for _, args := range [][]string{{}, {"--help"}, {"-h"}, {"help"}, {"h"}, {"help", "kill"}, {"run", "--help"}, {"run", "x", "-help"}, {"exec", "-h"}} {
		if got := call(t, "", args...); got.status != 0 || !strings.Contains(got.out, "USAGE:\n   grun ") || got.stderr != "" {
			t.Errorf("%q: %+v", args, got)
		}
	}
}

func TestDefaultRoot(t *testing.T) {
	for want, callers := range map[string][]caller{
		"/run/grun":        {{runtimeDir: "/run/user/0"}, {uid: 7}, {userns: true, name: "root", runtimeDir: "/run/user/7"}},
		"/run/user/7/grun": {{uid: 7, runtimeDir: "/run/user/7"}, {userns: true, name: "me", runtimeDir: "/run/user/7"}},
	} {
		for _, c := range callers {
			if got := defaultRoot(c); got != want {
				t.Errorf("%+v: %s, want %s", c, got, want)
			}
		}
	}
}

func TestListening(t *testing.T) {
	for _, c := range []struct {
		pid, fds, names string
		n               int
		env             []string
	}{
		{strconv.Itoa(os.Getpid()), "2", "", 2, []string{"LISTEN_FDS=2", "LISTEN_PID=1"}},
		{strconv.Itoa(os.Getpid()), "1", "web", 1, []string{"LISTEN_FDS=1", "LISTEN_PID=1", "LISTEN_FDNAMES=web"}},
		{strconv.Itoa(os.Getpid()), "x", "", 0, nil},
		{strconv.Itoa(os.Getpid()), "-1", "", 0, nil},
		{strconv.Itoa(os.Getpid()), "99999999", "", 0, nil},
		{"1", "2", "", 0, nil}, // meant for another process
		{"", "2", "", 0, nil},
	} {
		t.Setenv("LISTEN_PID", c.pid)
		t.Setenv("LISTEN_FDS", c.fds)
		t.Setenv("LISTEN_FDNAMES", c.names)
		if n, env := listening(); n != c.n || !slices.Equal(env, c.env) {
			t.Errorf("%+v: %d, %q", c, n, env)
		}
	}
}

func TestSubCgroups(t *testing.T) {
	for _, c := range []struct {
		values []string
		want   map[string]string // nil: refused
	}{
		{nil, map[string]string{}},
		{[]string{"a/b"}, map[string]string{"": "a/b"}},
		{[]string{"/"}, map[string]string{"": "/"}},
		{[]string{"cpu,memory:a", "pids:b"}, map[string]string{"cpu": "a", "memory": "a", "pids": "b"}},
		{[]string{"cpu:a", "b"}, nil},
		{[]string{":a"}, nil},
		{[]string{"cpu,:a"}, nil},
		{[]string{"cpu:a", "cpu:b"}, nil},
	} {
		got, err := subCgroups(c.values)
		if (err == nil) != (c.want != nil) || err == nil && !maps.Equal(got, c.want) {
			t.Errorf("%q: %q, %v", c.values, got, err)
		}
	}
}

func TestReadiness(t *testing.T) {
	for in, want := range map[string]string{
		"READY=1": "READY=1", "STATUS=up\nREADY=1\nX=y": "READY=1", "STATUS=up": "", "XREADY=1": "", "": "",
	} {
		if got := string(readiness([]byte(in))); got != want {
			t.Errorf("%q: %q", in, got)
		}
	}
}

func TestParseSignal(t *testing.T) {
	for in, want := range map[string]unix.Signal{
		"9": 9, "0": 0, "KILL": 9, "SIGKILL": 9, "sigkill": 9, "term": 15, "64": 64, "RTMIN+1": 35,
	} {
		if got, err := parseSignal(in); got != want || err != nil {
			t.Errorf("%s: %d, %v", in, got, err)
		}
	}
	for _, bad := range []string{"SIGFOO", "", "9x"} {
		if _, err := parseSignal(bad); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}

func TestPsOfOwn(t *testing.T) {
	var b strings.Builder
	table := "UID  PID CMD\nroot   7 a b\nroot  77 c\nshort\n"
	if err := printOwn(&b, []byte(table), []int{7}); err != nil || b.String() != "UID  PID CMD\nroot   7 a b\n" {
		t.Errorf("%q, %v", b.String(), err)
	}
	if err := printOwn(&b, []byte("UID CMD\n"), nil); err == nil {
		t.Error("a table without pids is taken")
	}
}

func TestSpec(t *testing.T) {
	for _, args := range [][]string{{"spec"}, {"spec", "--rootless"}} {
		dir := t.TempDir()
		if got := call(t, "", append(args, "-b", dir)...); got.status != 0 {
			t.Fatalf("%+v", got)
		}
		_, s, _, err := loadBundle(dir)
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
	for what, list := range map[string][]string{
		"createContainer": f.Hooks, "rro": f.MountOptions, "tmpcopyup": f.MountOptions, "time": f.Linux.Namespaces,
		"SCMP_ACT_NOTIFY": f.Linux.Seccomp.Actions, "SCMP_CMP_MASKED_EQ": f.Linux.Seccomp.Operators, "SCMP_ARCH_X32": f.Linux.Seccomp.Archs,
		"SECCOMP_FILTER_FLAG_TSYNC": f.Linux.Seccomp.KnownFlags, "SECCOMP_FILTER_FLAG_LOG": f.Linux.Seccomp.SupportedFlags,
		"MPOL_LOCAL": f.Linux.MemoryPolicy.Modes, "MPOL_F_STATIC_NODES": f.Linux.MemoryPolicy.Flags,
		"org.criu.config": f.PotentiallyUnsafeConfigAnnotations,
	} {
		if !slices.Contains(list, what) {
			t.Errorf("%s is not in %v", what, list)
		}
	}
	for _, yes := range []*bool{f.Linux.Cgroup.V2, f.Linux.Seccomp.Enabled, f.Linux.Apparmor.Enabled, f.Linux.Selinux.Enabled,
		f.Linux.MountExtensions.IDMap.Enabled, f.Linux.IntelRdt.Enabled, f.Linux.IntelRdt.Schemata, f.Linux.IntelRdt.Monitoring, f.Linux.NetDevices.Enabled} {
		if yes == nil {
			t.Errorf("something is left open: %s", got.out)
		}
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
	if _, err := parse(f, strings.Fields(line), false); err != nil {
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
	for _, bad := range []string{"--memory=x", "--l3-cache-schema=L3:0=f", "--blkio-weight=65536", "--cpu-share=-1", "--cpu-period=1.5"} {
		f := pflag.NewFlagSet("update", pflag.ContinueOnError)
		updateCommand.prepare(f)
		parse(f, []string{bad}, false)
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
		var o execFlags
		o.declare(f)
		args, err := parse(f, strings.Fields(line), true)
		if err != nil {
			t.Fatal(err)
		}
		return o.build(dir, args)
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
	one := &cgroup.Stats{V1: &cgroup.StatsV1{
		Memory: &cgroup.MemoryV1{Usage: &cgroup.MemoryEntry{Usage: 6, Limit: 7}},
		Pids:   &cgroup.Pids{Current: 2},
	}}
	one.V1.CPU.Usage.Total = 5
	two := &cgroup.Stats{V2: &cgroup.StatsV2{
		CPU:    cgroup.CPUV2{UsageUsec: 5},
		Memory: &cgroup.MemoryV2{Usage: 6, UsageLimit: 7},
		Io:     &cgroup.IO{Usage: []cgroup.IOEntry{{Major: 8, Rbytes: 9}}},
	}}
	if s := statsOf(one); s.CPU.Usage.Total != 5 || s.Memory.Usage.Usage != 6 || s.Memory.Usage.Limit != 7 || s.Pids.Current != 2 {
		t.Errorf("%+v", s)
	}
	if s := statsOf(two); s.CPU.Usage.Total != 5000 || s.Memory.Usage.Usage != 6 || s.Blkio.Bytes[0].Value != 9 {
		t.Errorf("%+v", s)
	}
	statsOf(&cgroup.Stats{V1: &cgroup.StatsV1{}})
	statsOf(&cgroup.Stats{V2: &cgroup.StatsV2{}})
}
