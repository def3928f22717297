package integrationcli

import (
	"bytes"
	"context"
	"io"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/containerd/console"

	"gantry/internal/testutil/engine"
)

func itoa(n int) string { return strconv.Itoa(n) }

func TestLogs(t *testing.T) {
	e := start(t)
	e.Must("run", "--name", "l1", image, "sh", "-c", "for i in 1 2 3 4 5; do echo line $i; done; sleep 0.2; echo bad >&2")
	run(t, e, nil)
	for args, want := range map[string]string{
		"":                   "line 1\nline 2\nline 3\nline 4\nline 5",
		"--tail 2":           "line 5", // the last of both streams
		"--tail 0":           "",
		"--since 1h":         "line 1\nline 2\nline 3\nline 4\nline 5",
		"--until 1h":         "",
		"-f":                 "line 1\nline 2\nline 3\nline 4\nline 5",
		"--since 2099-01-01": "",
	} {
		r := e.Docker(append(append([]string{"logs"}, strings.Fields(args)...), "l1")...)
		if got := strings.TrimSpace(r.Stdout); r.Code != 0 || got != want {
			t.Errorf("logs %s: %d %q, want %q (%s)", args, r.Code, got, want, r.Stderr)
		}
	}
	if r := e.Docker("logs", "l1"); r.Stderr != "bad\n" {
		t.Errorf("stderr %q", r.Stderr)
	}
	stamped := strings.Fields(e.Must("logs", "-t", "--tail", "2", "l1"))
	if _, err := time.Parse(time.RFC3339Nano, stamped[0]); err != nil {
		t.Error(err)
	}
	e.Must("run", "-d", "--name", "f1", image, "sh", "-c", "for i in 1 2 3; do echo $i; sleep 0.2; done")
	if got := e.Must("logs", "-f", "f1"); got != "1\n2\n3" {
		t.Errorf("followed %q", got)
	}
	if r := e.Docker("run", "--name", "n1", "--log-driver", "none", image, "echo", "hi"); r.Stdout != "hi\n" {
		t.Errorf("without a log the attached client got %q", r.Stdout)
	}
	if r := e.Docker("logs", "n1"); r.Code == 0 || !strings.Contains(r.Stderr, "configured logging driver does not support reading") {
		t.Errorf("logs of driver none: %s", r.Stderr)
	}
	e.Must("run", "--name", "rot", "--log-opt", "max-size=4k", "--log-opt", "max-file=3", image, "sh", "-c", "i=0; while [ $i -lt 300 ]; do echo line $i; i=$((i+1)); done")
	got := strings.Split(e.Must("logs", "rot"), "\n")
	if got[len(got)-1] != "line 299" || len(got) < 50 || len(got) > 250 {
		t.Errorf("a rotated log has %d lines and ends in %q", len(got), got[len(got)-1])
	}
	for i := 1; i < len(got); i++ {
		a, _ := strconv.Atoi(strings.TrimPrefix(got[i-1], "line "))
		b, _ := strconv.Atoi(strings.TrimPrefix(got[i], "line "))
		if b != a+1 {
			t.Fatalf("after %q comes %q", got[i-1], got[i])
		}
	}
}

// TestStreamsWhole sends much through attach and logs and loses no byte.
func TestStreamsWhole(t *testing.T) {
	e := start(t)
	const script = "i=0; while [ $i -lt 40 ]; do yes 0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef | head -n 1000; i=$((i+1)); done"
	r := e.Docker("run", "--name", "big", image, "sh", "-c", script)
	if want := 40 * 1000 * 65; len(r.Stdout) != want {
		t.Errorf("attached: %d bytes, want %d", len(r.Stdout), want)
	}
	if got := e.Docker("logs", "big").Stdout; got != r.Stdout {
		t.Errorf("logs: %d bytes, attached %d", len(got), len(r.Stdout))
	}
	in := strings.Repeat("some text on its way\n", 100_000)
	if got := e.DockerIn(in, "run", "--rm", "-i", image, "cat"); got.Stdout != in {
		t.Errorf("through cat: %d bytes, want %d", len(got.Stdout), len(in))
	}
}

func TestAttach(t *testing.T) {
	e := start(t)
	e.Must("create", "-i", "--name", "c1", image, "sh", "-c", "while read x; do echo got $x; done; echo eof")
	e.Must("start", "c1")
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	cmd := e.Cmd(ctx, "attach", "c1")
	in, _ := cmd.StdinPipe()
	var out bytes.Buffer
	cmd.Stdout = &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	io.WriteString(in, "one\ntwo\n")
	in.Close()
	if err := cmd.Wait(); err != nil {
		t.Errorf("attach: %v", err)
	}
	if got := out.String(); got != "got one\ngot two\neof\n" {
		t.Errorf("attached got %q", got)
	}
	if got := e.Must("wait", "c1"); got != "0" {
		t.Errorf("exit code %s", got)
	}
}

func TestExec(t *testing.T) {
	e := start(t)
	e.Must("run", "-d", "--name", "c1", "-e", "FROM=container", image, "sleep", "1000")
	for _, r := range []row{
		{name: "output", args: []string{"exec", "c1", "echo", "hi"}, out: "hi"},
		{name: "exit code", args: []string{"exec", "c1", "sh", "-c", "exit 8"}, code: 8},
		{name: "stderr apart", args: []string{"exec", "c1", "sh", "-c", "echo o; echo e >&2"}, out: "o", err: "e"},
		{name: "stdin", args: []string{"exec", "-i", "c1", "cat"}, stdin: "x\ny\n", out: "x\ny"},
		{name: "environment", args: []string{"exec", "-e", "A=b", "c1", "sh", "-c", "echo $A $FROM"}, out: "b container"},
		{name: "working directory", args: []string{"exec", "-w", "/tmp", "c1", "pwd"}, out: "/tmp"},
		{name: "no such directory", args: []string{"exec", "-w", "/nope", "c1", "pwd"}, code: 127,
			out: `OCI runtime exec failed: exec failed: unable to start container process: chdir to cwd ("/nope") set in config.json failed: no such file or directory`},
		{name: "user", args: []string{"exec", "-u", "tester", "c1", "id", "-un"}, out: "tester"},
		{name: "same namespaces", args: []string{"exec", "c1", "cat", "/proc/1/comm"}, out: "sleep"},
		{name: "detached", args: []string{"exec", "-d", "c1", "sh", "-c", "echo done > /tmp/mark"}},
		{name: "not executable", args: []string{"exec", "c1", "/etc/passwd"}, code: 126},
		{name: "not found", args: []string{"exec", "c1", "nope"}, code: 127},
		{name: "no such container", args: []string{"exec", "nope", "true"}, code: 1, err: "Error response from daemon: No such container: nope"},
		{name: "seccomp", args: []string{"exec", "c1", "grep", "Seccomp:", "/proc/self/status"}, out: "Seccomp:\t2"},
		{name: "capabilities", args: []string{"exec", "c1", "grep", "CapEff", "/proc/self/status"}, out: "CapEff:\t00000000a80425fb"},
	} {
		t.Run(r.name, func(t *testing.T) {
			got := e.DockerIn(r.stdin, r.args...)
			if got.Code != r.code {
				t.Errorf("exit %d, want %d: %s", got.Code, r.code, got.Stderr)
			}
			compare(t, "stdout", got.Stdout, r.out)
			compare(t, "stderr", got.Stderr, r.err)
		})
	}
	eventually(t, "the detached exec has run", func() bool { return e.Docker("exec", "c1", "cat", "/tmp/mark").Stdout == "done\n" })
	for range 20 {
		if got := e.Must("exec", "c1", "echo", "quick"); got != "quick" {
			t.Fatalf("a quick exec gave %q", got)
		}
	}
	e.Must("stop", "-t", "0", "c1")
	if r := e.Docker("exec", "c1", "true"); r.Code != 1 || !strings.Contains(r.Stderr, "is not running") {
		t.Errorf("exec in a stopped container: %d %s", r.Code, r.Stderr)
	}
}

// tty runs a docker command on a terminal. A zero byte in the input is a pause.
func tty(t *testing.T, e *engine.Engine, input string, args ...string) (string, int) {
	t.Helper()
	master, name, err := console.NewPty()
	if err != nil {
		t.Fatal(err)
	}
	defer master.Close()
	if err := master.Resize(console.WinSize{Width: 77, Height: 33}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	cmd := e.Cmd(ctx, args...)
	slave, err := openTTY(name)
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = slave, slave, slave
	cmd.SysProcAttr = ownTerminal()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	slave.Close()
	var out bytes.Buffer
	done := make(chan struct{})
	go func() { io.Copy(&out, master); close(done) }()
	for _, part := range strings.Split(input, "\x00") {
		time.Sleep(time.Second) // until the shell reads
		io.WriteString(master, part)
	}
	err = cmd.Wait()
	<-done
	code := 0
	if x, ok := err.(*exec.ExitError); ok {
		code = x.ExitCode()
	}
	return out.String(), code
}

func TestTTY(t *testing.T) {
	e := start(t)
	out, code := tty(t, e, "", "run", "--rm", "-t", image, "sh", "-c", "tty; echo $TERM; sleep 0.5; stty size; exit 3")
	if code != 3 || !strings.Contains(out, "/dev/pts/0") || !strings.Contains(out, "xterm") || !strings.Contains(out, "33 77") {
		t.Errorf("run -t: exit %d, %q", code, out)
	}
	out, code = tty(t, e, "echo $((6*7))\nexit 4\n", "run", "--rm", "-it", image)
	if code != 4 || !strings.Contains(out, "42") {
		t.Errorf("run -it: exit %d, %q", code, out)
	}
	e.Must("run", "-d", "--name", "c1", image, "sleep", "1000")
	out, code = tty(t, e, "tty\nexit 5\n", "exec", "-it", "c1", "sh")
	if code != 5 || !strings.Contains(out, "/dev/pts/") {
		t.Errorf("exec -it: exit %d, %q", code, out)
	}
	out, code = tty(t, e, "echo before\n\x00\x10\x11", "run", "-it", "--name", "d1", image)
	if code != 0 || !strings.Contains(out, "before") || status(e, "d1") != "running" {
		t.Errorf("detached: exit %d, %s, %q", code, status(e, "d1"), out)
	}
	out, _ = tty(t, e, "echo back\nexit\n", "attach", "d1")
	if !strings.Contains(out, "back") {
		t.Errorf("attached again: %q", out)
	}
	if logs := e.Must("logs", "d1"); !strings.Contains(logs, "before") || !strings.Contains(logs, "back") {
		t.Errorf("logs of a terminal: %q", logs)
	}
}
