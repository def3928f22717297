package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"gantry/internal/testutil/need"
)

// The user who has no privileges; nobody has these ids.
const (
	userID   = 61321
	subID    = 700000 // first of his subordinate ids
	subCount = 65536
)

// plainUser runs grun without privileges, on a bundle of his own.
type plainUser struct {
	*host
	home   string
	cgroup string      // of cgroup v2, that he is in; "": ours
	start  chan func() // run by the thread that is in the user's mount namespace
}

// newUser makes a bundle whose process runs script. The user is in the system's
// tables only in a mount namespace of his own.
func newUser(t *testing.T, script string, edit func(*specs.Spec)) *plainUser {
	t.Helper()
	h := newHost(t, script, func(s *specs.Spec) {
		makeRootless(s, userID, userID)
		if edit != nil {
			edit(s)
		}
	})
	u := &plainUser{host: h, home: t.TempDir(), start: make(chan func())}
	h.root = filepath.Join(u.home, "run", "grun") // his default
	must(t, os.Mkdir(filepath.Dir(h.root), 0o700))
	must(t, os.Chmod(filepath.Dir(h.grun), 0o755))
	for _, dir := range []string{h.b, u.home} {
		must(t, os.Chmod(filepath.Dir(dir), 0o711))
		must(t, chownTree(dir, userID))
	}
	ready := make(chan error)
	go u.live(t.TempDir(), ready)
	must(t, <-ready)
	t.Cleanup(func() { close(u.start) })
	t.Cleanup(func() { u.as("delete", "-f", u.n) })
	return u
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func chownTree(dir string, id int) error {
	return filepath.Walk(dir, func(p string, _ os.FileInfo, err error) error {
		return errors.Join(err, os.Lchown(p, id, id))
	})
}

// The first thread is the main goroutine's: a test that changes its own thread's namespaces
// does not change what /proc/self shows.
func init() { runtime.LockOSThread() }

// live starts what u.start asks for, on a thread of its own, which ends with it.
func (u *plainUser) live(dir string, ready chan<- error) {
	runtime.LockOSThread()
	err := unix.Unshare(unix.CLONE_NEWNS | unix.CLONE_FS)
	if err == nil {
		err = unix.Mount("", "/", "", unix.MS_SLAVE|unix.MS_REC, "")
	}
	subordinate := fmt.Sprintf("grunuser:%d:%d\n", subID, subCount)
	for file, line := range map[string]string{
		"passwd": fmt.Sprintf("grunuser:x:%d:%d::/:/bin/sh\n", userID, userID), "group": fmt.Sprintf("grunuser:x:%d:\n", userID),
		"subuid": subordinate, "subgid": subordinate,
	} {
		err = errors.Join(err, addLine(dir, "/etc/"+file, line))
	}
	ready <- err
	for do := range u.start {
		do()
	}
}

// addLine covers a file with a copy that has one more line.
func addLine(dir, file, line string) error {
	b, err := os.ReadFile(file)
	if errors.Is(err, os.ErrNotExist) {
		return nil // then there is no newuidmap either
	}
	own := filepath.Join(dir, filepath.Base(file))
	if err == nil {
		err = os.WriteFile(own, append(b, line...), 0o644)
	}
	if err == nil {
		err = unix.Mount(own, file, "", unix.MS_BIND, "")
	}
	return err
}

// run runs a program as the user.
func (u *plainUser) run(stdin string, args ...string) result {
	u.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute) // also when the test is over
	defer cancel()
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.WaitDelay, cmd.Dir = time.Second, u.home
	cmd.Env = []string{"PATH=" + os.Getenv("PATH") + ":/usr/sbin:/sbin", "XDG_RUNTIME_DIR=" + filepath.Dir(u.root), "USER=grunuser"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: userID, Gid: userID}}
	if u.cgroup != "" {
		dir, err := os.Open(u.cgroup)
		must(u.t, err)
		defer dir.Close()
		cmd.SysProcAttr.UseCgroupFD, cmd.SysProcAttr.CgroupFD = true, int(dir.Fd())
	}
	var out, stderr bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &out, &stderr
	started := make(chan error)
	u.start <- func() { started <- cmd.Start() }
	must(u.t, <-started)
	cmd.Wait()
	return result{cmd.ProcessState.ExitCode(), out.String(), stderr.String()}
}

// as runs grun as the user.
func (u *plainUser) as(args ...string) result {
	u.t.Helper()
	return u.run("", append([]string{u.grun}, args...)...)
}

// ranges maps the user to root and his subordinate ids to the ones after it.
func ranges(s *specs.Spec) {
	s.Linux.UIDMappings = append(s.Linux.UIDMappings, specs.LinuxIDMapping{ContainerID: 1, HostID: subID, Size: subCount})
	s.Linux.GIDMappings = append(s.Linux.GIDMappings, specs.LinuxIDMapping{ContainerID: 1, HostID: subID, Size: subCount})
}

func TestRootlessOwnID(t *testing.T) {
	u := newUser(t, "id; cat /proc/self/setgroups; cat /proc/self/uid_map; echo x >/dev/null && echo devices", nil)
	u.want(u.as("run", "-b", u.b, u.n), result{0, fmt.Sprintf("uid=0 gid=0\ndeny\n%10d %10d %10d\ndevices\n", 0, userID, 1), ""})
	if st, err := os.Stat(u.root); err != nil || st.Mode() != os.ModeDir|os.ModeSticky|0o700 {
		t.Errorf("root of states: %v, %v", st.Mode(), err)
	}
}

func TestRootlessRanges(t *testing.T) {
	need.Command(t, "newuidmap")
	u := newUser(t, "id; cat /proc/self/setgroups; cat /proc/self/gid_map", func(s *specs.Spec) {
		ranges(s)
		s.Process.User = specs.User{UID: 1000, GID: 1001, AdditionalGids: []uint32{5, 6}}
	})
	want := fmt.Sprintf("uid=1000 gid=1001 groups=5,6\nallow\n%10d %10d %10d\n%10d %10d %10d\n", 0, userID, 1, 1, subID, subCount)
	u.want(u.as("run", "-b", u.b, u.n), result{0, want, ""})
}

// TestRootlessRefused: what can't be had is refused in words that say why, and
// leaves nothing.
func TestRootlessRefused(t *testing.T) {
	need.Command(t, "newuidmap")
	for _, c := range []struct {
		name string
		edit func(*specs.Spec)
		want string
	}{
		{"ids of others", func(s *specs.Spec) { ranges(s); s.Linux.UIDMappings[1].HostID = 100000 },
			fmt.Sprintf("newuidmap: exit status 1: newuidmap: uid range [1-65537) -> [100000-165536) not allowed (/etc/subuid has for grunuser: %d ids from %d)", subCount, subID)},
		{"the host's root", func(s *specs.Spec) { s.Linux.GIDMappings[0].HostID = 0 }, "newgidmap: exit status 1: newgidmap: gid range [0-1) -> [0-1) not allowed"},
		{"no user namespace", func(s *specs.Spec) {
			l := s.Linux
			l.Namespaces, l.UIDMappings, l.GIDMappings = l.Namespaces[:len(l.Namespaces)-1], nil, nil
		}, "rootless container requires user namespaces"},
		{"groups", func(s *specs.Spec) { s.Process.User.AdditionalGids = []uint32{0} }, "cannot set any additional groups in a rootless container"},
		{"user", func(s *specs.Spec) { s.Process.User.UID = 7 }, "cannot set uid to unmapped user in user namespace: 7"},
		{"owner of a mount", func(s *specs.Spec) { s.Mounts[1].Options = append(s.Mounts[1].Options, "gid=5") }, "mount /dev: cannot specify gid=5 for an id that is not mapped"},
	} {
		t.Run(c.name, func(t *testing.T) {
			u := newUser(t, "echo ran", c.edit)
			got := u.as("run", "-b", u.b, u.n)
			if got.status != 1 || got.out != "" || !strings.Contains(unquote(got.stderr), c.want) {
				t.Errorf("%+v\nwant %s", got, c.want)
			}
			u.want(u.as("list", "-q"), result{})
		})
	}
}

func unquote(s string) string { return strings.ReplaceAll(s, `\"`, `"`) }

// TestRootlessCoveredProc: where parts of /proc are covered the kernel gives no
// new one.
func TestRootlessCoveredProc(t *testing.T) {
	u := newUser(t, "echo ran", nil)
	if mounts, _ := os.ReadFile("/proc/self/mounts"); strings.Count("\n"+string(mounts), "\nproc ") > 1 {
		t.Skip("/proc is mounted several times; the kernel looks at all")
	}
	covered := make(chan error)
	u.start <- func() { covered <- unix.Mount("none", "/proc/sys", "tmpfs", 0, "") }
	must(t, <-covered)
	got := u.as("run", "-b", u.b, u.n)
	if want := "mount proc on /proc: operation not permitted (in a user namespace that takes"; got.status != 1 || !strings.Contains(got.stderr, want) {
		t.Errorf("%+v", got)
	}
}

func TestRootlessLifeCycle(t *testing.T) {
	u := newUser(t, "sleep 1000 & exec sleep 1001", nil)
	do := func(status int, out string, args ...string) {
		t.Helper()
		got := u.as(args...)
		if got.status != status || !strings.Contains(got.out+unquote(got.stderr), out) {
			t.Errorf("%v: %+v, want %d, %q", args, got, status, out)
		}
	}
	do(0, "", "create", "-b", u.b, u.n)
	do(0, "created", "state", u.n)
	do(0, "uid=0 gid=0", "exec", u.n, "id")
	do(0, "", "start", u.n)
	do(0, "running", "list")
	do(0, "uid=0 gid=0", "exec", u.n, "id")
	do(7, "", "exec", u.n, "sh", "-c", "exit 7")
	do(255, "cannot set uid to unmapped user", "exec", "--user", "5", u.n, "id")
	do(0, "", "exec", "-d", u.n, "sleep", "1002")
	eventually(t, func() bool { return len(u.pids()) == 3 })
	do(0, "", "kill", "--all", u.n, "TERM") // the first process has no handler for it
	// Nobody in it waits for its child.
	eventually(t, func() bool {
		return strings.Contains(u.as("exec", u.n, "sh", "-c", "cat /proc/[0-9]*/stat").out, "(sleep) Z ")
	})
	const none = "the container has no cgroup"
	do(1, none, "pause", u.n)
	do(1, none, "update", "--pids-limit", "7", u.n)
	do(1, none, "events", "--stats", u.n)
	do(1, "is not stopped", "delete", u.n)
	do(0, "", "kill", u.n, "KILL")
	eventually(t, func() bool { return strings.Contains(u.as("state", u.n).out, "stopped") })
	do(1, "container not running", "kill", u.n, "KILL")
	do(0, "", "delete", u.n)
}

// TestRootlessSharedPIDs: without a cgroup, what is done to a container in the pid
// namespace of another does not reach that.
func TestRootlessSharedPIDs(t *testing.T) {
	first := newUser(t, "exec sleep 1001", nil)
	if got := first.as("run", "-d", "-b", first.b, first.n); got.status != 0 {
		t.Fatalf("%+v", got)
	}
	var state specs.State
	must(t, json.Unmarshal([]byte(first.as("state", first.n).out), &state))
	second := newUser(t, "tty; exec sleep 1002", func(s *specs.Spec) {
		s.Linux.UIDMappings, s.Linux.GIDMappings = nil, nil
		for i, n := range s.Linux.Namespaces {
			if name := map[specs.LinuxNamespaceType]string{specs.UserNamespace: "user", specs.PIDNamespace: "pid"}[n.Type]; name != "" {
				s.Linux.Namespaces[i].Path = fmt.Sprintf("/proc/%d/ns/%s", state.Pid, name)
			}
		}
	})
	second.n += "-second"
	got := second.as("run", "-d", "-b", second.b, second.n)
	if got.status != 0 || !strings.Contains(got.stderr, "not all its processes can be found") {
		t.Fatalf("%+v", got)
	}
	for _, args := range [][]string{{"kill", "--all", second.n, "TERM"}, {"ps", second.n}} {
		if got := second.as(args...); got.status != 1 || !strings.Contains(got.stderr, "neither a cgroup nor a pid namespace of its own") {
			t.Errorf("%v: %+v", args, got)
		}
	}
	second.want(second.as("delete", "-f", second.n), result{})
	if got := first.pids(); len(got) != 1 {
		t.Errorf("processes of the first: %v", got)
	}
}

func eventually(t *testing.T, cond func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !cond(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("waited in vain")
		}
	}
}

func (u *plainUser) pids() (list []int) {
	u.t.Helper()
	got := u.as("ps", "--format", "json", u.n)
	if err := json.Unmarshal([]byte(got.out), &list); err != nil {
		u.t.Errorf("%+v: %v", got, err)
	}
	return list
}

// TestRootlessTerminal: a created container's terminal goes to the console socket,
// and an exec has one too.
func TestRootlessTerminal(t *testing.T) {
	u := newUser(t, "tty; stty size; exec sleep 1000", func(s *specs.Spec) {
		s.Process.Terminal, s.Process.ConsoleSize = true, &specs.Box{Height: 11, Width: 22}
	})
	path := filepath.Join(u.home, "console")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	must(t, err)
	defer l.Close()
	must(t, os.Chown(path, userID, userID))
	l.SetDeadline(time.Now().Add(20 * time.Second))
	if got := u.as("run", "-d", "-b", u.b, "--console-socket", path, u.n); got.status != 0 {
		t.Fatalf("%+v", got)
	}
	conn, err := l.AcceptUnix()
	must(t, err)
	defer conn.Close()
	master := receiveFile(t, conn)
	defer master.Close()
	buf, text := make([]byte, 100), ""
	for !strings.Contains(text, "11 22") {
		n, err := master.Read(buf)
		if text += string(buf[:n]); err != nil {
			t.Fatalf("%q, %v", text, err)
		}
	}
	if !strings.HasPrefix(text, "/dev/pts/0\r\n") {
		t.Errorf("%q", text)
	}
	if got := u.as("exec", "-t", u.n, "tty"); got.status != 0 || strings.TrimSpace(got.out) != "/dev/pts/1" {
		t.Errorf("%+v", got)
	}
}

func receiveFile(t *testing.T, conn *net.UnixConn) *os.File {
	t.Helper()
	buf, oob := make([]byte, 200), make([]byte, 100)
	_, n, _, _, err := conn.ReadMsgUnix(buf, oob)
	must(t, err)
	msgs, err := unix.ParseSocketControlMessage(oob[:n])
	must(t, err)
	fds, err := unix.ParseUnixRights(&msgs[0])
	must(t, err)
	return os.NewFile(uintptr(fds[0]), "master")
}

// TestRootlessLimits: without a cgroup limits are left out, and it is told which.
func TestRootlessLimits(t *testing.T) {
	limit, pids := int64(64<<20), int64(20)
	u := newUser(t, "echo ran", func(s *specs.Spec) {
		s.Linux.Resources = &specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: &limit}, Pids: &specs.LinuxPids{Limit: &pids}}
	})
	got := u.as("run", "-b", u.b, u.n)
	if got.status != 0 || got.out != "ran\n" || !strings.Contains(got.stderr, "level=warning") ||
		!strings.Contains(got.stderr, "limits left out") || !strings.Contains(got.stderr, "memory.") || !strings.Contains(got.stderr, "pids.max") {
		t.Errorf("%+v", got)
	}
}

// TestRootlessHooks: each in its namespaces, as the user or as root of the
// container's user namespace.
func TestRootlessHooks(t *testing.T) {
	mark := ""
	hook := func(script string) []specs.Hook {
		return []specs.Hook{{Path: "/bin/sh", Args: []string{"sh", "-c", script, "sh", mark}}}
	}
	u := newUser(t, "cat /dev/shm/mark", func(s *specs.Spec) {
		mark = filepath.Join(t.TempDir(), "mark")
		must(t, os.WriteFile(mark, nil, 0o666))
		must(t, os.Chmod(mark, 0o666))
		must(t, os.Chmod(filepath.Dir(filepath.Dir(mark)), 0o711))
		s.Hooks = &specs.Hooks{
			CreateRuntime:   hook(`echo createRuntime $(id -u) >>"$1"`),
			CreateContainer: hook(`echo createContainer $(id -u) $(hostname) >>"$1"`),
			StartContainer:  hook(`echo startContainer $(id -u) >/dev/shm/mark`),
			Poststop:        hook(`echo poststop $(id -u) >>"$1"`),
		}
		for i := range s.Mounts[:4] {
			if s.Mounts[i].Destination == "/dev/shm" {
				s.Mounts[i].Options = []string{"nosuid", "mode=1777"}
			}
		}
	})
	u.want(u.as("run", "-b", u.b, u.n), result{0, "startContainer 0\n", ""})
	b, _ := os.ReadFile(mark)
	if want := fmt.Sprintf("createRuntime %d\ncreateContainer 0 grun\npoststop %d\n", userID, userID); string(b) != want {
		t.Errorf("%s\nwant %s", b, want)
	}
}

// TestRootOfUserNamespace: who is root there alone does what can be done, with
// and without a mount namespace that is his to change.
func TestRootOfUserNamespace(t *testing.T) {
	unshare := need.Command(t, "unshare")
	for _, flags := range []string{"-Ur", "-Urm"} {
		for _, nested := range []bool{false, true} {
			t.Run(fmt.Sprint(flags, " nested ", nested), func(t *testing.T) {
				u := newUser(t, "cat /proc/self/uid_map; echo x >/dev/null && echo devices", func(s *specs.Spec) {
					l := s.Linux
					l.UIDMappings[0].HostID, l.GIDMappings[0].HostID = 0, 0
					if !nested {
						l.Namespaces, l.UIDMappings, l.GIDMappings = l.Namespaces[:len(l.Namespaces)-1], nil, nil
					}
				})
				host := userID
				if nested {
					host = 0
				}
				want := fmt.Sprintf("%10d %10d %10d\ndevices\n", 0, host, 1)
				u.want(u.run("", unshare, flags, u.grun, "run", "-b", u.b, u.n), result{0, want, ""})
			})
		}
	}
}

// TestRootlessNetwork: a network namespace of the container's own has its loopback up,
// and sysfs can be mounted.
func TestRootlessNetwork(t *testing.T) {
	u := newUser(t, "ls /sys/class/net; cat /sys/class/net/lo/flags", func(s *specs.Spec) {
		s.Linux.Namespaces = append(s.Linux.Namespaces, specs.LinuxNamespace{Type: specs.NetworkNamespace})
		for i, m := range s.Mounts {
			if m.Destination == "/sys" {
				s.Mounts[i].Type, s.Mounts[i].Source, s.Mounts[i].Options = "sysfs", "sysfs", nil
			}
		}
	})
	u.want(u.as("run", "-b", u.b, u.n), result{0, "lo\n0x9\n", ""})
}

// TestRootlessInContainer: a container of a user namespace runs one in it.
func TestRootlessInContainer(t *testing.T) {
	need.Command(t, "newuidmap")
	u := newUser(t, "", func(s *specs.Spec) {
		ranges(s)
		s.Process.Args = []string{"/grun", "--root", "/run/grun", "run", "-b", "/b", "inner"}
		caps := []string{"CAP_SYS_ADMIN", "CAP_SETUID", "CAP_SETGID", "CAP_SETFCAP", "CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_NET_ADMIN"}
		s.Process.Capabilities = &specs.LinuxCapabilities{Bounding: caps, Effective: caps, Permitted: caps}
		s.Root.Readonly, s.Linux.MaskedPaths, s.Linux.ReadonlyPaths = false, nil, nil
	})
	inner := exampleSpec()
	makeRootless(inner, 0, 0)
	inner.Process.Terminal, inner.Process.Args = false, []string{"sh", "-c", "cat /proc/self/uid_map; echo x >/dev/null && echo devices"}
	more := specs.LinuxIDMapping{ContainerID: 1, HostID: 1, Size: 1000} // apart: a range must lie in one of the outer ones
	inner.Linux.UIDMappings, inner.Linux.GIDMappings = append(inner.Linux.UIDMappings, more), append(inner.Linux.GIDMappings, more)
	root := filepath.Join(u.b, "rootfs")
	must(t, os.MkdirAll(filepath.Join(root, "b"), 0o755))
	must(t, os.CopyFS(filepath.Join(root, "b", "rootfs", "bin"), os.DirFS(filepath.Join(root, "bin"))))
	must(t, writeSpec(filepath.Join(root, "b", configName), inner))
	b, err := os.ReadFile(u.grun)
	must(t, err)
	must(t, os.WriteFile(filepath.Join(root, "grun"), b, 0o755))
	must(t, chownTree(u.b, userID))
	u.want(u.as("run", "-b", u.b, u.n), result{0, fmt.Sprintf("%10d %10d %10d\n%10d %10d %10d\ndevices\n", 0, 0, 1, 1, 1, 1000), ""})
}

// TestRootlessLikeRunc: the same bundle looks the same inside.
func TestRootlessLikeRunc(t *testing.T) {
	runc := need.Command(t, "runc")
	u := newUser(t, "id; cat /proc/self/uid_map /proc/self/setgroups; grep ^Cap /proc/self/status; ls -ln /dev | grep -v kcore | sed 's/ [A-Z][a-z][a-z] .* / /'; ls -d /proc/self/ns/*; cat /proc/self/oom_score_adj; hostname; pwd; umask", nil)
	ours, theirs := u.as("run", "-b", u.b, u.n), u.run("", runc, "run", "-b", u.b, u.n)
	if theirs.status != 0 {
		t.Skipf("runc can't: %+v", theirs)
	}
	if ours != theirs {
		t.Errorf("ours %+v\nrunc %+v", ours, theirs)
	}
}
