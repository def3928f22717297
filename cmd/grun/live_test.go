package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/containerd/console"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// host is a built grun with a state root and a bundle of its own.
type host struct {
	t                *testing.T
	grun, root, b, n string // binary, state root, bundle, container name
}

// build builds grun, or takes that of GANTRY_BIN where there is no Go.
var build = sync.OnceValues(func() (string, error) {
	if _, err := exec.LookPath("go"); err != nil {
		return exec.LookPath(filepath.Join(os.Getenv("GANTRY_BIN"), "grun"))
	}
	dir, err := os.MkdirTemp("", "grun")
	if err != nil {
		return "", err
	}
	built = dir
	cmd := exec.Command("go", "build", "-o", dir, ".")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("%w: %s", err, out)
	}
	return filepath.Join(dir, "grun"), nil
})

var built string // directory to remove

func TestMain(m *testing.M) {
	status := m.Run()
	if built != "" {
		os.RemoveAll(built)
	}
	os.Exit(status)
}

// newHost gives a bundle of busybox whose process runs script.
func newHost(t *testing.T, script string, edit func(*specs.Spec)) *host {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root: runs containers")
	}
	busybox, err := os.ReadFile("/bin/busybox")
	if err != nil {
		t.Skip("needs a static busybox:", err)
	}
	grun, err := build()
	if err != nil {
		t.Fatal(err)
	}
	h := &host{t, grun, t.TempDir(), t.TempDir(), "grun-test-" + strconv.Itoa(os.Getpid())}
	os.Chmod(filepath.Dir(h.b), 0o755) // users of the container's must get there
	bin := filepath.Join(h.b, "rootfs", "bin")
	os.MkdirAll(bin, 0o755)
	os.WriteFile(filepath.Join(bin, "busybox"), busybox, 0o755)
	for _, name := range []string{"sh", "cat", "sleep", "id", "stty", "tty", "ls"} {
		os.Symlink("busybox", filepath.Join(bin, name))
	}
	s := exampleSpec()
	s.Process.Terminal, s.Process.Args = false, []string{"sh", "-c", script}
	if edit != nil {
		edit(s)
	}
	if err := writeSpec(filepath.Join(h.b, configName), s); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.nothingLeft)
	return h
}

func (h *host) nothingLeft() {
	exec.Command(h.grun, "--root", h.root, "delete", "-f", h.n).Run()
	if left, _ := os.ReadDir(h.root); len(left) != 0 {
		h.t.Errorf("state left: %v", left)
	}
	if left, _ := filepath.Glob("/sys/fs/cgroup/*/" + h.n); len(left) != 0 {
		h.t.Errorf("cgroups left: %v", left)
	}
}

func (h *host) cmd(args ...string) *exec.Cmd {
	cmd := exec.CommandContext(h.t.Context(), h.grun, append([]string{"--root", h.root}, args...)...)
	cmd.WaitDelay = 10 * time.Second
	return cmd
}

// call runs grun with pipes and gives status and output.
func (h *host) call(stdin string, args ...string) result {
	h.t.Helper()
	cmd := h.cmd(args...)
	var out, stderr bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &out, &stderr
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		h.t.Fatal(err)
	}
	return result{cmd.ProcessState.ExitCode(), out.String(), stderr.String()}
}

// detached is call for what leaves a process behind, which would keep our pipes.
func (h *host) detached(args ...string) result {
	h.t.Helper()
	stderr, err := os.CreateTemp(h.t.TempDir(), "stderr")
	if err != nil {
		h.t.Fatal(err)
	}
	defer stderr.Close()
	cmd := h.cmd(args...)
	cmd.Stderr = stderr
	var exit *exec.ExitError
	if err := cmd.Run(); err != nil && !errors.As(err, &exit) {
		h.t.Fatal(err)
	}
	text, _ := os.ReadFile(stderr.Name())
	return result{cmd.ProcessState.ExitCode(), "", string(text)}
}

func (h *host) want(got, want result) {
	h.t.Helper()
	if got != want {
		h.t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

func TestRun(t *testing.T) {
	for _, c := range []struct {
		script, stdin string
		want          result
	}{
		{"echo out; echo err >&2; exit 42", "", result{42, "out\n", "err\n"}},
		{"cat; echo end", "input\n", result{0, "input\nend\n", ""}},
		{"kill -9 1; exit 3", "", result{3, "", ""}}, // process 1 can't kill itself
		{"(sleep 100; echo late) & exit 0", "", result{0, "", ""}},
	} {
		t.Run(c.script, func(t *testing.T) {
			h := newHost(t, c.script, nil)
			h.want(h.call(c.stdin, "run", "--bundle", h.b, h.n), c.want)
		})
	}
}

func TestRunOutputIsWhole(t *testing.T) {
	h := newHost(t, "i=0; while [ $i -lt 20000 ]; do echo 0123456789; i=$((i+1)); done", nil)
	if got := h.call("", "run", "-b", h.b, h.n); len(got.out) != 220000 || got.status != 0 {
		t.Errorf("status %d, %d bytes, %s", got.status, len(got.out), got.stderr)
	}
}

// runReady runs the container in the foreground until it has said that it is ready.
func (h *host) runReady() (*exec.Cmd, *bufio.Reader) {
	h.t.Helper()
	cmd := h.cmd("run", "-b", h.b, h.n)
	out, _ := cmd.StdoutPipe()
	if err := cmd.Start(); err != nil {
		h.t.Fatal(err)
	}
	r := bufio.NewReader(out)
	if line, err := r.ReadString('\n'); line != "ready\n" {
		h.t.Fatal(line, err)
	}
	return cmd, r
}

func TestRunForwardsSignals(t *testing.T) {
	h := newHost(t, "trap 'echo got; exit 9' TERM; echo ready; while :; do sleep 0.05; done", nil)
	cmd, r := h.runReady()
	cmd.Process.Signal(unix.SIGTERM)
	rest, _ := io.ReadAll(r)
	cmd.Wait()
	if got := cmd.ProcessState.ExitCode(); got != 9 || string(rest) != "got\n" {
		t.Errorf("status %d, %q", got, rest)
	}
}

// TestRunForwardsLateSignals: one of real time, too, when the process has run for a while.
func TestRunForwardsLateSignals(t *testing.T) {
	h := newHost(t, "trap 'echo got; exit 9' 37; echo ready; while :; do sleep 0.05; done", nil)
	cmd, r := h.runReady()
	over := make(chan []byte)
	go func() { rest, _ := io.ReadAll(r); over <- rest }()
	for {
		cmd.Process.Signal(syscall.Signal(37)) // dropped until grun takes it
		select {
		case rest := <-over:
			cmd.Wait()
			if got := cmd.ProcessState.ExitCode(); got != 9 || !strings.HasPrefix(string(rest), "got\n") {
				t.Errorf("status %d, %q", got, rest)
			}
			return
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// terminal is one of 33 lines and 77 columns.
func terminal(t *testing.T) (master console.Console, slave *os.File) {
	t.Helper()
	master, name, err := console.NewPty()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { master.Close() })
	master.Resize(console.WinSize{Height: 33, Width: 77})
	slave, err = os.OpenFile(name, os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { slave.Close() })
	return master, slave
}

// TestRunTerminalResized: a size that our terminal gets later is theirs too, also
// when our standard input is none.
func TestRunTerminalResized(t *testing.T) {
	h := newHost(t, "while [ \"$(stty size < /dev/tty)\" != '44 99' ]; do sleep 0.02; done; exit 4", func(s *specs.Spec) { s.Process.Terminal = true })
	master, slave := terminal(t)
	pidFile := filepath.Join(t.TempDir(), "pid")
	cmd := h.cmd("run", "-b", h.b, "--pid-file", pidFile, h.n)
	cmd.Stdout, cmd.Stderr = slave, slave
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true, Ctty: 1}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	wait(t, func() bool { _, err := os.Stat(pidFile); return err == nil })
	master.Resize(console.WinSize{Height: 44, Width: 99})
	cmd.Wait()
	if got := cmd.ProcessState.ExitCode(); got != 4 {
		t.Errorf("status %d", got)
	}
}

// TestRunTerminal: our terminal goes raw and lends its size; theirs is a new one.
func TestRunTerminal(t *testing.T) {
	h := newHost(t, "tty; stty size; read x; echo \"<$x>\"; exit 4", func(s *specs.Spec) { s.Process.Terminal = true })
	master, slave := terminal(t)
	cmd := h.cmd("run", "-b", h.b, h.n)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = slave, slave, slave
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	r := bufio.NewReader(master)
	for _, want := range []string{"/dev/pts/0\r\n", "33 77\r\n"} {
		if line, err := r.ReadString('\n'); line != want {
			t.Errorf("line %q, %v; want %q", line, err, want)
		}
	}
	master.Write([]byte("typed\r"))
	for _, want := range []string{"typed\r\n", "<typed>\r\n"} { // once: only their terminal echoes
		if line, err := r.ReadString('\n'); line != want {
			t.Errorf("line %q, %v; want %q", line, err, want)
		}
	}
	cmd.Wait()
	if got := cmd.ProcessState.ExitCode(); got != 4 {
		t.Errorf("status %d", got)
	}
	if termios, err := unix.IoctlGetTermios(int(slave.Fd()), unix.TCGETS); err != nil || termios.Lflag&unix.ECHO == 0 {
		t.Error("our terminal stays raw", err)
	}
}

func TestRunErrors(t *testing.T) {
	for _, c := range []struct {
		name string
		edit func(*specs.Spec)
		want string
	}{
		{"no such command", func(s *specs.Spec) { s.Process.Args = []string{"nope"} },
			`grun run failed: unable to start container process: error during container init: exec: "nope": executable file not found in $PATH`},
		{"not executable", func(s *specs.Spec) { s.Process.Args = []string{"/bin"} },
			`grun run failed: unable to start container process: error during container init: exec: "/bin": is a directory`},
		{"bad spec", func(s *specs.Spec) { s.Process.Cwd = "x" },
			`grun run failed: unable to start container process: process.cwd: "x" is not absolute`},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := newHost(t, "true", c.edit)
			log := filepath.Join(t.TempDir(), "log")
			got := h.call("", "--log", log, "--log-format", "json", "run", "-b", h.b, h.n)
			h.want(got, result{1, "", c.want + "\n"})
			var line struct{ Level, Msg string }
			b, _ := os.ReadFile(log)
			if err := json.Unmarshal(b, &line); err != nil || line.Level != "error" || line.Msg != c.want {
				t.Errorf("log %s", b)
			}
		})
	}
}

func TestPreserveFDs(t *testing.T) {
	h := newHost(t, "cat <&4; echo $LISTEN_FDS $LISTEN_PID", nil)
	read, write, _ := os.Pipe()
	write.WriteString("through 4\n")
	write.Close()
	null, _ := os.Open(os.DevNull)
	cmd := exec.Command("sh", "-c", `LISTEN_PID=$$ exec "$0" --root "$1" run --preserve-fds 1 -b "$2" "$3"`, h.grun, h.root, h.b, h.n)
	cmd.ExtraFiles = []*os.File{null, read}
	cmd.Env = append(os.Environ(), "LISTEN_FDS=1")
	out, err := cmd.CombinedOutput()
	if string(out) != "through 4\n1 1\n" {
		t.Errorf("%q, %v", out, err)
	}
}

// adopt has grun's orphans come to us, for this test alone: a pid namespace does not
// end before its last process has been waited for.
func adopt(t *testing.T) {
	t.Helper()
	if err := becomeSubreaper(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0) })
}

// TestLifecycle walks the way of a container manager's calls.
func TestLifecycle(t *testing.T) {
	h := newHost(t, "trap 'exit 3' TERM; while :; do sleep 0.05; done", nil)
	adopt(t)
	pidFile := filepath.Join(t.TempDir(), "init.pid")
	create := h.cmd("create", "--bundle", h.b, "--pid-file", pidFile, h.n)
	if err := create.Run(); err != nil {
		t.Fatal(err)
	}
	b, _ := os.ReadFile(pidFile)
	pid, err := strconv.Atoi(string(b))
	if err != nil {
		t.Fatal(err)
	}
	status := func(want specs.ContainerState) {
		t.Helper()
		var s containerState
		got := h.call("", "state", h.n)
		if err := json.Unmarshal([]byte(got.out), &s); err != nil || s.Status != want || s.ID != h.n || s.Bundle != h.b {
			t.Errorf("state %+v, want %s", got, want)
		}
	}
	ok := result{}
	status("created")
	h.want(h.call("", "create", "--bundle", h.b, h.n).class(), result{status: 1})
	h.want(h.call("", "start", h.n), ok)
	status("running")
	h.want(h.call("", "start", h.n).class(), result{status: 1})
	h.want(h.call("", "exec", h.n, "sh", "-c", "echo in; echo err >&2; exit 5"), result{5, "in\n", "err\n"})
	h.want(h.call("data", "exec", h.n, "cat"), result{0, "data", ""})
	h.want(h.call("", "exec", h.n, "sh", "-c", "kill -9 $$"), result{status: 137})
	h.want(h.call("", "exec", "-t", h.n, "tty"), result{0, "/dev/pts/0\n", ""})
	h.want(h.call("", "exec", "-u", "7:8", "-e", "A=b", "--cwd", "/bin", h.n, "sh", "-c", "id -u; id -g; echo $A $PWD"), result{0, "7\n8\nb /bin\n", ""})
	if got := h.call("", "exec", h.n, "nope"); got.status != 255 || !strings.Contains(got.stderr, `exec failed: unable to start container process: exec: \"nope\": executable file not found in $PATH`) {
		t.Errorf("%+v", got)
	}
	h.want(h.call("", "list", "-q"), result{0, h.n + "\n", ""})
	if got := h.call("", "ps", "-f", "json", h.n); !strings.HasPrefix(got.out, fmt.Sprintf("[%d", pid)) {
		t.Errorf("%+v, want %d", got, pid)
	}
	h.want(h.call("", "pause", h.n), ok)
	status("paused")
	h.want(h.call("", "exec", h.n, "ls").class(), result{status: 255})
	h.want(h.call("", "resume", h.n), ok)
	h.want(h.call(`{"pids":{"limit":77}}`, "update", "--resources=-", h.n), ok)
	h.want(h.call("", "update", "--memory", "64m", h.n), ok)
	var ev struct {
		Type, ID string
		Data     stats
	}
	if err := json.Unmarshal([]byte(h.call("", "events", "--stats", h.n).out), &ev); err != nil || ev.Data.Pids.Limit != 77 || ev.Data.Memory.Usage.Limit != 64<<20 {
		t.Errorf("events %+v, %v", ev, err)
	}
	h.want(h.call("", "delete", h.n).class(), result{status: 1})
	h.want(h.call("", "kill", h.n, "15"), ok)
	var ws unix.WaitStatus
	if got, err := unix.Wait4(pid, &ws, 0, nil); got != pid || ws.ExitStatus() != 3 {
		t.Errorf("wait %d, %v, status %d", got, err, ws.ExitStatus())
	}
	status("stopped")
	got := h.call("", "kill", h.n)
	h.want(got.class(), result{status: 1})
	if !strings.Contains(got.stderr, "container not running") {
		t.Errorf("%+v", got)
	}
	h.want(h.call("", "kill", "--all", h.n, "9"), ok)
	h.want(h.call("", "delete", h.n), ok)
	h.want(h.call("", "delete", "--force", h.n), result{0, "", "container does not exist\n"})
}

// class drops the texts.
func (r result) class() result { return result{status: r.status} }

func TestConsoleSocketOfCreate(t *testing.T) {
	h := newHost(t, "tty", func(s *specs.Spec) { s.Process.Terminal = true })
	adopt(t)
	dir := t.TempDir()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(dir, "s"), Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	h.want(h.call("", "create", "-b", h.b, "--console-socket", filepath.Join(dir, "s"), "--pid-file", filepath.Join(dir, "pid"), h.n), result{})
	conn, err := l.AcceptUnix()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	buf, oob := make([]byte, 4096), make([]byte, unix.CmsgSpace(4))
	n, oobn, _, _, err := conn.ReadMsgUnix(buf, oob)
	if err != nil || n == 0 {
		t.Fatal(n, err)
	}
	cmsgs, _ := unix.ParseSocketControlMessage(oob[:oobn])
	fds, err := unix.ParseUnixRights(&cmsgs[0])
	if err != nil {
		t.Fatal(err)
	}
	master := os.NewFile(uintptr(fds[0]), "master")
	defer master.Close()
	h.want(h.call("", "start", h.n), result{})
	if line, err := bufio.NewReader(master).ReadString('\n'); line != "/dev/pts/0\r\n" {
		t.Errorf("%q, %v", line, err)
	}
	b, _ := os.ReadFile(filepath.Join(dir, "pid"))
	pid, _ := strconv.Atoi(string(b))
	unix.Wait4(pid, nil, 0, nil)
	h.want(h.call("", "delete", h.n), result{})
}

func TestPlan(t *testing.T) {
	h := newHost(t, "true", nil)
	got := h.call("", "plan", "--bundle", h.b)
	if got.status != 0 || !strings.HasPrefix(got.out, "clone NEWPID|NEWNS") || !strings.Contains(got.out, "execve") {
		t.Errorf("%+v", got)
	}
}
