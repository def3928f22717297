package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/containerd/console"
	"golang.org/x/sys/unix"
)

// binary is gantry-init, built once.
var binary string

func TestMain(m *testing.M) {
	os.Exit(func() int {
		dir, err := os.MkdirTemp("", "gantry-init")
		if err != nil {
			panic(err)
		}
		defer os.RemoveAll(dir)
		binary = filepath.Join(dir, "gantry-init")
		build := exec.Command("go", "build", "-o", binary, ".")
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			fmt.Printf("build: %v\n%s", err, out)
			return 1
		}
		return m.Run()
	}())
}

func TestParse(t *testing.T) {
	for _, c := range []struct {
		args    string
		want    []string
		problem string
	}{
		{"-- sh -c true", []string{"sh", "-c", "true"}, ""},
		{"sh -g", []string{"sh", "-g"}, ""},
		{"-s -g -- -x", []string{"-x"}, ""},
		{"-", []string{"-"}, ""},
		{"-q sh", nil, "unknown option -q"},
		{"--", nil, "no command"},
		{"", nil, "no command"},
	} {
		o, problem := parse(strings.Fields(c.args))
		if problem != c.problem || problem == "" && !slices.Equal(o.command, c.want) {
			t.Errorf("%q: %v, %q", c.args, o, problem)
		}
	}
}

// first gives a command that runs under gantry-init as process 1 of a new pid
// namespace, or as a subreaper without root.
func first(args ...string) *exec.Cmd {
	cmd := exec.Command(binary, append([]string{"-s", "--"}, args...)...)
	if os.Getuid() == 0 {
		cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWPID}
	}
	return cmd
}

func statusOf(t *testing.T, err error) int {
	t.Helper()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return exit.ExitCode()
	}
	if err != nil {
		t.Fatal(err)
	}
	return 0
}

func TestStatus(t *testing.T) {
	script := filepath.Join(t.TempDir(), "script")
	os.WriteFile(script, []byte("exit 9\n"), 0o755)
	for _, c := range []struct {
		name string
		args []string
		want int
		text string
	}{
		{"good", []string{"true"}, 0, ""},
		{"status", []string{"sh", "-c", "exit 42"}, 42, ""},
		{"signal", []string{"sh", "-c", "kill -TERM $$"}, 143, ""},
		{"no such name", []string{"no-such-command"}, 127, "gantry-init: no-such-command: no such file or directory\n"},
		{"no such file", []string{"/no/such"}, 127, "gantry-init: /no/such: no such file or directory\n"},
		{"not executable", []string{"/etc/passwd"}, 126, "gantry-init: /etc/passwd: permission denied\n"},
		{"script without #!", []string{script}, 9, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			cmd := first(c.args...)
			var text bytes.Buffer
			cmd.Stderr = &text
			if got := statusOf(t, cmd.Run()); got != c.want || text.String() != c.text {
				t.Errorf("status %d, %q; want %d, %q", got, text.String(), c.want, c.text)
			}
		})
	}
}

func TestVersion(t *testing.T) {
	out, err := exec.Command(binary, "--version").Output()
	if err != nil || !strings.HasPrefix(string(out), "gantry-init version ") {
		t.Errorf("%q, %v", out, err)
	}
}

// start runs a shell script under gantry-init and waits for its first line.
func start(t *testing.T, script string) (*exec.Cmd, *bufio.Reader) {
	t.Helper()
	cmd := first("sh", "-c", script)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	r := bufio.NewReader(out)
	if line, err := r.ReadString('\n'); line != "ready\n" {
		t.Fatalf("first line %q, %v", line, err)
	}
	return cmd, r
}

func TestForwardsSignals(t *testing.T) {
	for _, s := range []unix.Signal{unix.SIGTERM, unix.SIGHUP, unix.SIGINT, unix.SIGQUIT, unix.SIGUSR1, unix.SIGUSR2,
		unix.SIGWINCH, unix.SIGALRM, unix.SIGPIPE, unix.SIGCONT, unix.Signal(40)} {
		t.Run(s.String(), func(t *testing.T) {
			cmd, _ := start(t, fmt.Sprintf("trap 'exit 77' %d; echo ready; while :; do sleep 0.05; done", s))
			cmd.Process.Signal(s)
			if got := statusOf(t, cmd.Wait()); got != 77 {
				t.Errorf("status %d, want the trap's 77", got)
			}
		})
	}
}

func TestReapsOrphans(t *testing.T) {
	// each subshell leaves an orphan that ends at once; as process 1 or subreaper
	// we must collect them while the command lives
	cmd, _ := start(t, `for i in 1 2 3 4 5; do (sleep 0.01 & exit 0); done; echo ready; exec sleep 30`)
	children := fmt.Sprintf("/proc/%d/task/%d/children", cmd.Process.Pid, cmd.Process.Pid)
	var last string
	for range 500 {
		b, err := os.ReadFile(children)
		if err != nil {
			t.Skip("needs CONFIG_PROC_CHILDREN:", err)
		}
		if last = string(b); len(strings.Fields(last)) <= 1 {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Errorf("children %q are left", last)
}

// TestTerminal: the command's group becomes the foreground of our terminal, so
// that ^C reaches it by the terminal itself.
func TestTerminal(t *testing.T) {
	master, name, err := console.NewPty()
	if err != nil {
		t.Fatal(err)
	}
	defer master.Close()
	slave, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	cmd := first("sh", "-c", `trap 'exit 7' INT; echo ready; while :; do sleep 0.05; done`)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = slave, slave, slave
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Setsid, cmd.SysProcAttr.Setctty = true, true
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	slave.Close()
	defer cmd.Process.Kill()
	if line, err := bufio.NewReader(master).ReadString('\n'); !strings.HasPrefix(line, "ready") {
		t.Fatalf("%q, %v", line, err)
	}
	if _, err := master.Write([]byte{3}); err != nil {
		t.Fatal(err)
	}
	if got := statusOf(t, cmd.Wait()); got != 7 {
		t.Errorf("status %d, want 7 of the trap", got)
	}
}
