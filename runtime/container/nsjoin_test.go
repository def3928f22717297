package container_test

import (
	"context"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"gantry/runtime/container"
)

// TestJoinsEveryKind: the init and what is executed beside it are in the namespaces of the
// paths.
func TestJoinsEveryKind(t *testing.T) {
	kinds := map[string]specs.LinuxNamespaceType{
		"net": specs.NetworkNamespace, "ipc": specs.IPCNamespace, "uts": specs.UTSNamespace, "pid": specs.PIDNamespace,
		"cgroup": specs.CgroupNamespace, "time": specs.TimeNamespace, "mnt": specs.MountNamespace,
	}
	pid := holder(t, unix.CLONE_NEWNET|unix.CLONE_NEWIPC|unix.CLONE_NEWUTS|unix.CLONE_NEWPID|unix.CLONE_NEWNS, false)
	other := timeHolder(t)
	for file, kind := range kinds {
		t.Run(file, func(t *testing.T) {
			b := newBed(t)
			s := b.spec("sleep", "100")
			s.Hostname = ""
			from := pid
			if file == "time" || file == "cgroup" {
				from = other
			}
			path := "/proc/" + itoa(from) + "/ns/" + file
			found := false
			for i := range s.Linux.Namespaces {
				if s.Linux.Namespaces[i].Type == kind {
					s.Linux.Namespaces[i].Path, found = path, true
				}
			}
			if !found {
				s.Linux.Namespaces = append(s.Linux.Namespaces, specs.LinuxNamespace{Type: kind, Path: path})
			}
			c, err := b.create(s, nil)
			if err != nil {
				t.Fatal(err)
			}
			if err := c.Start(context.Background()); err != nil {
				t.Fatal(err)
			}
			if got, want := link(t, c.Pid(), file), link(t, from, file); got != want {
				t.Errorf("%s, want %s", got, want)
			}
			p, err := c.Exec(context.Background(), container.ExecOptions{Process: &specs.Process{Args: []string{"/bin/sleep", "100"}, Cwd: "/"}})
			if err != nil {
				t.Fatal(err)
			}
			if got, want := link(t, p.Pid, file), link(t, from, file); got != want {
				t.Errorf("exec: %s, want %s", got, want)
			}
			unix.Kill(p.Pid, unix.SIGKILL)
			b.wait(p.PidFD)
		})
	}
}

// timeHolder is a process in time and cgroup namespaces of its own.
func timeHolder(t *testing.T) int {
	t.Helper()
	cmd := exec.Command("/bin/busybox", "sleep", "100")
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: unix.CLONE_NEWTIME | unix.CLONE_NEWCGROUP}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	return cmd.Process.Pid
}

func TestWrongNamespaceIsRefused(t *testing.T) {
	dir := t.TempDir()
	os.WriteFile(dir+"/file", nil, 0o644)
	unix.Mkfifo(dir+"/fifo", 0o600)
	for _, c := range []struct{ name, path, want string }{
		{"another kind", "/proc/self/ns/ipc", "network namespace: /proc/self/ns/ipc is a namespace of another kind"},
		{"a file", dir + "/file", "is not a namespace"},
		{"a fifo that nobody writes to", dir + "/fifo", "is not a namespace"},
		{"nothing", dir + "/none", "network namespace: open " + dir + "/none: no such file or directory"},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBed(t)
			s := b.spec("true")
			s.Linux.Namespaces[2] = specs.LinuxNamespace{Type: specs.NetworkNamespace, Path: c.path}
			_, err := b.create(s, nil)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v", err)
			}
			if c.name != "nothing" && !errdefs.IsInvalidArgument(err) {
				t.Errorf("class of %v", err)
			}
		})
	}
}

func TestTimeNamespace(t *testing.T) {
	for name, userns := range map[string]bool{"plain": false, "in a user namespace": true} {
		t.Run(name, func(t *testing.T) {
			b := newBed(t)
			s := b.spec("sh", "-c", "cut -d. -f1 /proc/uptime; tr -s ' ' < /proc/self/timens_offsets")
			s.Linux.Namespaces = append(s.Linux.Namespaces, specs.LinuxNamespace{Type: specs.TimeNamespace})
			s.Linux.TimeOffsets = map[string]specs.LinuxTimeOffset{"boottime": {Secs: 10_000_000, Nanosecs: 5}, "monotonic": {Secs: -7}}
			if userns {
				b.userns(s)
			}
			out, _ := b.run(s)
			lines := strings.SplitN(out, "\n", 2)
			if up, err := strconv.Atoi(lines[0]); err != nil || up < 10_000_000 || up > 20_000_000 {
				t.Errorf("uptime %q", lines[0])
			}
			if want := "monotonic -7 0\nboottime 10000000 5\n"; len(lines) < 2 || lines[1] != want {
				t.Errorf("offsets %q, want %q", lines[1:], want)
			}
		})
	}
}

func TestTimeOffsetOutOfRange(t *testing.T) {
	b := newBed(t)
	s := b.spec("true")
	s.Linux.Namespaces = append(s.Linux.Namespaces, specs.LinuxNamespace{Type: specs.TimeNamespace})
	s.Linux.TimeOffsets = map[string]specs.LinuxTimeOffset{"boottime": {Secs: -1 << 40}}
	if _, err := b.create(s, nil); err == nil || !strings.Contains(err.Error(), "set time offsets: numerical result out of range") {
		t.Errorf("error %v", err)
	}
}

// TestNewUserJoinedNetwork: a new user namespace has no power over the host's network
// namespace, which it joins nevertheless.
func TestNewUserJoinedNetwork(t *testing.T) {
	b := newBed(t)
	pid := holder(t, unix.CLONE_NEWNET|unix.CLONE_NEWIPC, false)
	s := b.spec("sh", "-c", "echo $$; readlink /proc/self/ns/net; readlink /proc/self/ns/ipc; cat /proc/self/uid_map | tr -s ' '; ls /sys/class/net | head -1")
	s.Mounts = append(s.Mounts[:5:5], s.Mounts[6]) // nor over message queues of an ipc namespace that is not its own
	b.userns(s)
	b.join(s, pid, specs.NetworkNamespace, specs.IPCNamespace)
	out, status := b.run(s)
	if want := "1\n" + link(t, pid, "net") + "\n" + link(t, pid, "ipc") + "\n 0 100000 65536\n"; status != 0 || !strings.HasPrefix(out, want) {
		t.Errorf("output %q, want %q; status %d", out, want, status)
	}
}

// TestRootPropagation: the propagation of the root filesystem as the kernel tells it.
func TestRootPropagation(t *testing.T) {
	for how, want := range map[string]string{
		"": "", "private": "", "rprivate": "", "slave": "", "rslave": "",
		"shared": "shared:N", "rshared": "shared:N", "unbindable": "unbindable", "runbindable": "unbindable",
	} {
		t.Run(how, func(t *testing.T) {
			b := newBed(t)
			s := b.spec("sh", "-c", options("/"))
			s.Linux.RootfsPropagation = how
			out, _ := b.run(s)
			if fields := strings.Fields(out); len(fields) < 2 || strings.Join(fields[2:], " ") != want {
				t.Errorf("mount %q, want %q", out, want)
			}
		})
	}
}

// TestIDMapOfJoinedUserNamespace: the ids of a mount are those of the namespace at the path,
// which the spec does not have.
func TestIDMapOfJoinedUserNamespace(t *testing.T) {
	b := newBed(t)
	b.own(b.rootfs())
	src := t.TempDir()
	os.WriteFile(src+"/file", nil, 0o644)
	s := b.spec("stat", "-c", "%u", "/m/file")
	b.join(s, holder(t, unix.CLONE_NEWUSER, true), specs.UserNamespace)
	s.Mounts = append(s.Mounts, mount("/m", "bind", src, "bind", "idmap"))
	if out, _ := b.run(s); out != "0\n" {
		t.Errorf("output %q", out)
	}
}

// TestNewUserJoinedPIDs: the init is found, although it comes of two clones and its number in
// the pid namespace that it joins is another one than in ours.
func TestNewUserJoinedPIDs(t *testing.T) {
	b := newBed(t)
	pid := holder(t, unix.CLONE_NEWNET|unix.CLONE_NEWPID, false)
	s := b.spec("sleep", "100")
	s.Mounts = slices.DeleteFunc(s.Mounts, func(m specs.Mount) bool { return m.Type == "proc" }) // nor over that
	b.userns(s)
	b.join(s, pid, specs.NetworkNamespace, specs.PIDNamespace)
	c, err := b.create(s, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(context.Background()); err != nil {
		t.Fatal(err)
	}
	for _, kind := range []string{"net", "pid"} {
		if got, want := link(t, c.Pid(), kind), link(t, pid, kind); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
	if got, not := link(t, c.Pid(), "user"), link(t, pid, "user"); got == not {
		t.Errorf("%s is ours", got)
	}
}
