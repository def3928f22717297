package main

import (
	"bufio"
	"bytes"
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

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// needCRIU skips where CRIU is not, or can't work with this kernel.
func needCRIU(t *testing.T) {
	t.Helper()
	path, err := exec.LookPath("criu")
	if err != nil {
		t.Skip("needs criu:", err)
	}
	if out, err := exec.Command(path, "check").CombinedOutput(); err != nil {
		t.Skipf("criu does not work here: %s", bytes.TrimSpace(out))
	}
}

// counting writes one number after the other to /log, on the root, and the last to
// /dev/shm/count, on a tmpfs.
const counting = `echo kept >/dev/shm/mark; i=0
while :; do i=$((i+1)); echo $i >>/log; echo $i >/dev/shm/count; sleep 0.1; done`

// checkpointHost is a host whose container may be checkpointed to image.
type checkpointHost struct {
	*host
	image, work string
}

func newCheckpointHost(t *testing.T, script string, edit func(*specs.Spec, *host)) *checkpointHost {
	t.Helper()
	needCRIU(t)
	adopt(t) // restored processes come to us
	h := newHost(t, script, nil)
	s := exampleSpec()
	s.Root.Readonly = false
	s.Process.Terminal, s.Process.Args = false, []string{"sh", "-c", script}
	if edit != nil {
		edit(s, h)
	}
	if err := writeSpec(filepath.Join(h.b, configName)+".new", s); err != nil {
		t.Fatal(err)
	}
	os.Rename(filepath.Join(h.b, configName)+".new", filepath.Join(h.b, configName))
	dir := t.TempDir()
	t.Cleanup(func() {
		exec.Command(h.grun, "--root", h.root, "delete", "-f", h.n).Run()
		reapAll()
		if mounts, _ := os.ReadFile("/proc/self/mountinfo"); bytes.Contains(mounts, []byte(h.b)) || bytes.Contains(mounts, []byte(h.root)) {
			t.Errorf("mounts left: %s", mounts)
		}
		if left, _ := filepath.Glob("/sys/fs/cgroup/" + h.n); len(left) != 0 {
			t.Errorf("cgroups left: %v", left)
		}
	})
	return &checkpointHost{h, filepath.Join(dir, "image"), filepath.Join(dir, "work")}
}

// reapAll collects what has come to us and has ended.
func reapAll() {
	for {
		if pid, err := unix.Wait4(-1, nil, unix.WNOHANG, nil); err != unix.EINTR && (err != nil || pid <= 0) {
			return
		}
	}
}

// must calls grun without stdio of its own to hand on, and fails with CRIU's log.
func (h *checkpointHost) must(args ...string) {
	h.t.Helper()
	cmd := h.cmd(args...)
	var stderr bytes.Buffer
	if args[0] == "run" || args[0] == "restore" {
		f, err := os.Create(filepath.Join(h.t.TempDir(), "log"))
		if err != nil {
			h.t.Fatal(err)
		}
		defer f.Close()
		cmd.Args = append([]string{cmd.Args[0], "--log", f.Name()}, cmd.Args[1:]...)
		if err := cmd.Run(); err != nil {
			text, _ := os.ReadFile(f.Name())
			h.t.Fatalf("%v: %v: %s\n%s", args, err, text, h.logs())
		}
		return
	}
	cmd.Stderr = &stderr
	if err := cmd.Run(); err != nil {
		h.t.Fatalf("%v: %v: %s\n%s", args, err, &stderr, h.logs())
	}
}

// logs are the ends of CRIU's.
func (h *checkpointHost) logs() string {
	var b strings.Builder
	for _, name := range []string{"dump.log", "restore.log"} {
		if text, err := os.ReadFile(filepath.Join(h.work, name)); err == nil {
			fmt.Fprintf(&b, "%s: …%s", name, text[max(0, len(text)-4000):])
		}
	}
	return b.String()
}

func (h *checkpointHost) checkpoint(more ...string) {
	h.t.Helper()
	h.must(append(append([]string{"checkpoint", "--image-path", h.image, "--work-path", h.work}, more...), h.n)...)
	reapAll()
}

// restore brings it back and gives the new pid.
func (h *checkpointHost) restore(more ...string) int {
	h.t.Helper()
	pidFile := filepath.Join(h.t.TempDir(), "pid")
	h.must(append(append([]string{"restore", "-d", "--bundle", h.b, "--image-path", h.image, "--work-path", h.work, "--pid-file", pidFile}, more...), h.n)...)
	b, err := os.ReadFile(pidFile)
	if err != nil {
		h.t.Fatal(err)
	}
	pid, err := strconv.Atoi(string(b))
	if err != nil {
		h.t.Fatal(err)
	}
	var s containerState
	if got := h.call("", "state", h.n); json.Unmarshal([]byte(got.out), &s) != nil || s.Status != specs.StateRunning || s.Pid != pid {
		h.t.Errorf("state %+v, want running, pid %d", got, pid)
	}
	return pid
}

func (h *checkpointHost) gone() {
	h.t.Helper()
	if got := h.call("", "state", h.n); got.status != 1 || !strings.Contains(got.stderr, "does not exist") {
		h.t.Errorf("state after checkpoint: %+v", got)
	}
}

// count is how far the log goes; it fails when a number is missing or comes twice.
func (h *checkpointHost) count() int {
	h.t.Helper()
	b, _ := os.ReadFile(filepath.Join(h.b, "rootfs", "log"))
	lines := strings.Fields(string(b))
	for i, l := range lines {
		if l != strconv.Itoa(i+1) {
			h.t.Fatalf("the counter's line %d is %s", i+1, l)
		}
	}
	return len(lines)
}

// counts waits until the counter is beyond n.
func (h *checkpointHost) counts(n int) int {
	h.t.Helper()
	for deadline := time.Now().Add(60 * time.Second); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		if now := h.count(); now > n {
			return now
		}
	}
	h.t.Fatalf("the counter stays at %d", h.count())
	return 0
}

func (h *checkpointHost) inside(want string, command ...string) {
	h.t.Helper()
	h.want(h.call("", append([]string{"exec", h.n}, command...)...), result{0, want, ""})
}

func TestCheckpointAndRestore(t *testing.T) {
	h := newCheckpointHost(t, counting, func(s *specs.Spec, h *host) {
		s.Linux.CgroupsPath = "/" + h.n
		limit := int64(77)
		s.Linux.Resources.Pids = &specs.LinuxPids{Limit: &limit}
	})
	h.must("run", "-d", "--bundle", h.b, h.n)
	h.counts(2)
	for range 2 { // what was restored can be checkpointed again
		h.checkpoint()
		h.gone()
		n := h.count()
		h.restore()
		h.counts(n)
		h.inside("kept\n", "cat", "/dev/shm/mark")
		h.inside("77\n", "cat", "/sys/fs/cgroup/pids.max")
	}
	h.want(h.call("", "kill", h.n, "9"), result{})
	var ws unix.WaitStatus
	if _, err := unix.Wait4(-1, &ws, 0, nil); err != nil || ws.Signal() != unix.SIGKILL {
		t.Errorf("wait: %v, %v", ws, err)
	}
	h.want(h.call("", "delete", h.n), result{})
}

func TestCheckpointLeavesRunning(t *testing.T) {
	h := newCheckpointHost(t, counting, nil)
	h.must("run", "-d", "--bundle", h.b, h.n)
	h.counts(2)
	h.checkpoint("--leave-running")
	h.counts(h.count())
	h.want(h.call("", "delete", "-f", h.n), result{})
	reapAll()
	at := h.count()
	b, _ := os.ReadFile(filepath.Join(h.b, "rootfs", "log"))
	h.restore() // from the past: it writes on where it was then
	for deadline := time.Now().Add(60 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		now, _ := os.ReadFile(filepath.Join(h.b, "rootfs", "log"))
		if rest := strings.Fields(strings.TrimPrefix(string(now), string(b))); len(rest) > 0 {
			if first, _ := strconv.Atoi(rest[0]); first > at || first < 2 {
				t.Errorf("goes on at %d, was left at %d", first, at)
			}
			return
		}
		if time.Now().After(deadline) {
			t.Fatal("the counter stays")
		}
	}
}

func TestCheckpointPreDump(t *testing.T) {
	h := newCheckpointHost(t, counting, nil)
	h.must("run", "-d", "--bundle", h.b, h.n)
	h.counts(2)
	parent := filepath.Join(filepath.Dir(h.image), "parent")
	h.must("checkpoint", "--pre-dump", "--image-path", parent, "--work-path", h.work, h.n)
	h.counts(h.count())
	h.checkpoint("--parent-path", "../parent")
	if _, err := os.Stat(filepath.Join(h.image, "parent")); err != nil {
		t.Error(err)
	}
	h.gone()
	n := h.count()
	h.restore()
	h.counts(n)
}

func TestCheckpointBindMounts(t *testing.T) {
	h := newCheckpointHost(t, counting, func(s *specs.Spec, h *host) {
		dir, file := filepath.Join(h.b, "dir"), filepath.Join(h.b, "file")
		os.Mkdir(dir, 0o755)
		os.WriteFile(filepath.Join(dir, "in"), []byte("bound\n"), 0o644)
		os.WriteFile(file, []byte("one file\n"), 0o644)
		os.MkdirAll(filepath.Join(h.b, "rootfs", "real"), 0o755)
		os.Symlink("/real/conf", filepath.Join(h.b, "rootfs", "conf"))
		s.Mounts = append(s.Mounts,
			specs.Mount{Destination: "/conf", Type: "bind", Source: dir, Options: []string{"bind"}},
			specs.Mount{Destination: "/data/deep", Type: "bind", Source: dir, Options: []string{"rbind", "rprivate"}},
			specs.Mount{Destination: "/data/ro", Type: "bind", Source: dir, Options: []string{"rbind", "ro"}},
			specs.Mount{Destination: "/etc/file", Type: "bind", Source: "file", Options: []string{"bind"}})
	})
	h.must("run", "-d", "--bundle", h.b, h.n)
	h.counts(2)
	h.checkpoint()
	n := h.count()
	os.RemoveAll(filepath.Join(h.b, "rootfs", "data")) // as in a root made anew
	h.restore()
	h.counts(n)
	h.inside("bound\nbound\none file\n", "cat", "/conf/in", "/data/deep/in", "/etc/file")
	h.want(h.call("", "exec", h.n, "sh", "-c", "echo x >/data/ro/new").class(), result{status: 1})
	h.inside("", "sh", "-c", "echo x >/data/deep/new")
	if b, _ := os.ReadFile(filepath.Join(h.b, "dir", "new")); string(b) != "x\n" {
		t.Errorf("through the bind came %q", b)
	}
}

// TestCheckpointPipes: the process goes on with other pipes than those it had.
func TestCheckpointPipes(t *testing.T) {
	h := newCheckpointHost(t, `while read x; do echo "<$x>"; echo "!$x" >&2; done; echo end`, nil)
	talk := func(args ...string) (in *os.File, out, stderr *bufio.Reader, done func()) {
		cmd := h.cmd(append(args, h.n)...)
		var files []*os.File
		pipe := func() (r, w *os.File) {
			r, w, err := os.Pipe()
			if err != nil {
				t.Fatal(err)
			}
			files = append(files, r, w)
			return r, w
		}
		stdin, inW := pipe()
		outR, stdout := pipe()
		errR, theirErr := pipe()
		cmd.Stdin, cmd.Stdout, cmd.Stderr = stdin, stdout, theirErr
		if err := cmd.Run(); err != nil {
			theirErr.Close()
			text, _ := bufio.NewReader(errR).ReadString(0)
			t.Fatalf("%v: %v: %s\n%s", args, err, text, h.logs())
		}
		for _, f := range []*os.File{stdin, stdout, theirErr} {
			f.Close()
		}
		return inW, bufio.NewReader(outR), bufio.NewReader(errR), func() {
			for _, f := range files {
				f.Close()
			}
		}
	}
	hear := func(r *bufio.Reader, want string) {
		t.Helper()
		if line, err := r.ReadString('\n'); line != want {
			t.Fatalf("%q, %v; want %q", line, err, want)
		}
	}
	in, out, stderr, done := talk("run", "-d", "--bundle", h.b)
	in.WriteString("one\n")
	hear(out, "<one>\n")
	hear(stderr, "!one\n")
	h.checkpoint()
	done()
	in, out, stderr, done = talk("restore", "-d", "--bundle", h.b, "--image-path", h.image, "--work-path", h.work)
	defer done()
	in.WriteString("two\n")
	hear(out, "<two>\n")
	hear(stderr, "!two\n")
	in.Close()
	hear(out, "end\n")
}

// TestCheckpointTerminal: the terminal's master is another one after the restore.
func TestCheckpointTerminal(t *testing.T) {
	h := newCheckpointHost(t, `while read x; do echo "<$x>"; done`, func(s *specs.Spec, _ *host) { s.Process.Terminal = true })
	dir := t.TempDir()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(dir, "s"), Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	l.SetDeadline(time.Now().Add(2 * time.Minute))
	talk := func(master *os.File, word string) {
		t.Helper()
		master.WriteString(word + "\n")
		r := bufio.NewReader(master)
		for _, want := range []string{word + "\r\n", "<" + word + ">\r\n"} {
			if line, err := r.ReadString('\n'); line != want {
				t.Fatalf("%q, %v; want %q", line, err, want)
			}
		}
	}
	h.must("run", "-d", "--bundle", h.b, "--console-socket", l.Addr().String(), h.n)
	master := acceptMaster(t, l)
	talk(master, "one")
	h.checkpoint()
	master.Close()
	h.restore("--console-socket", l.Addr().String())
	master = acceptMaster(t, l)
	defer master.Close()
	talk(master, "two")
	h.want(h.call("", "exec", "-t", h.n, "tty"), result{0, "/dev/pts/1\n", ""})
}

func acceptMaster(t *testing.T, l *net.UnixListener) *os.File {
	t.Helper()
	conn, err := l.AcceptUnix()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	buf, oob := make([]byte, 4096), make([]byte, unix.CmsgSpace(4))
	_, oobn, _, _, err := conn.ReadMsgUnix(buf, oob)
	if err != nil {
		t.Fatal(err)
	}
	list, err := unix.ParseSocketControlMessage(oob[:oobn])
	if err != nil || len(list) == 0 {
		t.Fatal("no terminal came", err)
	}
	fds, err := unix.ParseUnixRights(&list[0])
	if err != nil {
		t.Fatal(err)
	}
	return os.NewFile(uintptr(fds[0]), "master")
}

// TestCheckpointTCP: an established connection lives on in another network namespace,
// joined by the same path as the one before: who made that makes it anew, and with it
// goes what CRIU held packets off with.
func TestCheckpointTCP(t *testing.T) {
	script := `mkfifo /to /hold; exec 8<>/hold 9<>/to
nc -l -p 7777 <&8 >/got 9>&- & sleep 1
nc 127.0.0.1 7777 <&9 8>&- & i=0
while :; do i=$((i+1)); echo $i >&9; echo $i >>/log; sleep 0.1; done`
	var name string
	ip := func(commands ...[]string) {
		for _, args := range commands {
			if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
				t.Fatalf("ip %v: %v: %s", args, err, out)
			}
		}
	}
	h := newCheckpointHost(t, script, func(s *specs.Spec, h *host) {
		name = "c" + strconv.Itoa(os.Getpid())
		ip([]string{"netns", "add", name}, []string{"-n", name, "link", "set", "lo", "up"})
		t.Cleanup(func() { exec.Command("ip", "netns", "del", name).Run() })
		for i, n := range s.Linux.Namespaces {
			if n.Type == specs.NetworkNamespace {
				s.Linux.Namespaces[i].Path = "/run/netns/" + name
			}
		}
		for _, tool := range []string{"nc", "mkfifo"} {
			os.Symlink("busybox", filepath.Join(h.b, "rootfs", "bin", tool))
		}
	})
	h.must("run", "-d", "--bundle", h.b, h.n)
	h.counts(12)
	if got := h.call("", "checkpoint", "--image-path", h.image, "--work-path", h.work, h.n); got.status != 1 || !strings.Contains(got.stderr, "dump.log") {
		t.Errorf("checkpoint without --tcp-established: %+v", got)
	}
	h.counts(h.count()) // it goes on
	h.checkpoint("--tcp-established")
	n := h.count()
	ip([]string{"netns", "del", name}, []string{"netns", "add", name}, []string{"-n", name, "link", "set", "lo", "up"})
	h.restore("--tcp-established")
	n = h.counts(n + 3)
	for deadline := time.Now().Add(60 * time.Second); ; time.Sleep(100 * time.Millisecond) {
		b, _ := os.ReadFile(filepath.Join(h.b, "rootfs", "got"))
		if lines := strings.Fields(string(b)); len(lines) >= n {
			for i, l := range lines {
				if l != strconv.Itoa(i+1) {
					t.Fatalf("line %d of the connection is %s", i+1, l)
				}
			}
			return
		} else if time.Now().After(deadline) {
			out, _ := exec.Command("ip", "netns", "exec", name, "sh", "-c", "nft list ruleset; ss -tno").CombinedOutput()
			t.Fatalf("of %d lines the connection brought %d: %s\n%s", n, len(lines), out, h.logs())
		}
	}
}

func TestCheckpointUserNamespace(t *testing.T) {
	h := newCheckpointHost(t, counting, func(s *specs.Spec, h *host) {
		s.Linux.Namespaces = append(s.Linux.Namespaces, specs.LinuxNamespace{Type: specs.UserNamespace})
		ids := []specs.LinuxIDMapping{{HostID: 200000, Size: 65536}}
		s.Linux.UIDMappings, s.Linux.GIDMappings = ids, ids
		filepath.Walk(filepath.Join(h.b, "rootfs"), func(p string, _ os.FileInfo, _ error) error { return os.Lchown(p, 200000, 200000) })
		for _, p := range []string{h.b, filepath.Dir(h.b), filepath.Dir(filepath.Dir(h.b))} {
			os.Chmod(p, 0o755)
		}
	})
	h.must("run", "-d", "--bundle", h.b, h.n)
	h.counts(2)
	h.checkpoint()
	n := h.count()
	h.restore()
	h.counts(n)
	h.inside("kept\n", "cat", "/dev/shm/mark")
}

// TestRestoreHooks: those that run outside do, with the pid of the new init.
func TestRestoreHooks(t *testing.T) {
	h := newCheckpointHost(t, counting, func(s *specs.Spec, h *host) {
		hook := func(name string) []specs.Hook {
			return []specs.Hook{{Path: "/bin/sh", Args: []string{"sh", "-c", "cat >>" + filepath.Join(h.b, name)}}}
		}
		s.Hooks = &specs.Hooks{CreateRuntime: hook("createRuntime"), Poststart: hook("poststart"), Poststop: hook("poststop")}
	})
	states := func(name string) (list []specs.State) {
		b, _ := os.ReadFile(filepath.Join(h.b, name))
		for d := json.NewDecoder(bytes.NewReader(b)); d.More(); {
			var s specs.State
			if err := d.Decode(&s); err != nil {
				t.Fatal(err)
			}
			list = append(list, s)
		}
		return list
	}
	h.must("run", "-d", "--bundle", h.b, h.n)
	h.counts(2)
	h.checkpoint()
	if got := states("poststop"); len(got) != 1 {
		t.Errorf("poststop at the checkpoint: %+v", got)
	}
	pid := h.restore()
	if got := states("createRuntime"); len(got) != 2 || got[1].Pid != pid {
		t.Errorf("createRuntime: %+v, want a second with pid %d", got, pid)
	}
	if got := states("poststart"); len(got) != 1 {
		t.Errorf("poststart runs again: %+v", got)
	}
}

// TestRestoreForeground: grun stands before the process as with run.
func TestRestoreForeground(t *testing.T) {
	h := newCheckpointHost(t, `trap "exit 7" TERM; `+counting, nil)
	h.must("run", "-d", "--bundle", h.b, h.n)
	h.counts(2)
	h.checkpoint()
	n := h.count()
	cmd := h.cmd("restore", "--bundle", h.b, "--image-path", h.image, "--work-path", h.work, h.n)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	h.counts(n)
	cmd.Process.Signal(unix.SIGTERM)
	cmd.Wait()
	if got := cmd.ProcessState.ExitCode(); got != 7 {
		t.Errorf("status %d, %s\n%s", got, &stderr, h.logs())
	}
	h.gone()
}

// TestRestoreFails: nothing is left of it but the log.
func TestRestoreFails(t *testing.T) {
	h := newCheckpointHost(t, counting, nil)
	h.must("run", "-d", "--bundle", h.b, h.n)
	h.counts(2)
	h.checkpoint()
	images, _ := filepath.Glob(filepath.Join(h.image, "core-*.img"))
	for _, name := range images {
		os.Truncate(name, 10)
	}
	got := h.call("", "restore", "-d", "--bundle", h.b, "--image-path", h.image, "--work-path", h.work, h.n)
	if got.status != 1 || !strings.Contains(got.stderr, "criu failed: type RESTORE") || !strings.Contains(got.stderr, filepath.Join(h.work, "restore.log")) {
		t.Errorf("%+v", got)
	}
	h.gone()
}

// TestCheckpointForRunc: runc restores what grun has written.
func TestCheckpointForRunc(t *testing.T) {
	runc, err := exec.LookPath("runc")
	if err != nil {
		t.Skip("needs runc:", err)
	}
	h := newCheckpointHost(t, counting, func(s *specs.Spec, h *host) {
		s.Version = "1.0.2"
		s.Mounts = append(s.Mounts, specs.Mount{Destination: "/conf", Type: "bind", Source: h.b, Options: []string{"bind"}})
	})
	root := t.TempDir()
	t.Cleanup(func() { // runc wants the dead reaped before it deletes their cgroup
		if exec.Command(runc, "--root", root, "kill", h.n, "KILL").Run() == nil {
			for _, err := unix.Wait4(-1, nil, 0, nil); err == nil || err == unix.EINTR; _, err = unix.Wait4(-1, nil, 0, nil) {
			}
		}
		exec.Command(runc, "--root", root, "delete", "-f", h.n).Run()
		os.Remove("/sys/fs/cgroup/" + h.n) // a restored one it leaves
	})
	h.must("run", "-d", "--bundle", h.b, h.n)
	h.counts(2)
	h.checkpoint()
	n := h.count()
	log := filepath.Join(root, "log")
	restore := exec.Command(runc, "--root", root, "--log", log, "restore", "-d", "--bundle", h.b, "--image-path", h.image, "--work-path", h.work, h.n)
	if err := restore.Run(); err != nil {
		text, _ := os.ReadFile(log)
		t.Fatalf("runc restore: %v: %s\n%s", err, text, h.logs())
	}
	h.counts(n)
}
