package boot_test

import (
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestFailedShimStart pins that a start which fails late leaves no shim.
func TestFailedShimStart(t *testing.T) {
	e := newEngine(t, anyRuntime(t))
	bundle := t.TempDir()
	if err := os.MkdirAll(filepath.Join(bundle, "address", "taken"), 0o700); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(shimBinary, "-namespace", "test", "-address", filepath.Join(e.dir, "sock"), "-id", "late", "start")
	cmd.Dir = bundle
	if out, err := cmd.Output(); err == nil {
		t.Fatalf("started: %s", out)
	}
	raw, err := os.ReadFile(filepath.Join(bundle, "shim.pid"))
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(string(raw))
	if err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(5 * time.Second); ; time.Sleep(2 * time.Millisecond) {
		stat, err := os.ReadFile("/proc/" + string(raw) + "/stat")
		if err != nil || strings.Contains(string(stat), ") Z ") {
			break
		}
		if time.Now().After(deadline) {
			unix.Kill(pid, unix.SIGKILL)
			t.Fatal("the shim is still there")
		}
	}
	if left, _ := filepath.Glob(filepath.Join(e.dir, "s", "*")); len(left) > 0 {
		t.Errorf("sockets are left: %q", left)
	}
}

// TestIgnoresNothing pins that what the shim executes gets no ignored signal from it,
// but for those that this process ignores already: glibc's posix_spawn, make's for one,
// leaves its two internal signals so.
func TestIgnoresNothing(t *testing.T) {
	e := newEngine(t, anyRuntime(t))
	k := e.newTask(t, nil, "true")
	k.create(nil)
	if more := ignored(t, strconv.Itoa(k.shimPid())) &^ ignored(t, "self"); more != 0 {
		t.Errorf("ignores %x", more)
	}
	k.remove()
}

// TestName pins what ps shows of a serving shim.
func TestName(t *testing.T) {
	e := newEngine(t, anyRuntime(t))
	k := e.newTask(t, nil, "true")
	k.create(nil)
	raw, err := os.ReadFile("/proc/" + strconv.Itoa(k.shimPid()) + "/comm")
	if name := strings.TrimSpace(string(raw)); err != nil || name != "containerd-shim" {
		t.Errorf("the shim is called %q, %v", name, err)
	}
	k.remove()
}

// ignored returns the signals that a process ignores, signal n at bit n-1.
func ignored(t *testing.T, pid string) uint64 {
	t.Helper()
	raw, err := os.ReadFile("/proc/" + pid + "/status")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(raw), "SigIgn:")
	text, _, _ := strings.Cut(strings.TrimSpace(rest), "\n")
	mask, err := strconv.ParseUint(text, 16, 64)
	if err != nil {
		t.Fatal(err)
	}
	return mask
}

// TestDeadSocket pins that a socket which a dying shim still holds is removed, and
// a living one's is not.
func TestDeadSocket(t *testing.T) {
	for name, dies := range map[string]bool{"dying": true, "living": false} {
		t.Run(name, func(t *testing.T) {
			e := newEngine(t, anyRuntime(t))
			bundle, path := t.TempDir(), filepath.Join(e.dir, "shim.sock")
			l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			l.SetUnlinkOnClose(false)
			if dies {
				time.AfterFunc(50*time.Millisecond, func() { l.Close() })
			}
			os.WriteFile(filepath.Join(bundle, "address"), []byte("unix://"+path), 0o600)
			cmd := exec.Command(shimBinary, "-namespace", "test", "-id", "x", "-bundle", bundle, "delete")
			if _, err := cmd.Output(); err != nil {
				t.Fatal(err)
			}
			if _, err := os.Stat(path); errors.Is(err, os.ErrNotExist) != dies {
				t.Errorf("the socket: %v", err)
			}
		})
	}
}
