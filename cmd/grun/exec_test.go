package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// running gives a container that runs until it is told to end.
func running(t *testing.T, edit func(*specs.Spec)) *host {
	t.Helper()
	h := newHost(t, untilTerm, edit)
	h.want(h.detached("run", "-d", "-b", h.b, h.n), result{})
	return h
}

func (h *host) processFile(p specs.Process) string {
	h.t.Helper()
	name := filepath.Join(h.t.TempDir(), "process.json")
	b, err := json.Marshal(p)
	if err == nil {
		err = os.WriteFile(name, b, 0o600)
	}
	if err != nil {
		h.t.Fatal(err)
	}
	return name
}

// TestExecProcess: what a process file says holds, and nothing of the init's
// process beside it.
func TestExecProcessFile(t *testing.T) {
	nice, idle := int32(7), specs.LinuxIOPriority{Class: specs.IOPRIO_CLASS_IDLE}
	h := running(t, nil)
	file := h.processFile(specs.Process{
		Args: []string{"sh", "-c", "ulimit -n; id -u; id -g; busybox awk '{print $19}' /proc/self/stat; busybox ionice -p $$; busybox grep -E 'NoNewPrivs|CapBnd|CapAmb' /proc/self/status; env"},
		Env:  []string{"PATH=/bin", "A=b"}, Cwd: "/bin",
		User:         specs.User{UID: 3, GID: 4},
		Rlimits:      []specs.POSIXRlimit{{Type: "RLIMIT_NOFILE", Soft: 50, Hard: 60}},
		Capabilities: &specs.LinuxCapabilities{Bounding: []string{"CAP_KILL"}, Inheritable: []string{"CAP_KILL"}, Permitted: []string{"CAP_KILL"}, Ambient: []string{"CAP_KILL"}},
		Scheduler:    &specs.Scheduler{Policy: specs.SchedOther, Nice: nice},
		IOPriority:   &idle,
	})
	got := h.call("", "exec", "--process", file, h.n)
	want := "50\n3\n4\n7\nidle\nCapBnd:\t0000000000000020\nCapAmb:\t0000000000000020\nNoNewPrivs:\t0\n"
	rest, ok := strings.CutPrefix(got.out, want)
	if got.status != 0 || !ok {
		t.Fatalf("%+v, want %q", got, want)
	}
	if strings.Contains(rest, "TERM=") || !strings.Contains(rest, "A=b\n") {
		t.Errorf("environment %q", rest)
	}
}

// TestExecConfined: an exec is where the init is: in its cgroups and namespaces,
// under its filter of system calls.
func TestExecConfined(t *testing.T) {
	h := newHost(t, untilTerm, func(s *specs.Spec) {
		errno := uint(unix.ENOTBLK)
		s.Linux.Seccomp = &specs.LinuxSeccomp{
			DefaultAction: specs.ActAllow,
			Syscalls:      []specs.LinuxSyscall{{Names: []string{"sethostname"}, Action: specs.ActErrno, ErrnoRet: &errno}},
		}
		s.Linux.Namespaces = append(s.Linux.Namespaces, specs.LinuxNamespace{Type: specs.UserNamespace})
		s.Linux.UIDMappings = []specs.LinuxIDMapping{{HostID: 100000, Size: 1000}}
		s.Linux.GIDMappings = s.Linux.UIDMappings
	})
	os.Chown(filepath.Join(h.b, "rootfs"), 100000, 100000)
	h.want(h.detached("run", "-d", "-b", h.b, h.n), result{})
	same := "for n in ipc mnt net pid uts user cgroup; do [ $(busybox readlink /proc/1/ns/$n) = $(busybox readlink /proc/self/ns/$n) ] || echo $n; done; " +
		"busybox cmp /proc/1/cgroup /proc/self/cgroup; cat /proc/self/uid_map; busybox hostname x"
	got := h.call("", "exec", "--cap", "CAP_SYS_ADMIN", h.n, "sh", "-c", same)
	if f := strings.Fields(got.out); strings.Join(f, " ") != "0 100000 1000" || !strings.Contains(got.stderr, "Block device required") {
		t.Errorf("%+v", got)
	}
}

// TestExecCgroup: --cgroup goes below the container's, by controller or in all.
func TestExecCgroup(t *testing.T) {
	if _, err := os.Stat("/sys/fs/cgroup/pids"); err != nil {
		t.Skip("needs cgroup v1:", err)
	}
	h := running(t, nil)
	below := func(controller, name string) {
		dir := filepath.Join("/sys/fs/cgroup", controller, h.n, name)
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { os.Remove(dir) })
	}
	below("pids", "a")
	below("freezer", "b")
	at := func(controller string) string {
		return fmt.Sprintf("busybox grep :%s: /proc/self/cgroup | busybox sed s/.*://", controller)
	}
	script := at("pids") + ";" + at("freezer") + ";" + at("cpu")
	for _, c := range []struct {
		flags []string
		want  string
	}{
		{nil, "/\n/\n/\n"},
		{[]string{"--cgroup", "pids:a"}, "/a\n/\n/\n"},
		{[]string{"--cgroup", "pids:/a", "--cgroup", "freezer:b"}, "/a\n/b\n/\n"},
		{[]string{"--cgroup", "/"}, "/\n/\n/\n"},
	} {
		h.want(h.call("", append(append([]string{"exec"}, c.flags...), h.n, "sh", "-c", script)...), result{0, c.want, ""})
	}
	for _, bad := range []string{"pids:none", "pids:../..", "none:a", "a"} { // "a" is not in all
		if got := h.call("", "exec", "--cgroup", bad, h.n, "ls"); got.status != 255 {
			t.Errorf("--cgroup %s: %+v", bad, got)
		}
	}
}

// TestExecIgnorePaused: the process comes to be when the container goes on.
func TestExecIgnorePaused(t *testing.T) {
	h := running(t, nil)
	h.want(h.call("", "pause", h.n), result{})
	cmd := h.cmd("exec", "--ignore-paused", h.n, "sh", "-c", "exit 7")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	select {
	case <-done:
		t.Fatalf("did not wait: %d, %s", cmd.ProcessState.ExitCode(), &stderr)
	case <-time.After(300 * time.Millisecond):
	}
	h.want(h.call("", "resume", h.n), result{})
	<-done
	if got := cmd.ProcessState.ExitCode(); got != 7 {
		t.Errorf("status %d, %s", got, &stderr)
	}
}

// TestPidfdSocket: who asked for it gets a descriptor of the process.
func TestPidfdSocket(t *testing.T) {
	dir := t.TempDir()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(dir, "s"), Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	received := func(want string, pidFile string) {
		t.Helper()
		conn, err := l.AcceptUnix()
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		buf, oob := make([]byte, 64), make([]byte, unix.CmsgSpace(4))
		n, oobn, _, _, err := conn.ReadMsgUnix(buf, oob)
		if err != nil || string(buf[:n]) != want {
			t.Fatalf("%q, %v", buf[:n], err)
		}
		cmsgs, _ := unix.ParseSocketControlMessage(oob[:oobn])
		fds, err := unix.ParseUnixRights(&cmsgs[0])
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(fds[0])
		info, _ := os.ReadFile(fmt.Sprintf("/proc/self/fdinfo/%d", fds[0]))
		pid, _ := os.ReadFile(pidFile)
		if !strings.Contains(string(info), fmt.Sprintf("\nPid:\t%s\n", pid)) {
			t.Errorf("%s is not of %s", info, pid)
		}
	}
	h := newHost(t, untilTerm, nil)
	h.want(h.detached("run", "-d", "-b", h.b, "--pidfd-socket", l.Addr().String(), "--pid-file", filepath.Join(dir, "init"), h.n), result{})
	received("standard", filepath.Join(dir, "init"))
	h.want(h.detached("exec", "-d", "--pidfd-socket", l.Addr().String(), "--pid-file", filepath.Join(dir, "exec"), h.n, "sleep", "100"), result{})
	received("setns", filepath.Join(dir, "exec"))
}

// TestKillWithoutPIDNamespace: SIGKILL is for all, for the init's end ends nobody else.
func TestKillWithoutPIDNamespace(t *testing.T) {
	h := newHost(t, "sleep 1000 & sleep 1000 & wait", func(s *specs.Spec) { s.Linux.Namespaces = s.Linux.Namespaces[1:] })
	h.want(h.detached("run", "-d", "-b", h.b, h.n), result{})
	pids := func() (n int) {
		var list []int
		json.Unmarshal([]byte(h.call("", "ps", "-f", "json", h.n).out), &list)
		for _, pid := range list {
			if stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid)); err == nil && !bytes.Contains(stat, []byte(") Z ")) {
				n++
			}
		}
		return n
	}
	wait(t, func() bool { return pids() == 3 })
	h.want(h.call("", "kill", h.n, "KILL"), result{})
	wait(t, func() bool { return pids() == 0 })
}

// wait asks until it is so.
func wait(t *testing.T, so func() bool) {
	t.Helper()
	for range 1000 {
		if so() {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatal("waited in vain")
}

// TestUpdateIsKept: the record has what is in force.
func TestUpdateIsKept(t *testing.T) {
	h := running(t, func(s *specs.Spec) {
		limit := int64(64 << 20)
		s.Linux.Resources.Memory = &specs.LinuxMemory{Limit: &limit}
	})
	h.want(h.call("", "update", "--pids-limit", "50", "--cpu-share", "200", h.n), result{})
	h.want(h.call(`{"pids":{"limit":60}}`, "update", "-r", "-", h.n), result{})
	c, err := (&request{global: globals{root: h.root}}).load(h.n)
	if err != nil {
		t.Fatal(err)
	}
	r := c.Spec().Linux.Resources
	if *r.Memory.Limit != 64<<20 || *r.Pids.Limit != 60 || *r.CPU.Shares != 200 || len(r.Devices) != 1 {
		b, _ := json.Marshal(r)
		t.Errorf("%s", b)
	}
}

// TestEventsOOM: the kernel's kill is told as a line, and events ends with the container.
func TestEventsOOM(t *testing.T) {
	h := newHost(t, "cat /dev/zero | busybox tail > /dev/null; sleep 0.3", func(s *specs.Spec) {
		limit := int64(16 << 20)
		s.Linux.Resources.Memory = &specs.LinuxMemory{Limit: &limit, Swap: &limit}
	})
	h.want(h.detached("create", "-b", h.b, h.n), result{})
	cmd := h.cmd("events", "--interval", "1h", h.n)
	var out bytes.Buffer
	cmd.Stdout = &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	time.Sleep(200 * time.Millisecond) // that it listens can't be seen
	h.want(h.call("", "start", h.n), result{})
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	if want := fmt.Sprintf(`{"type":"oom","id":"%s"}`+"\n", h.n); !strings.HasPrefix(out.String(), want) {
		t.Errorf("%q, want %q", out.String(), want)
	}
}
