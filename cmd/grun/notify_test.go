package main

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// manager is a service manager's end of sd_notify(3).
type manager struct {
	t    *testing.T
	conn *net.UnixConn
	path string
}

func newManager(t *testing.T) *manager {
	path := filepath.Join(t.TempDir(), "manager")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return &manager{t, conn, path}
}

// told gives n messages; a file that comes with one is closed.
func (m *manager) told(n int) (messages []string) {
	m.t.Helper()
	m.conn.SetReadDeadline(time.Now().Add(20 * time.Second))
	for range n {
		buf, oob := make([]byte, 4096), make([]byte, unix.CmsgSpace(4))
		size, oobn, _, _, err := m.conn.ReadMsgUnix(buf, oob)
		if err != nil {
			m.t.Fatalf("after %q: %v", messages, err)
		}
		messages = append(messages, string(buf[:size]))
		if oobn > 0 {
			unix.Close(int(binary.NativeEndian.Uint32(oob[unix.CmsgLen(0):])))
		}
	}
	return messages
}

// silent is that nothing more was sent.
func (m *manager) silent() {
	m.t.Helper()
	m.conn.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
	buf := make([]byte, 4096)
	if n, err := m.conn.Read(buf); err == nil {
		m.t.Errorf("told %q", buf[:n])
	}
}

// TestNotify: the manager hears of the container's readiness, and of nothing else
// that it says, with the process to watch.
func TestNotify(t *testing.T) {
	for _, how := range []string{"run", "run -d", "start"} {
		t.Run(how, func(t *testing.T) {
			m := newManager(t)
			h := newHost(t, "echo $NOTIFY_SOCKET > /dev/shm/said; "+untilTerm, nil)
			pidFile := filepath.Join(t.TempDir(), "pid")
			t.Setenv("NOTIFY_SOCKET", m.path)
			if how == "start" {
				h.want(h.detached("create", "-b", h.b, "--pid-file", pidFile, h.n), result{})
			}
			words := map[string][]string{
				"run": {"run", "-b", h.b, "--pid-file", pidFile, h.n}, "start": {"start", h.n},
				"run -d": {"run", "-d", "-b", h.b, "--pid-file", pidFile, h.n},
			}
			cmd := h.cmd(words[how]...)
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			init := saySo(t, pidFile)
			main := init
			if how == "run" {
				main = fmt.Sprint(cmd.Process.Pid)
			}
			want := []string{"READY=1\n", "MAINPID=" + main + "\n", "BARRIER=1"}
			if got := m.told(3); strings.Join(got, ",") != strings.Join(want, ",") {
				t.Errorf("told %q, want %q", got, want)
			}
			m.silent()
			if how != "run" { // else it waits for the container
				if err := cmd.Wait(); err != nil {
					t.Error(err)
				}
			}
			h.want(h.call("", "kill", h.n, "9"), result{})
			if how == "run" {
				cmd.Wait()
			}
		})
	}
}

// saySo speaks for the container, through its own view of the socket, and returns
// its init.
func saySo(t *testing.T, pidFile string) (init string) {
	t.Helper()
	inside := ""
	wait(t, func() bool {
		b, _ := os.ReadFile(pidFile)
		init = string(b)
		b, _ = os.ReadFile("/proc/" + init + "/root/dev/shm/said")
		inside = strings.TrimSpace(string(b))
		return inside != ""
	})
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: "/proc/" + init + "/root" + inside, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	for _, text := range []string{"STATUS=coming", "MAINPID=1", "STATUS=there\nREADY=1\nERRNO=5", "STOPPING=1"} {
		conn.Write([]byte(text))
	}
	return init
}

// TestNotifyOfNone: a container that ends without a word keeps nobody waiting.
func TestNotifyOfNone(t *testing.T) {
	m := newManager(t)
	h := newHost(t, "exit 5", nil)
	t.Setenv("NOTIFY_SOCKET", m.path)
	h.want(h.call("", "run", "-b", h.b, h.n), result{status: 5})
	h.want(h.detached("run", "-d", "-b", h.b, h.n), result{})
	m.silent()
	if !bytes.Contains([]byte(h.call("", "list").out), []byte("stopped")) {
		t.Error("it still runs")
	}
}
