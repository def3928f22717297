package integrationcli

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	eventsapi "github.com/containerd/containerd/api/events"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"gantry/internal/testutil/corealone"
	"gantry/internal/testutil/engine"
	"gantry/internal/testutil/need"
)

// has fails the test for each text that out lacks.
func has(t *testing.T, what, out string, texts ...string) {
	t.Helper()
	for _, text := range texts {
		if !strings.Contains(out, text) {
			t.Errorf("%s: no %q in\n%s", what, text, out)
		}
	}
}

// eventsOf collects what ctr events prints until the returned function is called.
func eventsOf(t *testing.T, c *corealone.Core) (stop func() string) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	cmd := c.Cmd(ctx, "events")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var seen bytes.Buffer
	first, done := make(chan struct{}), make(chan struct{})
	go func() { // ends with ctr
		defer close(done)
		r := bufio.NewReader(out)
		line, _ := r.ReadString('\n')
		seen.WriteString(line)
		close(first)
		_, _ = io.Copy(&seen, r)
	}()
	// ctr says nothing when it has subscribed: an event tells.
	eventually(t, "ctr hears events", func() bool {
		c.Ctr("namespaces", "create", "knock")
		c.Ctr("namespaces", "remove", "knock")
		select {
		case <-first:
			return true
		case <-time.After(50 * time.Millisecond):
			return false
		}
	})
	return func() string {
		time.Sleep(200 * time.Millisecond) // of what is on its way
		cancel()
		<-done
		_ = cmd.Wait()
		return seen.String()
	}
}

// TestCoreAlone is a user with Debian's ctr on "gantryd core".
func TestCoreAlone(t *testing.T) {
	c := corealone.Start(t)
	heard := eventsOf(t, c)
	name := c.Image()
	has(t, "plugins ls", c.Ctr("plugins", "ls"), "io.containerd.snapshotter.v1", "overlayfs", "io.containerd.runtime.v2", "io.containerd.shim.v1")
	if out := c.Ctr("plugins", "ls"); strings.Contains(out, "error") {
		t.Errorf("plugins ls:\n%s", out)
	}
	has(t, "plugins ls -d", c.Ctr("plugins", "ls", "-d", "id==overlayfs"), "rebase", "root", c.Dir)
	has(t, "images ls", c.Ctr("images", "ls"), name)
	has(t, "content ls", c.Ctr("content", "ls"), "sha256:")
	for _, runtime := range []string{"io.containerd.gantry.v2", "io.containerd.runc.v2", need.Command(t, "containerd-shim-runc-v2")} {
		if out := c.Ctr("run", "--rm", "--runtime", runtime, name, "once", "echo", "hello"); out != "hello\n" {
			t.Errorf("%s: run: %q", runtime, out)
		}
		c.Ctr("run", "-d", "--runtime", runtime, name, "c1", "sleep", "1000")
		has(t, "tasks ls", c.Ctr("tasks", "ls"), "c1", "RUNNING")
		if out := c.Ctr("tasks", "exec", "--exec-id", "x", "c1", "echo", "inside"); out != "inside\n" {
			t.Errorf("%s: exec: %q", runtime, out)
		}
		has(t, "snapshots ls", c.Ctr("snapshots", "ls"), "c1", "Committed")
		c.Remove("c1")
	}
	_, err := c.Try("run", "--rm", "--runtime", "io.containerd.gantry.v2", name, "coded", "sh", "-c", "exit 7")
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 7 {
		t.Errorf("exit code: %v", err)
	}
	has(t, "namespaces ls", c.Ctr("namespaces", "ls", "-q"), c.Namespace)
	c.Ctr("images", "rm", name)
	has(t, "events", heard(), "/containers/create", "/tasks/create", "/tasks/start", "/tasks/exec-started", "/tasks/exit", "/tasks/delete",
		"/containers/delete", "/snapshot/prepare", "/images/create", "/images/delete")
}

// TestCoreAloneDies kills the core, and stops it, under a running container: the next
// one has it, with its exit code, and execs in it.
func TestCoreAloneDies(t *testing.T) {
	c := corealone.Start(t)
	name := c.Image()
	c.Ctr("run", "-d", "--runtime", "io.containerd.gantry.v2", name, "lives", "sh", "-c", "trap 'exit 9' TERM; while :; do sleep 0.1; done")
	before := c.Ctr("tasks", "ls")
	for _, end := range []func(){c.Kill, c.Terminate} {
		end()
		c.Launch()
		if after := c.Ctr("tasks", "ls"); after != before || !strings.Contains(after, "RUNNING") {
			t.Errorf("tasks were\n%s\nand are\n%s", before, after)
		}
		if out := c.Ctr("tasks", "exec", "--exec-id", "x", "lives", "echo", "alive"); out != "alive\n" {
			t.Errorf("exec: %q", out)
		}
	}
	c.Kill()
	// It ends while nobody is there.
	pid := strings.Fields(before[strings.Index(before, "lives"):])[1]
	n, err := strconv.Atoi(pid)
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(n, syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the container has ended", func() bool { return errors.Is(syscall.Kill(n, 0), syscall.ESRCH) })
	c.Launch()
	has(t, "tasks rm", c.Ctr("tasks", "rm", "lives"), "non-zero exit code 9")
	c.Ctr("containers", "rm", "lives")
}

// TestCoreAloneConfiguration is a core on a file of containerd 1.x with imports, one of
// whose plugins fails and one of whose is disabled, and what it says of them.
func TestCoreAloneConfiguration(t *testing.T) {
	c := corealone.Start(t)
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(c.Dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	c.Terminate()
	write("file", "")
	write("core.toml", fmt.Sprintf(`root = %q
state = "/nowhere"
imports = ["more/*.toml"]
stranger = 1
[plugins.native]
root_path = %q
`, filepath.Join(c.Dir, "root"), filepath.Join(c.Dir, "file", "below")))
	if err := os.Mkdir(filepath.Join(c.Dir, "more"), 0o700); err != nil {
		t.Fatal(err)
	}
	write("more/1.toml", "version = 2\ndisabled_plugins = [\"io.containerd.grpc.v1.leases\"]\n[debug]\nformat = \"json\"\n[metrics]\naddress = \""+filepath.Join(c.Dir, "metrics.sock")+"\"\n")
	write("more/2.toml", fmt.Sprintf("version = 3\nstate = %q\n[debug]\naddress = %q\n", filepath.Join(c.Dir, "state"), filepath.Join(c.Dir, "debug.sock")))
	c.Launch()
	list := c.Ctr("plugins", "ls")
	for _, line := range strings.Split(list, "\n") {
		f := strings.Fields(line)
		if len(f) != 4 || f[0] == "TYPE" {
			continue
		}
		if failed := f[3] == "error"; failed != (f[1] == "native") {
			t.Errorf("plugins ls: %s", line)
		}
	}
	if strings.Contains(list, "leases") {
		t.Errorf("a disabled plugin is there:\n%s", list)
	}
	has(t, "plugins ls -d", c.Ctr("plugins", "ls", "-d", "id==native"), "not a directory")
	has(t, "log", c.Log(), "stranger", `"level":"WARN"`)
	for socket, want := range map[string]string{"debug.sock": "goroutine profile", "metrics.sock": "grpc_server_handled_total"} {
		path := map[string]string{"debug.sock": "/debug/pprof/goroutine?debug=1", "metrics.sock": "/v1/metrics"}[socket]
		out, err := exec.Command("curl", "-s", "--max-time", "10", "--unix-socket", filepath.Join(c.Dir, socket), "http://core"+path).Output()
		if err != nil || !strings.Contains(string(out), want) {
			t.Errorf("%s: %v\n%.300s", socket, err, out)
		}
	}
	dump, err := exec.Command(engine.Binary(t, "gantryd"), "core", "-c", filepath.Join(c.Dir, "core.toml"), "--root", "/flag", "config", "dump").Output()
	if err != nil {
		t.Fatal(err)
	}
	has(t, "config dump", string(dump), "version = 3", "root = '/flag'", "state = '"+c.Dir, "'io.containerd.grpc.v1.leases'", "format = 'json'")
	// A file that is damaged is named, with the place.
	c.Terminate()
	write("more/1.toml", "version = 2\n[debug\n")
	if err := c.TryLaunch(); err == nil {
		t.Error("it starts on a damaged file")
	}
	has(t, "log", c.Log(), "more/1.toml: line 2, column", "imported by "+c.Dir+"/core.toml")
	write("more/1.toml", "")
	c.Launch()
}

// TestCoreAloneSignals: a term before the core serves is heeded, USR1 tells what it is
// doing, a closed pipe is nothing, and a second core stays off the directories.
func TestCoreAloneSignals(t *testing.T) {
	c := corealone.Start(t, "[timeouts]", `"io.containerd.timeout.bolt.open" = "1s"`)
	c.Signal(syscall.SIGPIPE)
	c.Signal(syscall.SIGUSR1)
	eventually(t, "stacks are written", func() bool {
		found, _ := filepath.Glob(filepath.Join(c.Dir, "state", "goroutine-stacks-*.log"))
		return len(found) == 1
	})
	second := exec.Command(engine.Binary(t, "gantryd"), "core", "-c", filepath.Join(c.Dir, "core.toml"), "-a", filepath.Join(c.Dir, "other.sock"))
	if out, err := second.CombinedOutput(); err == nil || !strings.Contains(string(out), "is in use by another core") {
		t.Errorf("a second core: %v\n%s", err, out)
	}
	c.Ctr("version")
	c.Terminate()
	if _, err := os.Stat(c.Socket()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("socket: %v", err)
	}
	// One that waits for the directory is told to end.
	dir, err := os.Open(filepath.Join(c.Dir, "root"))
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	if err := syscall.Flock(int(dir.Fd()), syscall.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	c.Configure("[timeouts]", `"io.containerd.timeout.bolt.open" = "0s"`)
	early := exec.Command(engine.Binary(t, "gantryd"), "core", "-c", filepath.Join(c.Dir, "core.toml"), "-a", c.Socket())
	stderr, err := early.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := early.Start(); err != nil {
		t.Fatal(err)
	}
	line, _ := bufio.NewReader(stderr).ReadString('\n') // it logs that it starts
	_ = early.Process.Signal(syscall.SIGTERM)
	ended := make(chan error, 1)
	go func() { ended <- early.Wait() }()
	select {
	case <-ended:
	case <-time.After(20 * time.Second):
		t.Errorf("it does not end; it began with %q", line)
		_ = early.Process.Kill()
	}
	dir.Close()
	c.Launch()
}

// TestCoreAloneRestarts: a container whose labels want it running is started again, as
// nerdctl's --restart has it.
func TestCoreAloneRestarts(t *testing.T) {
	c := corealone.Start(t, `[plugins."io.containerd.monitor.container.v1.restart"]`, `interval = "300ms"`)
	out := filepath.Join(c.Dir, "output")
	c.Ctr("run", "-d", "--runtime", "io.containerd.gantry.v2", "--label", "containerd.io/restart.policy=on-failure:2",
		"--label", "containerd.io/restart.loguri=file://"+out, c.Image(), "fails", "sh", "-c", "echo ran; exit 3")
	c.Ctr("containers", "label", "fails", "containerd.io/restart.status=running")
	eventually(t, "it has been restarted twice", func() bool { // the first run wrote elsewhere
		text, _ := os.ReadFile(out)
		return string(text) == "ran\nran\n" && strings.Contains(c.Ctr("tasks", "ls"), "STOPPED")
	})
	time.Sleep(time.Second) // three looks
	if text, err := os.ReadFile(out); err != nil || string(text) != "ran\nran\n" {
		t.Errorf("output %q, %v", text, err)
	}
	has(t, "containers info", c.Ctr("containers", "info", "fails"), `"containerd.io/restart.count": "2"`)
	c.Remove("fails")
}

// TestCoreAlonePublish is what a shim without ttrpc does: the core's executable is
// called with the event on stdin.
func TestCoreAlonePublish(t *testing.T) {
	c := corealone.Start(t)
	heard := eventsOf(t, c)
	event, err := anypb.New(&eventsapi.TaskOOM{ContainerID: "of-a-shim"})
	if err != nil {
		t.Fatal(err)
	}
	event.TypeUrl = "containerd.events.TaskOOM"
	data, err := proto.Marshal(event)
	if err != nil {
		t.Fatal(err)
	}
	publish := func(stdin []byte, args ...string) (string, error) {
		cmd := exec.Command(engine.Binary(t, "gantryd"), args...)
		cmd.Stdin = bytes.NewReader(stdin)
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	for _, args := range [][]string{
		{"--address", c.Socket(), "publish", "--topic", "/tasks/oom", "--namespace", "shims"},
		{"core", "-a", c.Socket(), "publish", "--topic", "/tasks/oom", "--namespace", "shims"},
	} {
		if out, err := publish(data, args...); err != nil {
			t.Errorf("%v: %v\n%s", args, err, out)
		}
	}
	if n := strings.Count(heard(), "of-a-shim"); n != 2 {
		t.Errorf("heard %d times", n)
	}
	for want, args := range map[string][]string{
		"a topic is needed": {"--address", c.Socket(), "publish", "--namespace", "shims"},
		"namespace":         {"--address", c.Socket(), "publish", "--topic", "/x"},
		"no core listens":   {"--address", c.Socket() + ".not", "publish", "--topic", "/x", "--namespace", "shims"},
	} {
		if out, err := publish(data, args...); err == nil || !strings.Contains(out, want) {
			t.Errorf("%v: %v\n%s", args, err, out)
		}
	}
	if out, err := publish([]byte("\xff\xff"), "--address", c.Socket(), "publish", "--topic", "/x", "--namespace", "n"); err == nil {
		t.Errorf("garbage: %s", out)
	}
}

// TestCoreAloneReaps: a core that is a subreaper takes the ends of orphans, and none of
// those that it waits for itself.
func TestCoreAloneReaps(t *testing.T) {
	c := corealone.Start(t, "subreaper = true", "oom_score = 17")
	score, err := os.ReadFile("/proc/" + strconv.Itoa(c.PID()) + "/oom_score_adj")
	if err != nil || strings.TrimSpace(string(score)) != "17" {
		t.Errorf("oom score %s, %v", score, err)
	}
	name, runcs := c.Image(), need.Command(t, "containerd-shim-runc-v2")
	for range 3 { // runc's shims are orphans when the binary that has started them ends
		if out := c.Ctr("run", "--rm", "--runtime", runcs, name, "short", "echo", "x"); out != "x\n" {
			t.Errorf("run: %q", out)
		}
		if out := c.Ctr("run", "--rm", "--runtime", "io.containerd.gantry.v2", name, "ours", "echo", "x"); out != "x\n" {
			t.Errorf("run: %q", out)
		}
	}
	has(t, "log", c.Log(), "orphan ended")
	eventually(t, "no zombie is left", func() bool {
		lists, _ := filepath.Glob("/proc/" + strconv.Itoa(c.PID()) + "/task/*/children")
		for _, list := range lists {
			pids, _ := os.ReadFile(list)
			for _, pid := range strings.Fields(string(pids)) {
				if stat, err := os.ReadFile("/proc/" + pid + "/stat"); err == nil && strings.Contains(string(stat), ") Z ") {
					return false
				}
			}
		}
		return true
	})
	if strings.Contains(c.Log(), "no child processes") {
		t.Errorf("an end was taken from who waited for it:\n%s", c.Log())
	}
}
