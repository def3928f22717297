package container_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"gantry/runtime/container"
)

var idMap = []specs.LinuxIDMapping{{ContainerID: 0, HostID: 100000, Size: 65536}}

// own gives the root filesystem to the host id of a user namespace's root.
func (b *bed) own(path string) {
	b.t.Helper()
	if out, err := exec.Command("/bin/busybox", "chown", "-R", "100000:100000", path).CombinedOutput(); err != nil {
		b.t.Fatalf("chown: %v %s", err, out)
	}
}

func TestUserNamespace(t *testing.T) {
	b := newBed(t)
	b.own(b.rootfs())
	src := t.TempDir() // 0700 below, out of reach for the container's root
	os.Mkdir(src+"/d", 0o755)
	os.WriteFile(src+"/d/file", []byte("hi\n"), 0o644)
	s := b.spec("sh", "-c", "id -u; cat /proc/self/uid_map | tr -s ' '; cat /d/file; touch /x && stat -c %u /x; test -c /dev/null && echo dev; cut -d: -f3 /proc/self/cgroup | sort -u; touch "+shown("pids")+"/x 2>&1 | grep -o Read-only")
	s.Linux.Namespaces = append(s.Linux.Namespaces, specs.LinuxNamespace{Type: specs.UserNamespace})
	s.Linux.UIDMappings, s.Linux.GIDMappings = idMap, idMap
	s.Mounts = append(s.Mounts, mount("/d", "bind", src+"/d", "rbind"))
	if out, _ := b.run(s); out != "0\n 0 100000 65536\nhi\n0\ndev\n/\nRead-only\n" {
		t.Errorf("output %q", out)
	}
}

// holder is a process that keeps namespaces for others to join.
func holder(t *testing.T, flags uintptr, mapped bool) int {
	t.Helper()
	cmd := exec.Command("/bin/busybox", "sleep", "100")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: flags}
	if mapped {
		m := []syscall.SysProcIDMap{{ContainerID: 0, HostID: 100000, Size: 65536}}
		cmd.SysProcAttr.UidMappings, cmd.SysProcAttr.GidMappings = m, m
		cmd.SysProcAttr.GidMappingsEnableSetgroups = true
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	return cmd.Process.Pid
}

func (b *bed) join(s *specs.Spec, pid int, types ...specs.LinuxNamespaceType) {
	file := map[specs.LinuxNamespaceType]string{specs.NetworkNamespace: "net"}
	for _, t := range types {
		name := file[t]
		if name == "" {
			name = string(t)
		}
		path := fmt.Sprintf("/proc/%d/ns/%s", pid, name)
		found := false
		for i := range s.Linux.Namespaces {
			if s.Linux.Namespaces[i].Type == t {
				s.Linux.Namespaces[i].Path, found = path, true
			}
		}
		if !found {
			s.Linux.Namespaces = append(s.Linux.Namespaces, specs.LinuxNamespace{Type: t, Path: path})
		}
	}
}

func link(t *testing.T, pid int, ns string) string {
	t.Helper()
	l, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/%s", pid, ns))
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func TestJoin(t *testing.T) {
	b := newBed(t)
	pid := holder(t, unix.CLONE_NEWNET|unix.CLONE_NEWIPC|unix.CLONE_NEWUTS|unix.CLONE_NEWPID, false)
	s := b.spec("sleep", "100")
	s.Hostname = ""
	b.join(s, pid, specs.NetworkNamespace, specs.IPCNamespace, specs.UTSNamespace, specs.PIDNamespace)
	c, err := b.create(s, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(context.Background()); err != nil {
		t.Fatal(err)
	}
	for _, ns := range []string{"net", "ipc", "uts", "pid"} {
		if got, want := link(t, c.Pid(), ns), link(t, pid, ns); got != want {
			t.Errorf("%s: %s, want %s", ns, got, want)
		}
	}
	if link(t, c.Pid(), "mnt") == link(t, pid, "mnt") {
		t.Error("mount namespace is shared")
	}
	if link(t, os.Getpid(), "pid_for_children") != link(t, os.Getpid(), "pid") {
		t.Error("our own thread stayed in the pid namespace")
	}
}

// TestJoinUserNamespace: what is new belongs to the joined user namespace, the
// pid namespace too.
func TestJoinUserNamespace(t *testing.T) {
	b := newBed(t)
	b.own(b.rootfs())
	pid := holder(t, unix.CLONE_NEWUSER|unix.CLONE_NEWNET, true)
	s := b.spec("sh", "-c", "echo $$; cat /proc/self/uid_map | tr -s ' '; cat /proc/sys/net/ipv4/ip_forward; ls /sys/class/net")
	s.Linux.Sysctl = map[string]string{"net.ipv4.ip_forward": "1"}
	b.join(s, pid, specs.UserNamespace, specs.NetworkNamespace)
	if out, status := b.run(s); status != 0 || !strings.HasPrefix(out, "1\n 0 100000 65536\n1\n") || !strings.Contains(out, "lo\n") {
		t.Errorf("output %q, status %d", out, status)
	}
}

func TestExecInUserNamespace(t *testing.T) {
	b := newBed(t)
	b.own(b.rootfs())
	s := b.spec("sleep", "100")
	s.Linux.Namespaces = append(s.Linux.Namespaces, specs.LinuxNamespace{Type: specs.UserNamespace})
	s.Linux.UIDMappings, s.Linux.GIDMappings = idMap, idMap
	c, err := b.create(s, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(context.Background()); err != nil {
		t.Fatal(err)
	}
	r, w, _ := os.Pipe()
	defer r.Close()
	p, err := c.Exec(context.Background(), container.ExecOptions{Stdout: w, Stderr: w,
		Process: &specs.Process{Args: []string{"/bin/sh", "-c", "id -u; id -G; readlink /proc/self/ns/user /proc/1/ns/user | uniq | wc -l"}, Cwd: "/", User: specs.User{UID: 7, GID: 8, AdditionalGids: []uint32{9}}}})
	w.Close()
	if err != nil {
		t.Fatal(err)
	}
	if out := readAll(r); !strings.HasPrefix(out, "7\n8 9\n") {
		t.Errorf("output %q", out)
	}
	b.wait(p.PidFD)
}

func TestTerminal(t *testing.T) {
	b := newBed(t)
	s := b.spec("sh", "-c", "tty; stty size; test -c /dev/console && echo console; read x; echo got $x")
	s.Process.Terminal = true
	s.Process.ConsoleSize = &specs.Box{Height: 33, Width: 77}
	s.Process.User.UID = 1000
	c, err := b.create(s, nil)
	if err != nil {
		t.Fatal(err)
	}
	tty := c.Console()
	if tty == nil {
		t.Fatal("no console")
	}
	defer tty.Close()
	if err := c.Start(context.Background()); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewReader(tty)
	for _, want := range []string{"/dev/pts/0\r\n", "33 77\r\n", "console\r\n"} {
		if line, err := lines.ReadString('\n'); line != want {
			t.Errorf("output %q, %v; want %q", line, err, want)
		}
	}
	if _, err := tty.WriteString("word\n"); err != nil {
		t.Fatal(err)
	}
	if rest, _ := io.ReadAll(lines); string(rest) != "word\r\ngot word\r\n" {
		t.Errorf("output %q", rest)
	}
	b.wait(c.PidFD())
}

func TestExecTerminal(t *testing.T) {
	b := newBed(t)
	c, err := b.create(b.spec("sleep", "100"), nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(context.Background()); err != nil {
		t.Fatal(err)
	}
	p, err := c.Exec(context.Background(), container.ExecOptions{Process: &specs.Process{
		Terminal: true, Args: []string{"/bin/sh", "-c", "tty; echo x >/dev/tty"}, Cwd: "/"}})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Console.Close()
	if out := readAll(p.Console); out != "/dev/pts/0\r\nx\r\n" {
		t.Errorf("output %q", out)
	}
	b.wait(p.PidFD)
}

func TestHooks(t *testing.T) {
	b := newBed(t)
	log := t.TempDir() + "/log"
	hook := func(name string) []specs.Hook {
		return []specs.Hook{{Path: "/bin/busybox", Args: []string{"sh", "-c",
			`s=$(cat); echo ` + name + ` $(echo "$s" | grep -o '"status":"[a-z]*"' | cut -d'"' -f4) $(hostname) >> ` + log}, Env: []string{"PATH=/bin"}}}
	}
	inside := []specs.Hook{{Path: "/bin/busybox", Args: []string{"sh", "-c", "cat >/dev/null; echo startContainer $(hostname) $(cut -d: -f3 /proc/self/cgroup | sort -u) > /hooked; ! test -e " + log}, Env: []string{"PATH=/bin"}}}
	s := b.spec("cat", "/hooked")
	s.Hooks = &specs.Hooks{CreateRuntime: hook("createRuntime"), CreateContainer: hook("createContainer"), StartContainer: inside,
		Poststart: hook("poststart"), Poststop: hook("poststop")}
	s.Hooks.Prestart = hook("prestart") //nolint:staticcheck // still in use
	if out, _ := b.run(s); out != "startContainer box /\n" {
		t.Errorf("output %q", out)
	}
	host, _ := os.Hostname()
	got, _ := os.ReadFile(log)
	want := strings.ReplaceAll("prestart creating H\ncreateRuntime creating H\ncreateContainer creating box\npoststart running H\npoststop stopped H\n", "H", host)
	if string(got) != want {
		t.Errorf("hooks wrote\n%s\nwant\n%s", got, want)
	}
}

func TestFailedHookFailsCreate(t *testing.T) {
	b := newBed(t)
	s := b.spec("true")
	s.Hooks = &specs.Hooks{CreateRuntime: []specs.Hook{{Path: "/bin/busybox", Args: []string{"sh", "-c", "echo no luck >&2; exit 4"}}}}
	_, err := b.create(s, nil)
	if err == nil || !strings.Contains(err.Error(), "no luck") || !strings.Contains(err.Error(), "exit status 4") {
		t.Errorf("error %v", err)
	}
}
