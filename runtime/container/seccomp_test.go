package container_test

import (
	"encoding/json"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
	"unsafe"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"gantry/runtime/container"
)

// agent answers the notifications of seccomp filters: a mkdir succeeds without being
// done, everything else goes on.
type agent struct {
	t    *testing.T
	path string

	mu     sync.Mutex
	states []specs.ContainerProcessState // guarded by mu
	asked  []int32                       // guarded by mu
}

func newAgent(t *testing.T) *agent {
	t.Helper()
	a := &agent{t: t, path: filepath.Join(t.TempDir(), strings.Repeat("long", 30), "agent.sock")}
	if err := os.Mkdir(filepath.Dir(a.path), 0o700); err != nil {
		t.Fatal(err)
	}
	t.Chdir(filepath.Dir(a.path))
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: "agent.sock", Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	var work sync.WaitGroup
	t.Cleanup(func() { l.Close(); work.Wait() })
	work.Go(func() {
		for {
			conn, err := l.AcceptUnix()
			if err != nil {
				return
			}
			if f := a.receive(conn); f != nil {
				work.Go(func() { a.serve(f) })
			}
		}
	})
	return a
}

func (a *agent) receive(conn *net.UnixConn) *os.File {
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(10 * time.Second))
	b, oob := make([]byte, 1<<16), make([]byte, 256)
	n, oobn, _, _, err := conn.ReadMsgUnix(b, oob)
	if err != nil {
		a.t.Errorf("agent: %v", err)
		return nil
	}
	msgs, err := unix.ParseSocketControlMessage(oob[:oobn])
	if err != nil || len(msgs) != 1 {
		a.t.Errorf("agent: %d control messages, %v", len(msgs), err)
		return nil
	}
	fds, err := unix.ParseUnixRights(&msgs[0])
	if err != nil || len(fds) != 1 {
		a.t.Errorf("agent: %d descriptors, %v", len(fds), err)
		return nil
	}
	var s specs.ContainerProcessState
	if err := json.Unmarshal(b[:n], &s); err != nil {
		a.t.Errorf("agent: %v", err)
	}
	if more, err := conn.Read(b); more != 0 || err == nil {
		a.t.Errorf("agent: %d more bytes", more)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.states = append(a.states, s)
	return os.NewFile(uintptr(fds[0]), "listener")
}

// serve ends when no process has the filter any more.
func (a *agent) serve(f *os.File) {
	defer f.Close()
	type notif struct {
		id         uint64
		pid, flags uint32
		nr         int32
		arch       uint32
		ip         uint64
		args       [6]uint64
	}
	type answer struct {
		id    uint64
		val   int64
		errno int32
		flags uint32
	}
	ioctl := func(req uint, p unsafe.Pointer) unix.Errno {
		_, _, e := unix.Syscall(unix.SYS_IOCTL, f.Fd(), uintptr(req), uintptr(p))
		return e
	}
	for {
		fds := []unix.PollFd{{Fd: int32(f.Fd()), Events: unix.POLLIN}}
		switch n, err := unix.Poll(fds, 10_000); {
		case err == unix.EINTR:
			continue // to receive would be to wait, before Linux 6.11 even when all are gone
		case n == 0, fds[0].Revents&unix.POLLIN == 0:
			return
		}
		var n notif
		if e := ioctl(unix.SECCOMP_IOCTL_NOTIF_RECV, unsafe.Pointer(&n)); e != 0 {
			continue // whoever asked is gone
		}
		a.mu.Lock()
		a.asked = append(a.asked, n.nr)
		a.mu.Unlock()
		r := answer{id: n.id}
		if n.nr != unix.SYS_MKDIRAT && !(runtime.GOARCH == "amd64" && n.nr == amd64Mkdir) {
			r.flags = unix.SECCOMP_USER_NOTIF_FLAG_CONTINUE
		}
		ioctl(unix.SECCOMP_IOCTL_NOTIF_SEND, unsafe.Pointer(&r))
	}
}

func (a *agent) seen() []specs.ContainerProcessState {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.states)
}

// profile asks the agent about some calls and refuses others.
func (a *agent) profile(names ...string) *specs.LinuxSeccomp {
	return &specs.LinuxSeccomp{
		DefaultAction: specs.ActAllow, ListenerPath: a.path, ListenerMetadata: "for the agent",
		Syscalls: []specs.LinuxSyscall{
			{Names: names, Action: specs.ActNotify},
			{Names: []string{"rmdir", "unlinkat"}, Action: specs.ActErrno},
		},
	}
}

const amd64Mkdir = 83 // newer architectures have mkdirat alone

const faked = "mkdir /x && test ! -e /x && echo faked; rmdir /tmp 2>/dev/null || echo kept"

// TestSeccompAgent: what the runtime itself calls once the filter is loaded is among
// what the agent is asked about.
func TestSeccompAgent(t *testing.T) {
	for _, c := range []struct {
		name  string
		calls []string
		nnp   bool
		user  bool // a user namespace, and a user in it
	}{
		{"mkdir", []string{"mkdir", "mkdirat"}, false, false},
		{"mkdir with no_new_privs", []string{"mkdir", "mkdirat"}, true, false},
		{"user namespace", []string{"mkdir", "mkdirat", "sendmsg", "wait4"}, false, true},
		{"user namespace with no_new_privs", []string{"mkdir", "mkdirat", "sendmsg", "wait4"}, true, true},
		{"the runtime's own calls", []string{"mkdir", "mkdirat", "sendmsg", "sendto", "read", "wait4", "close", "capset",
			"ppoll", "accept4", "close_range", "execve", "rt_sigprocmask", "seccomp", "nanosleep", "signalfd4", "prctl"}, false, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			b, a := newBed(t), newAgent(t)
			s := b.spec("sh", "-c", faked)
			s.Process.NoNewPrivileges, s.Linux.Seccomp = c.nnp, a.profile(c.calls...)
			s.Annotations = map[string]string{"a": "b"}
			if c.user {
				b.own(b.rootfs())
				s.Linux.Namespaces = append(s.Linux.Namespaces, specs.LinuxNamespace{Type: specs.UserNamespace})
				s.Linux.UIDMappings, s.Linux.GIDMappings = idMap, idMap
				s.Process.User.UID = 7
			}
			out, status := b.run(s)
			if out != "faked\nkept\n" || status != 0 {
				t.Errorf("output %q, status %d", out, status)
			}
			got := a.seen()
			if len(got) != 1 {
				t.Fatalf("%d states", len(got))
			}
			p := got[0]
			if p.Version != specs.Version || p.Metadata != "for the agent" || len(p.Fds) != 1 || p.Fds[0] != "seccompFd" ||
				p.Pid <= 0 || p.State.Pid != p.Pid || p.State.ID != "c1" || p.State.Status != specs.StateCreating ||
				p.State.Bundle != b.bundle || p.State.Annotations["a"] != "b" {
				t.Errorf("state %+v", p)
			}
		})
	}
}

func TestSeccompAgentOfExec(t *testing.T) {
	b, a := newBed(t), newAgent(t)
	s := b.spec("sleep", "100")
	s.Linux.Seccomp = a.profile("mkdir", "mkdirat", "sendmsg", "wait4", "capset")
	c, err := b.create(s, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	again, err := container.Load(b.root, "c1") // as another process would
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []*container.Container{c, again} {
		out, status := b.exec(c, "sh", "-c", faked)
		if out != "faked\nkept\n" || status != 0 {
			t.Errorf("output %q, status %d", out, status)
		}
	}
	got := a.seen()
	if len(got) != 3 {
		t.Fatalf("%d states", len(got))
	}
	for _, p := range got[1:] {
		if p.Pid == c.Pid() || p.State.Pid != c.Pid() || p.State.Status != specs.StateRunning || p.Metadata != "for the agent" {
			t.Errorf("state %+v", p)
		}
	}
}

func TestSeccompAgentMissing(t *testing.T) {
	b := newBed(t)
	for path, want := range map[string]string{
		"":             "seccomp listenerPath is not set",
		"/no/such/one": "failed to connect with seccomp agent specified in the seccomp profile: open /no/such: no such file or directory",
		"/tmp/no-such-agent": "failed to connect with seccomp agent specified in the seccomp profile: dial unix /tmp/no-such-agent: " +
			"connect: no such file or directory",
	} {
		s := b.spec("true")
		s.Linux.Seccomp = (&agent{path: path}).profile("mkdir")
		if path == "" {
			s.Linux.Seccomp.ListenerMetadata = ""
		}
		if _, err := b.create(s, nil); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("path %q: error %v", path, err)
		}
	}
}

// TestSeccompWithoutNotifications: a listener's path alone means nothing.
func TestSeccompWithoutNotifications(t *testing.T) {
	b := newBed(t)
	s := b.spec("echo", "on")
	s.Linux.Seccomp = denyMkdir()
	s.Linux.Seccomp.ListenerPath = "/no/such/agent"
	if out, status := b.run(s); out != "on\n" || status != 0 {
		t.Errorf("output %q, status %d", out, status)
	}
}

// exec runs a command in the container and returns its output.
func (b *bed) exec(c *container.Container, args ...string) (string, int) {
	b.t.Helper()
	p := *c.Spec().Process
	p.Args = args
	return b.execProcess(c, &p)
}

func (b *bed) execProcess(c *container.Container, p *specs.Process) (string, int) {
	b.t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		b.t.Fatal(err)
	}
	defer r.Close()
	proc, err := c.Exec(b.t.Context(), container.ExecOptions{Process: p, Stdout: w, Stderr: w})
	w.Close()
	if err != nil {
		b.t.Fatal(err)
	}
	defer proc.PidFD.Close()
	r.SetReadDeadline(time.Now().Add(20 * time.Second))
	var out strings.Builder
	for buf := make([]byte, 4096); ; {
		n, err := r.Read(buf)
		out.Write(buf[:n])
		if err != nil {
			break
		}
	}
	return out.String(), b.wait(proc.PidFD)
}

// TestLateErrorUnderFilter: that a program can't be executed is told although the filter
// lets nothing say it.
func TestLateErrorUnderFilter(t *testing.T) {
	for name, calls := range map[string][]string{
		"no sockets": {"sendto", "sendmsg"}, "no sockets and files": {"sendto", "sendmsg", "write", "writev"},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBed(t)
			if err := os.WriteFile(b.rootfs()+"/bin/script", []byte("#!/no/such\n"), 0o755); err != nil {
				t.Fatal(err)
			}
			s := b.spec("script")
			s.Linux.Seccomp = &specs.LinuxSeccomp{DefaultAction: specs.ActAllow,
				Syscalls: []specs.LinuxSyscall{{Names: calls, Action: specs.ActErrno}}}
			c, err := b.create(s, nil)
			if err != nil {
				t.Fatal(err)
			}
			if err := c.Start(t.Context()); err == nil || err.Error() != "exec script: no such file or directory" {
				t.Errorf("error %v", err)
			}
			if status := b.wait(c.PidFD()); status != 127 {
				t.Errorf("status %d, want 127", status)
			}
		})
	}
}
