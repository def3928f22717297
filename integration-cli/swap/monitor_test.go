package swap

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"gantry/internal/testutil/busybox"
	"gantry/internal/testutil/engine"
	"gantry/internal/testutil/need"
)

// TestAsMonitor goes through a container's life with the command lines of conmon and
// CRI-O, on a state root whose path is longer than a socket's may be.
func TestAsMonitor(t *testing.T) {
	need.Root(t, "runs a container")
	p := newPlace(t)
	grun := engine.Binary(t, "grun")
	root := filepath.Join(p.dir, strings.Repeat("a-long-name/", 12), "root")
	run := func(args ...string) (string, error) {
		cmd := exec.Command(grun, append([]string{"--root", root}, args...)...)
		cmd.WaitDelay = time.Second
		out, err := cmd.CombinedOutput()
		return strings.TrimSpace(string(out)), err
	}
	must := func(args ...string) string {
		t.Helper()
		out, err := run(args...)
		if err != nil {
			t.Fatalf("grun %v: %v: %s", args, err, out)
		}
		return out
	}
	id := strings.Repeat("0123456789abcdef", 4)
	bundle := monitorBundle(t, p, id)
	t.Cleanup(func() { run("delete", "--force", id) })

	console := listenConsole(t, filepath.Join(p.dir, "console"))
	must("create", "--bundle", bundle, "--pid-file", p.dir+"/pid", "--console-socket", p.dir+"/console", id)
	terminal := console()
	defer terminal.Close()
	raw, err := os.ReadFile(p.dir + "/pid")
	pid, err2 := strconv.Atoi(string(raw))
	if err != nil || err2 != nil {
		t.Fatalf("pid file %q: %v %v", raw, err, err2)
	}
	if s := state(t, must("state", id)); s.Status != "created" || s.Pid != pid || s.ID != id || s.Bundle != bundle {
		t.Errorf("created: %+v", s)
	}
	must("start", id)
	if s := state(t, must("state", id)); s.Status != "running" || s.Pid != pid {
		t.Errorf("running: %+v", s)
	}
	echoes(t, terminal)
	if out := must("exec", id, "echo", "in"); out != "in" {
		t.Errorf("exec: %q", out)
	}
	must("kill", id, "KILL")
	for deadline := time.Now().Add(10 * time.Second); state(t, must("state", id)).Status != "stopped"; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("killed, and not stopped")
		}
	}
	must("delete", "--force", id)
	must("delete", "--force", id)
	if out, err := run("state", id); err == nil || !strings.Contains(out, "does not exist") {
		t.Errorf("state of what is deleted: %v: %s", err, out)
	}
	p.empty(t, "")
	if left, _ := os.ReadDir(root); len(left) > 0 {
		t.Errorf("left in the state root: %v", left)
	}
}

// monitorBundle is a bundle with a terminal, a shell and a cgroup of the place's.
func monitorBundle(t *testing.T, p place, id string) string {
	t.Helper()
	bundle := filepath.Join(p.dir, "bundle")
	busybox.Rootfs(t, bundle)
	cmd := exec.Command(engine.Binary(t, "grun"), "spec", "--bundle", bundle)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("grun spec: %v: %s", err, out)
	}
	raw, err := os.ReadFile(bundle + "/config.json")
	if err != nil {
		t.Fatal(err)
	}
	var spec map[string]any
	if err := json.Unmarshal(raw, &spec); err != nil {
		t.Fatal(err)
	}
	spec["linux"].(map[string]any)["cgroupsPath"] = "/" + p.cgroup + "/" + id
	raw, _ = json.Marshal(spec)
	if err := os.WriteFile(bundle+"/config.json", raw, 0o600); err != nil {
		t.Fatal(err)
	}
	return bundle
}

type ociState struct {
	ID, Status, Bundle string
	Pid                int
}

func state(t *testing.T, text string) (s ociState) {
	t.Helper()
	if err := json.Unmarshal([]byte(text), &s); err != nil {
		t.Fatalf("state: %v: %s", err, text)
	}
	return s
}

// listenConsole makes a console socket; the function it returns takes the terminal.
func listenConsole(t *testing.T, path string) func() *os.File {
	t.Helper()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return func() *os.File {
		l.SetDeadline(time.Now().Add(10 * time.Second))
		conn, err := l.AcceptUnix()
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		buf, oob := make([]byte, 256), make([]byte, unix.CmsgSpace(4))
		_, n, _, _, err := conn.ReadMsgUnix(buf, oob)
		if err != nil {
			t.Fatal(err)
		}
		messages, err := unix.ParseSocketControlMessage(oob[:n])
		if err != nil || len(messages) != 1 {
			t.Fatalf("console: %v, %d messages", err, len(messages))
		}
		fds, err := unix.ParseUnixRights(&messages[0])
		if err != nil || len(fds) != 1 {
			t.Fatalf("console: %v, %d descriptors", err, len(fds))
		}
		unix.SetNonblock(fds[0], true) // so that reads have deadlines
		return os.NewFile(uintptr(fds[0]), "console")
	}
}

// echoes has the shell on a terminal say something.
func echoes(t *testing.T, terminal *os.File) {
	t.Helper()
	fmt.Fprintln(terminal, "echo $((6*7))-said")
	var all []byte
	buf := make([]byte, 1024)
	terminal.SetReadDeadline(time.Now().Add(10 * time.Second))
	for !strings.Contains(string(all), "42-said") {
		n, err := terminal.Read(buf)
		if err != nil {
			t.Fatalf("the terminal said %q: %v", all, err)
		}
		all = append(all, buf[:n]...)
	}
}
