package container_test

import (
	"context"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"gantry/runtime/container"
)

func umask(v uint32) *uint32 { return &v }

// TestInside looks at the container from inside, one property a row.
func TestInside(t *testing.T) {
	memory := shown("memory")
	for _, c := range []struct {
		name   string
		change func(*specs.Spec)
		script string
		want   string
	}{
		{"environment and home", func(s *specs.Spec) { s.Process.Env = append(s.Process.Env, "A=b c") },
			"env | grep -v SHLVL | grep -v PWD | sort", "A=b c\nHOME=/root\nPATH=/usr/sbin:/usr/bin:/sbin:/bin\n"},
		{"user, groups, umask, home unknown", func(s *specs.Spec) {
			s.Process.User = specs.User{UID: 1234, GID: 5, AdditionalGids: []uint32{7, 9}, Umask: umask(0o27)}
		}, "id -u; id -g; id -G; umask; echo $HOME", "1234\n5\n5 7 9\n0027\n/\n"},
		{"new working directory", func(s *specs.Spec) { s.Process.Cwd = "/a/b" }, "pwd", "/a/b\n"},
		{"capabilities", nil, "grep -E 'Cap(Prm|Eff|Bnd|Amb)' /proc/self/status | sort",
			"CapAmb:\t0000000000000000\nCapBnd:\t00000000000004e3\nCapEff:\t00000000000004e3\nCapPrm:\t00000000000004e3\n"},
		{"no capabilities for a user", func(s *specs.Spec) { s.Process.User.UID = 7 },
			"grep -E 'Cap(Prm|Eff|Amb)' /proc/self/status | sort",
			"CapAmb:\t0000000000000000\nCapEff:\t0000000000000000\nCapPrm:\t0000000000000000\n"},
		{"ambient capabilities", func(s *specs.Spec) {
			s.Process.User.UID = 7
			s.Process.Capabilities.Inheritable = []string{"CAP_KILL"}
			s.Process.Capabilities.Ambient = []string{"CAP_KILL"}
		}, "grep -E 'Cap(Prm|Eff|Amb)' /proc/self/status | sort",
			"CapAmb:\t0000000000000020\nCapEff:\t0000000000000020\nCapPrm:\t0000000000000020\n"},
		{"no_new_privs and seccomp", func(s *specs.Spec) {
			s.Process.NoNewPrivileges = true
			s.Linux.Seccomp = denyMkdir()
		}, "grep -E 'NoNewPrivs|Seccomp:' /proc/self/status; mkdir /x 2>&1",
			"NoNewPrivs:\t1\nSeccomp:\t2\nmkdir: can't create directory '/x': Operation not permitted\n"},
		{"seccomp without no_new_privs", func(s *specs.Spec) { s.Linux.Seccomp = denyMkdir() },
			"grep -E 'NoNewPrivs|Seccomp:|CapEff' /proc/self/status; mkdir /x 2>&1",
			"CapEff:\t00000000000004e3\nNoNewPrivs:\t0\nSeccomp:\t2\nmkdir: can't create directory '/x': Operation not permitted\n"},
		{"limits", func(s *specs.Spec) {
			s.Process.Rlimits = []specs.POSIXRlimit{{Type: "RLIMIT_NOFILE", Soft: 77, Hard: 99}, {Type: "RLIMIT_CORE", Soft: 0, Hard: 0}}
		}, "ulimit -n; ulimit -Hn; ulimit -c", "77\n99\n0\n"},
		{"signals as they are born", nil, "exec grep -E 'Sig(Blk|Ign)' /proc/self/status", "SigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\n"},
		{"descriptors", nil, "ls /proc/self/fd", "0\n1\n2\n3\n"}, // 3 is the directory being read
		{"processes", nil, "ps -o pid | sort -n | head -2; readlink /proc/1/exe", "PID\n    1\n/bin/sh\n"},
		{"devices", nil, "cd /dev; ls -d null zero full random urandom tty fd stdin stdout stderr ptmx pts shm mqueue; head -c 2 zero | od -An -tx1; stat -c '%a %t:%T' null",
			"fd\nfull\nmqueue\nnull\nptmx\npts\nrandom\nshm\nstderr\nstdin\nstdout\ntty\nurandom\nzero\n 00 00\n666 1:3\n"},
		{"further device", func(s *specs.Spec) {
			mode, uid := os.FileMode(0o640), uint32(3)
			s.Linux.Devices = []specs.LinuxDevice{{Path: "/dev/sub/mem", Type: "c", Major: 1, Minor: 5, FileMode: &mode, UID: &uid}}
		}, "stat -c '%a %u %t:%T' /dev/sub/mem", "640 3 1:5\n"},
		{"two masked directories", func(s *specs.Spec) {
			s.Linux.MaskedPaths = []string{"/proc/keys", "/sys/firmware", "/sys/kernel", "/sys/devices"}
		}, "for d in firmware kernel devices; do ls /sys/$d | wc -l; touch /sys/$d/x 2>/dev/null || echo no; done; grep -c ' /sys/[a-z]* tmpfs ro' /proc/self/mounts",
			"0\nno\n0\nno\n0\nno\n3\n"},
		{"masked and read-only paths", nil, "stat -c %t:%T /proc/keys; ls /sys/firmware | wc -l; echo 1 2>/dev/null >/proc/sys/kernel/printk; grep -c ' /proc/sys .*\\bro,' /proc/self/mounts || grep -c '/proc/sys proc ro' /proc/self/mounts",
			"1:3\n0\n1\n"},
		{"read-only root", func(s *specs.Spec) { s.Root.Readonly = true }, "touch /x 2>&1; touch /dev/shm/x && echo ok", "touch: /x: Read-only file system\nok\n"},
		{"read-only tmpfs with a mount inside", func(s *specs.Spec) {
			s.Mounts = append(s.Mounts, mount("/t", "tmpfs", "tmpfs", "ro"), mount("/t/sub", "tmpfs", "tmpfs", "rw"))
		}, "touch /t/x 2>&1; touch /t/sub/x && echo ok", "touch: /t/x: Read-only file system\nok\n"},
		{"sysctl", func(s *specs.Spec) {
			s.Linux.Sysctl = map[string]string{"net.ipv4.ip_forward": "1", "kernel.shmmax": "12345"}
		},
			"cat /proc/sys/net/ipv4/ip_forward /proc/sys/kernel/shmmax", "1\n12345\n"},
		{"domain name", func(s *specs.Spec) { s.Domainname = "lan" }, "cat /proc/sys/kernel/domainname", "lan\n"},
		{"cgroup namespace", nil, "cat /proc/self/cgroup | cut -d: -f3 | sort -u; ls " + memory + "/cgroup.procs; touch " + memory + "/x 2>&1 | grep -o Read-only",
			"/\n" + memory + "/cgroup.procs\nRead-only\n"},
		{"oom_score_adj", func(s *specs.Spec) { n := 321; s.Process.OOMScoreAdj = &n }, "cat /proc/self/oom_score_adj", "321\n"},
		{"propagation", nil, "grep -c 'shared:\\|master:' /proc/self/mountinfo", "0\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBed(t)
			s := b.spec("sh", "-c", c.script)
			if c.change != nil {
				c.change(s)
			}
			if out, _ := b.run(s); out != c.want {
				t.Errorf("output\n%s\nwant\n%s", out, c.want)
			}
		})
	}
}

func denyMkdir() *specs.LinuxSeccomp {
	return &specs.LinuxSeccomp{
		DefaultAction: specs.ActAllow, Architectures: []specs.Arch{specs.ArchX86_64, specs.ArchAARCH64},
		Syscalls: []specs.LinuxSyscall{{Names: []string{"mkdir", "mkdirat"}, Action: specs.ActErrno}},
	}
}

func TestCommandErrors(t *testing.T) {
	for _, c := range []struct {
		command string
		kind    container.CommandErrorKind
		class   error
		text    string
	}{
		{"nope", container.CommandNotFound, errdefs.ErrNotFound, `exec: "nope": executable file not found in $PATH`},
		{"/x/nope", container.CommandNotFound, errdefs.ErrNotFound, `exec: "/x/nope": stat /x/nope: no such file or directory`},
		{"/etc/passwd", container.CommandNotExecutable, errdefs.ErrPermissionDenied, `exec: "/etc/passwd": permission denied`},
		{"/etc", container.CommandNotExecutable, errdefs.ErrPermissionDenied, `exec: "/etc": is a directory`},
	} {
		t.Run(c.command, func(t *testing.T) {
			b := newBed(t)
			_, err := b.create(b.spec(c.command), nil)
			var ce *container.CommandError
			if !errors.As(err, &ce) || ce.Kind != c.kind || !errors.Is(err, c.class) || err.Error() != c.text {
				t.Errorf("error %v", err)
			}
		})
	}
}

// TestLateError: what is no program is found out by execve only.
func TestLateError(t *testing.T) {
	b := newBed(t)
	if err := os.WriteFile(b.rootfs()+"/bin/script", []byte("#!/no/such\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	c, err := b.create(b.spec("script"), nil)
	if err != nil {
		t.Fatal(err)
	}
	err = c.Start(context.Background())
	var ce *container.CommandError
	if !errors.As(err, &ce) || !ce.Late || ce.Kind != container.CommandNotFound || err.Error() != "exec script: no such file or directory" {
		t.Errorf("error %v", err)
	}
	if status := b.wait(c.PidFD()); status != 127 {
		t.Errorf("status %d, want 127", status)
	}
}

func TestFailedMountNamesItself(t *testing.T) {
	b := newBed(t)
	s := b.spec("true")
	s.Mounts = append(s.Mounts, mount("/x", "nofs", "none"))
	_, err := b.create(s, nil)
	if err == nil || err.Error() != "mount nofs on /x: no such device" {
		t.Errorf("error %v", err)
	}
}

func TestLifecycle(t *testing.T) {
	b := newBed(t)
	ctx := context.Background()
	c, err := b.create(b.spec("sleep", "100"), nil)
	if err != nil {
		t.Fatal(err)
	}
	want := func(status specs.ContainerState) {
		t.Helper()
		again, err := container.Load(b.root, "c1")
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range []*container.Container{c, again} {
			if s, err := c.State(); err != nil || s.Status != status {
				t.Errorf("state %v, %v; want %s", s, err, status)
			}
		}
	}
	want(specs.StateCreated)
	if _, err := b.create(b.spec("true"), nil); !errors.Is(err, errdefs.ErrAlreadyExists) {
		t.Errorf("second create: %v", err)
	}
	if err := c.Start(ctx); err != nil {
		t.Fatal(err)
	}
	want(specs.StateRunning)
	if err := c.Start(ctx); !errors.Is(err, errdefs.ErrFailedPrecondition) {
		t.Errorf("second start: %v", err)
	}
	if err := c.Delete(ctx, false); !errors.Is(err, errdefs.ErrFailedPrecondition) {
		t.Errorf("delete while it runs: %v", err)
	}
	if err := c.Pause(ctx); err != nil {
		t.Fatal(err)
	}
	want(container.StatePaused)
	if _, err := c.Exec(ctx, container.ExecOptions{Process: &specs.Process{Args: []string{"true"}, Cwd: "/"}}); !errors.Is(err, errdefs.ErrFailedPrecondition) {
		t.Errorf("exec while paused: %v", err)
	}
	if err := c.Resume(ctx); err != nil {
		t.Fatal(err)
	}
	want(specs.StateRunning)
	if pids, err := c.Pids(); err != nil || len(pids) != 1 || pids[0] != c.Pid() {
		t.Errorf("pids %v, %v", pids, err)
	}
	if st, err := c.Stats(); err != nil || st.V1 == nil && st.V2 == nil {
		t.Errorf("stats %v, %v", st, err)
	}
	if err := c.Kill(ctx, unix.SIGKILL, true); err != nil {
		t.Fatal(err)
	}
	if status := b.wait(c.PidFD()); status != 137 {
		t.Errorf("status %d, want 137", status)
	}
	want(specs.StateStopped)
	if err := c.Kill(ctx, unix.SIGTERM, false); !errors.Is(err, errdefs.ErrNotFound) {
		t.Errorf("kill of a stopped container: %v", err)
	}
	if list, err := container.List(b.root); err != nil || len(list) != 1 {
		t.Errorf("list %v, %v", list, err)
	}
	if err := c.Delete(ctx, false); err != nil {
		t.Fatal(err)
	}
	if _, err := container.Load(b.root, "c1"); !errors.Is(err, errdefs.ErrNotFound) {
		t.Errorf("load after delete: %v", err)
	}
}

// TestSignalBeforeStart: the init of a pid namespace would not notice one.
func TestSignalBeforeStart(t *testing.T) {
	b := newBed(t)
	c, err := b.create(b.spec("sleep", "100"), nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Kill(context.Background(), unix.SIGWINCH, false); err != nil {
		t.Fatal(err)
	}
	if err := c.Kill(context.Background(), unix.SIGTERM, false); err != nil {
		t.Fatal(err)
	}
	if status := b.wait(c.PidFD()); status != 128+15 {
		t.Errorf("status %d, want 143", status)
	}
	if err := c.Start(context.Background()); !errors.Is(err, errdefs.ErrFailedPrecondition) {
		t.Errorf("start: %v", err)
	}
}

// TestNothingStaysOpen: a created container holds no pipe, lock or port of its
// parent.
func TestNothingStaysOpen(t *testing.T) {
	b := newBed(t)
	pr, pw, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer pr.Close()
	unix.FcntlInt(pw.Fd(), unix.F_SETFD, 0) // as if some code had forgotten it
	locked, err := os.Create(t.TempDir() + "/lock")
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Flock(int(locked.Fd()), unix.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	sock, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	unix.Bind(sock, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}})
	unix.Listen(sock, 1)
	addr, _ := unix.Getsockname(sock)
	c, err := b.create(b.spec("sleep", "100"), nil)
	if err != nil {
		t.Fatal(err)
	}
	pw.Close()
	pr.SetReadDeadline(time.Now().Add(5 * time.Second))
	if n, err := pr.Read(make([]byte, 1)); n != 0 || err == nil || os.IsTimeout(err) {
		t.Errorf("pipe is held: %v", err)
	}
	locked.Close()
	again, _ := os.Open(locked.Name())
	defer again.Close()
	if err := unix.Flock(int(again.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		t.Errorf("lock is held: %v", err)
	}
	unix.Close(sock)
	sock, _ = unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
	defer unix.Close(sock)
	if err := unix.Bind(sock, addr); err != nil {
		t.Errorf("port is held: %v", err)
	}
	fds, _ := os.ReadDir("/proc/" + itoa(c.Pid()) + "/fd")
	if len(fds) != 5 { // stdio, listener, signals
		t.Errorf("%d descriptors are open", len(fds))
	}
}

func TestExec(t *testing.T) {
	b := newBed(t)
	c, err := b.create(b.spec("sleep", "100"), nil)
	if err != nil {
		t.Fatal(err)
	}
	ctx := context.Background()
	if err := c.Start(ctx); err != nil {
		t.Fatal(err)
	}
	r, w, _ := os.Pipe()
	defer r.Close()
	p, err := c.Exec(ctx, container.ExecOptions{Stdout: w, Stderr: w, Process: &specs.Process{
		Args: []string{"sh", "-c", "hostname; id -u; pwd; echo $HOME; cut -d: -f3 /proc/self/cgroup | sort -u; ls /proc/self/fd; ls -d /proc/1; exit 5"},
		Cwd:  "/tmp", User: specs.User{UID: 1000, GID: 1000}, Env: []string{"PATH=/bin"},
	}})
	w.Close()
	if err != nil {
		t.Fatal(err)
	}
	out := make([]byte, 4096)
	var got string
	for {
		n, err := r.Read(out)
		got += string(out[:n])
		if err != nil {
			break
		}
	}
	if want := "box\n1000\n/tmp\n"; !strings.HasPrefix(got, want) || !strings.Contains(got, "\n/\n0\n1\n2\n3\n/proc/1\n") {
		t.Errorf("output %q", got)
	}
	if status := b.wait(p.PidFD); status != 5 {
		t.Errorf("status %d, want 5", status)
	}
	p.PidFD.Close()
	_, err = c.Exec(ctx, container.ExecOptions{Process: &specs.Process{Args: []string{"nope"}, Cwd: "/", Env: []string{"PATH=/bin"}}})
	var ce *container.CommandError
	if !errors.As(err, &ce) || ce.Kind != container.CommandNotFound {
		t.Errorf("error %v", err)
	}
}
