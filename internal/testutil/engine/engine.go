// Package engine runs the built gantryd on directories, a bridge and a socket of
// its own, and drives it with the real docker CLI.
package engine

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"gantry/internal/testutil/leak"
	"gantry/internal/testutil/need"
)

// Engine is a running gantryd. The zero value is not usable; see Start.
type Engine struct {
	Dir     string // holds data/, exec/ and the socket
	Bridge  string
	Subnet  string // of the bridge, "10.213.7"
	t       testing.TB
	args    []string
	docker  string
	machine *machine // nil on the test's own
	netns   string   // "" is the test's own
	env     []string
	on      *string // what it stands on; nil is what the environment says
	core    *core   // nil is in the daemon's process
	hidden  bool    // the core does not see our programs
	cmd     *exec.Cmd
	ended   chan struct{} // closed when cmd has ended
	log     *os.File
	before  leak.State // before the first launch
	idle    leak.State // with a daemon and no container
}

// serial makes names and subnets of engines in one test binary differ.
var serial atomic.Uint32

// DirVariable names, in the environment, the directory in which engines have theirs; it
// is /tmp without.
const DirVariable = "GANTRY_ENGINES"

// Start runs gantryd with further arguments and waits until it answers. At the end
// of the test its containers are removed, it is stopped, and nothing of it may be left.
func Start(t testing.TB, args ...string) *Engine {
	t.Helper()
	return start(t, &Engine{}, args...)
}

// StartIn is Start in a network namespace, given by its path, and with more in the
// environment. Links and firewall elements are not looked for at the end: they go with
// the namespace.
func StartIn(t testing.TB, netns string, env []string, args ...string) *Engine {
	t.Helper()
	return start(t, &Engine{netns: netns, env: env}, args...)
}

// start fills in what e, made with where it is to run, lacks.
func start(t testing.TB, e *Engine, args ...string) *Engine {
	t.Helper()
	need.Root(t, "runs real containers")
	if e.machine != nil && e.kindOfCore() != "" {
		t.Skip("the core would have to be on the engine's machine")
	}
	// A short path: unix sockets have 108 bytes.
	dir, err := os.MkdirTemp(cmp.Or(os.Getenv(DirVariable), "/tmp"), "gantry-")
	if err != nil {
		t.Fatal(err)
	}
	n := (uint32(os.Getpid())*16 + serial.Add(1)) % 62000
	e.Dir, e.t, e.args, e.docker = dir, t, args, need.Command(t, "docker")
	e.Bridge, e.Subnet = fmt.Sprintf("gt%d", n), fmt.Sprintf("10.%d.%d", 10+n/256, n%256)
	if e.log, err = os.Create(filepath.Join(dir, "log")); err != nil {
		t.Fatal(err)
	}
	e.before = leak.Take(dir, e.Bridge)
	t.Cleanup(e.close)
	if kind := e.kindOfCore(); kind != "" {
		e.makeCore(kind)
	}
	e.Launch()
	e.idle = leak.Take(dir, e.Bridge)
	return e
}

// Binary returns the path of one of the built programs.
func Binary(t testing.TB, name string) string {
	t.Helper()
	if dir := os.Getenv("GANTRY_BIN"); dir != "" {
		return filepath.Join(dir, name)
	}
	wd, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for ; wd != "/"; wd = filepath.Dir(wd) {
		if _, err := os.Stat(filepath.Join(wd, "go.mod")); err == nil {
			p := filepath.Join(wd, "bin", name)
			if _, err := os.Stat(p); err != nil {
				t.Fatalf("%s is not built: run make build", p)
			}
			return p
		}
	}
	t.Fatal("not inside the module")
	return ""
}

// Socket is the path of the API socket.
func (e *Engine) Socket() string { return filepath.Join(e.Dir, "docker.sock") }

// CoreSocket is the path of the core's gRPC socket.
func (e *Engine) CoreSocket() string { return filepath.Join(e.Dir, "exec", "core", "core.sock") }

// Launch starts the daemon's process, also again after Kill or Terminate.
func (e *Engine) Launch() {
	e.t.Helper()
	if err := e.TryLaunch(); err != nil {
		e.t.Fatalf("%v\n%s", err, e.Log())
	}
}

// TryLaunch is Launch with more in the environment, of a daemon that may end before it
// answers.
func (e *Engine) TryLaunch(env ...string) error {
	e.t.Helper()
	args := append([]string{
		"--data-root", filepath.Join(e.Dir, "data"), "--exec-root", filepath.Join(e.Dir, "exec"),
		"-H", "unix://" + e.Socket(), "--pidfile", filepath.Join(e.Dir, "pid"),
		"--config-file", filepath.Join(e.Dir, "daemon.json"),
		"--bridge", e.Bridge, "--bip", e.Subnet + ".1/24",
	}, e.args...)
	if e.core != nil {
		args = append(args, "--containerd", e.CoreSocket())
	}
	// So that the whole suite can be run on another runtime or with another option.
	args = append(args, strings.Fields(os.Getenv("GANTRY_TEST_ARGS"))...)
	if _, err := os.Stat(filepath.Join(e.Dir, "daemon.json")); errors.Is(err, os.ErrNotExist) {
		os.WriteFile(filepath.Join(e.Dir, "daemon.json"), []byte("{}"), 0o600)
	}
	if !e.inFile("debug") { // a setting may be given once
		args = append(args, "-D")
	}
	words := append([]string{Binary(e.t, "gantryd")}, args...)
	if e.machine != nil {
		var err error
		if words, err = e.machine.command(e.Dir, words[0], args); err != nil {
			e.t.Fatal(err)
		}
	}
	if e.netns != "" { // nsenter executes the program in its own place: the pid is the daemon's
		words = append([]string{need.Command(e.t, "nsenter"), "--net=" + e.netns}, words...)
	}
	e.cmd = exec.Command(words[0], words[1:]...)
	e.cmd.Stdout, e.cmd.Stderr = e.log, e.log
	e.cmd.Env = append(append(os.Environ(), e.env...), "GORACE=atexit_sleep_ms=0 log_path="+e.races()) // of daemon and shims built with -race
	e.cmd.Env = append(e.cmd.Env, env...)
	if err := e.cmd.Start(); err != nil {
		e.t.Fatal(err)
	}
	ended, cmd := make(chan struct{}), e.cmd
	e.ended = ended
	var exit error
	go func() { exit = cmd.Wait(); close(ended) }()
	deadline := time.After(30 * time.Second)
	for {
		if r, err := e.HTTP().Get("http://gantry/_ping"); err == nil {
			r.Body.Close()
			if r.StatusCode == http.StatusOK {
				return nil
			}
		}
		select {
		case <-ended:
			return fmt.Errorf("gantryd ended: %w", exit)
		case <-deadline:
			return errors.New("gantryd does not answer")
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// inFile says whether daemon.json has a key.
func (e *Engine) inFile(key string) bool {
	raw, _ := os.ReadFile(filepath.Join(e.Dir, "daemon.json"))
	return bytes.Contains(raw, []byte(strconv.Quote(key)))
}

// Ended is closed when the daemon's process of the last launch has ended.
func (e *Engine) Ended() <-chan struct{} { return e.ended }

// Place says where the engine's things and records are.
func (e *Engine) Place() leak.Place {
	return leak.Place{Dir: e.Dir, Bridge: e.Bridge, API: e.HTTP(), Core: e.CoreSocket()}
}

// PID of the daemon's process.
func (e *Engine) PID() int {
	if e.machine != nil {
		return e.machine.daemonPID(e.cmd.Process.Pid)
	}
	return e.cmd.Process.Pid
}

// Kill ends the daemon as a crash would.
func (e *Engine) Kill() { e.end(syscall.SIGKILL) }

// Terminate asks the daemon to end and waits until it has.
func (e *Engine) Terminate() { e.end(syscall.SIGTERM) }

func (e *Engine) end(sig syscall.Signal) {
	e.t.Helper()
	pid := e.cmd.Process.Pid
	syscall.Kill(e.PID(), sig)
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		if errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
			return
		}
	}
	e.t.Errorf("gantryd (pid %d) did not end on %v\n%s", pid, sig, e.Log())
	e.cmd.Process.Kill()
}

// Log is what the daemon has written so far, its end when it is long.
func (e *Engine) Log() string {
	return tail(e.log.Name())
}

// HTTP returns a client whose every request goes to the API socket.
func (e *Engine) HTTP() *http.Client {
	return &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", e.Socket())
		},
	}}
}

// Result is how a docker command ended.
type Result struct {
	Code           int
	Stdout, Stderr string
}

// Cmd prepares a docker command against this engine.
func (e *Engine) Cmd(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, e.docker, args...)
	cmd.Env = append(os.Environ(), "DOCKER_HOST=unix://"+e.Socket(), "DOCKER_CONFIG="+filepath.Join(e.Dir, "client"), "DOCKER_CONTEXT=")
	cmd.WaitDelay = 5 * time.Second
	return cmd
}

// Docker runs a docker command, at most 40 seconds.
func (e *Engine) Docker(args ...string) Result { return e.DockerIn("", args...) }

// DockerIn runs a docker command with stdin.
func (e *Engine) DockerIn(stdin string, args ...string) Result {
	e.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 40*time.Second)
	defer cancel()
	cmd := e.Cmd(ctx, args...)
	var out, errs bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &out, &errs
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) || ctx.Err() != nil {
		e.t.Fatalf("docker %s: %v\n%s\ndaemon:\n%s", strings.Join(args, " "), err, errs.String(), e.Log())
	}
	return Result{cmd.ProcessState.ExitCode(), out.String(), errs.String()}
}

// Must runs a docker command that must succeed and returns its trimmed stdout.
func (e *Engine) Must(args ...string) string {
	e.t.Helper()
	r := e.Docker(args...)
	if r.Code != 0 {
		e.t.Fatalf("docker %s: exit %d\n%s%s\ndaemon:\n%s", strings.Join(args, " "), r.Code, r.Stdout, r.Stderr, e.Log())
	}
	return strings.TrimSpace(r.Stdout)
}

// Load gives the engine an image from a docker-archive or OCI tar.
func (e *Engine) Load(tar []byte) {
	e.t.Helper()
	if r := e.DockerIn(string(tar), "load", "-q"); r.Code != 0 {
		e.t.Fatalf("docker load: %s\ndaemon:\n%s", r.Stderr, e.Log())
	}
}

// Clean removes every container and volume and checks that nothing of them is left.
func (e *Engine) Clean(t testing.TB) {
	t.Helper()
	if ids := strings.Fields(e.Docker("ps", "-aq").Stdout); len(ids) > 0 {
		if r := e.Docker(append([]string{"rm", "-fv"}, ids...)...); r.Code != 0 {
			t.Errorf("docker rm: %s", r.Stderr)
		}
	}
	e.Docker("volume", "prune", "-af")
	leak.Check(t, e.idle, e.Dir, e.Bridge)
}

// races is where programs built with -race write what they find, each to a file that
// ends in its pid.
func (e *Engine) races() string { return filepath.Join(e.Dir, "race") }

func (e *Engine) checkRaces() {
	found, _ := filepath.Glob(e.races() + ".*")
	for _, f := range found {
		raw, _ := os.ReadFile(f)
		e.t.Errorf("data race:\n%s", raw)
	}
}

func (e *Engine) close() {
	if e.cmd == nil || e.cmd.Process == nil {
		e.closeCore()
		return
	}
	if e.t.Failed() && errors.Is(syscall.Kill(e.cmd.Process.Pid, 0), syscall.ESRCH) {
		_ = e.TryLaunch() // to take away what the one that is gone has left
	}
	if syscall.Kill(e.cmd.Process.Pid, 0) == nil {
		e.Clean(e.t)
		e.Terminate()
	}
	if e.t.Failed() {
		e.t.Logf("the daemon's log:\n%s", e.Log())
	}
	e.closeCore()
	leak.Check(e.t, e.before, e.Dir, e.Bridge)
	leak.RemoveBridge(e.t, e.Bridge)
	e.checkRaces()
	e.log.Close()
	if err := os.RemoveAll(e.Dir); err != nil {
		e.t.Error(err)
	}
}

// Signal sends a signal, "HUP" for one, to the daemon.
func (e *Engine) Signal(name string) {
	e.t.Helper()
	if err := syscall.Kill(e.PID(), unix.SignalNum("SIG"+name)); err != nil {
		e.t.Fatal(err)
	}
}
