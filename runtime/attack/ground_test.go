package attack_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"gantry/internal/testutil/busybox"
	"gantry/internal/testutil/need"
)

// The long forms run with GANTRY_SOAK=1, as make soak does.
func scale(full, small int) int {
	if os.Getenv("GANTRY_SOAK") == "1" {
		return full
	}
	return small
}

// TestMain makes the test what its containers' orphans go to, as an engine is.
func TestMain(m *testing.M) {
	unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
	status := m.Run()
	os.RemoveAll(programs)
	os.Exit(status)
}

var programs string // directory to remove

// builds makes static programs: a container has no libraries.
var builds = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "attack")
	if err != nil {
		return "", err
	}
	programs = dir
	if err := os.Chmod(dir, 0o755); err != nil {
		return "", err
	}
	for _, pkg := range []string{"grun", "intruder"} {
		have := filepath.Join(os.Getenv("GANTRY_BIN"), pkg)
		if b, err := os.ReadFile(have); err == nil && os.Getenv("GANTRY_BIN") != "" {
			if err := os.WriteFile(filepath.Join(dir, pkg), b, 0o755); err != nil {
				return "", err
			}
			continue
		}
		path := map[string]string{"grun": "gantry/cmd/grun", "intruder": "gantry/internal/testutil/intruder"}[pkg]
		cmd := exec.Command("go", "build", "-o", dir, path)
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			return "", fmt.Errorf("build %s: %w: %s", pkg, err, out)
		}
	}
	return dir, nil
})

// program is the path of a static program of ours.
func program(t testing.TB, name string) string {
	t.Helper()
	need.Root(t, "runs containers")
	dir, err := builds()
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Join(dir, name)
}

// ground is where one test's containers run: bundles that share one state root.
type ground struct {
	t         *testing.T
	dir, grun string
	cgroup    string // what the names of its cgroups begin with
}

func newGround(t *testing.T) *ground {
	t.Helper()
	g := &ground{t: t, grun: program(t, "grun"), dir: t.TempDir()}
	g.cgroup = "gantry-attack-" + strings.ToLower(filepath.Base(filepath.Dir(g.dir)))
	if err := os.Chmod(g.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(g.check)
	return g
}

// check fails the test when a container left something behind.
func (g *ground) check() {
	for _, mounted := range []string{"/sys/fs/cgroup/", "/sys/fs/cgroup/*/"} {
		if left, _ := filepath.Glob(mounted + g.cgroup + "*"); len(left) > 0 {
			g.t.Errorf("left behind: %v", left)
		}
	}
	if mounts, _ := os.ReadFile("/proc/self/mountinfo"); strings.Contains(string(mounts), g.dir) {
		g.t.Errorf("left mounts below %s", g.dir)
	}
	if left, _ := os.ReadDir(g.dir + "/state"); len(left) > 0 {
		g.t.Errorf("left states: %v", left)
	}
}

// box is a bundle with a root filesystem of its own, and the container made of it.
type box struct {
	*ground
	id, bundle string
	spec       *specs.Spec
}

// box makes a bundle of busybox and the intruder; args may be changed in its spec.
func (g *ground) box(id string, args ...string) *box {
	g.t.Helper()
	b := &box{ground: g, id: id, bundle: filepath.Join(g.dir, id)}
	rootfs := busybox.Rootfs(g.t, b.bundle)
	copyFile(g.t, program(g.t, "intruder"), rootfs+"/bin/intruder")
	b.spec = baseSpec(rootfs, args...)
	b.spec.Linux.CgroupsPath = "/" + g.cgroup + "-" + id
	return b
}

func copyFile(t testing.TB, from, to string) {
	t.Helper()
	b, err := os.ReadFile(from)
	if err == nil {
		err = os.WriteFile(to, b, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func (b *box) rootfs() string { return b.bundle + "/rootfs" }

// dockerCaps are what Docker gives to containers unasked.
var dockerCaps = []string{"CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FSETID", "CAP_FOWNER", "CAP_MKNOD", "CAP_NET_RAW", "CAP_SETGID",
	"CAP_SETUID", "CAP_SETFCAP", "CAP_SETPCAP", "CAP_NET_BIND_SERVICE", "CAP_SYS_CHROOT", "CAP_KILL", "CAP_AUDIT_WRITE"}

func capabilities(list []string) *specs.LinuxCapabilities {
	return &specs.LinuxCapabilities{Bounding: list, Effective: list, Permitted: list}
}

func mount(dest, kind, source string, options ...string) specs.Mount {
	return specs.Mount{Destination: dest, Type: kind, Source: source, Options: options}
}

// baseSpec is what Docker asks for, but for seccomp, which would only stop attacks earlier.
func baseSpec(rootfs string, args ...string) *specs.Spec {
	return &specs.Spec{
		Version: specs.Version,
		Root:    &specs.Root{Path: rootfs},
		Process: &specs.Process{
			Args: args, Cwd: "/", Env: []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin"}, Capabilities: capabilities(dockerCaps),
		},
		Hostname: "box",
		Mounts: []specs.Mount{
			mount("/proc", "proc", "proc", "nosuid", "noexec", "nodev"),
			mount("/dev", "tmpfs", "tmpfs", "nosuid", "strictatime", "mode=755", "size=65536k"),
			mount("/dev/pts", "devpts", "devpts", "nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"),
			mount("/sys", "sysfs", "sysfs", "nosuid", "noexec", "nodev", "ro"),
			mount("/dev/shm", "tmpfs", "shm", "nosuid", "noexec", "nodev", "mode=1777", "size=65536k"),
		},
		Linux: &specs.Linux{
			Namespaces: []specs.LinuxNamespace{
				{Type: specs.PIDNamespace}, {Type: specs.MountNamespace}, {Type: specs.NetworkNamespace},
				{Type: specs.IPCNamespace}, {Type: specs.UTSNamespace}, {Type: specs.CgroupNamespace},
			},
			MaskedPaths:   []string{"/proc/kcore", "/proc/keys", "/proc/acpi", "/sys/firmware"},
			ReadonlyPaths: []string{"/proc/bus", "/proc/sys", "/proc/sysrq-trigger"},
		},
	}
}

func (b *box) save() {
	b.t.Helper()
	raw, err := json.Marshal(b.spec)
	if err == nil {
		err = os.WriteFile(b.bundle+"/config.json", raw, 0o600)
	}
	if err != nil {
		b.t.Fatal(err)
	}
}

// command is a call of grun, which a test's end kills.
func (b *box) command(args ...string) *exec.Cmd {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	b.t.Cleanup(cancel)
	cmd := exec.CommandContext(ctx, b.grun, append([]string{"--root", b.dir + "/state"}, args...)...)
	cmd.WaitDelay = 5 * time.Second
	return cmd
}

// call runs grun to its end and gives all it printed.
func (b *box) call(args ...string) (string, error) {
	out, err := b.command(args...).CombinedOutput()
	return string(out), err
}

// run runs the container to its end. An error is one of grun or of the container.
func (b *box) run() (string, error) {
	b.t.Helper()
	b.save()
	return b.call("run", "--bundle", b.bundle, b.id)
}

// mustRun is run that ends well, in words that the test can compare.
func (b *box) mustRun() string {
	b.t.Helper()
	out, err := b.run()
	if err != nil {
		b.t.Fatalf("run: %v: %s", err, out)
	}
	return out
}

// start runs the container and gives what it prints, line by line, while it goes on. The
// end of the test deletes it.
func (b *box) start() *lines {
	b.t.Helper()
	b.save()
	r, w, err := os.Pipe()
	if err != nil {
		b.t.Fatal(err)
	}
	cmd := b.command("run", "--detach", "--bundle", b.bundle, "--pid-file", b.bundle+"/pid", b.id)
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = w, w
	b.t.Cleanup(func() {
		b.remove()
		r.Close()
	})
	err = cmd.Run()
	w.Close()
	if err != nil {
		io.Copy(&said, r)
		b.t.Fatalf("start: %v: %s", err, said.String())
	}
	return follow(r)
}

// remove ends the container. Its init is a zombie until we reap it.
func (b *box) remove() {
	b.t.Helper()
	unix.Kill(b.pid(), unix.SIGKILL)
	b.reap()
	if out, err := b.call("delete", "--force", b.id); err != nil {
		b.t.Errorf("delete: %s%v", out, err)
	}
}

// pid is that of the container's init, 0 when there is none.
func (b *box) pid() (pid int) {
	raw, _ := os.ReadFile(b.bundle + "/pid")
	fmt.Sscan(string(raw), &pid)
	return pid
}

// reap takes the ends of the init and of what was executed beside it and left to us, for
// which the init's end waits. Nobody else may wait for a child meanwhile.
func (b *box) reap() {
	for end := time.Now().Add(10 * time.Second); b.pid() > 0 && time.Now().Before(end); {
		switch pid, err := unix.Wait4(-1, nil, unix.WNOHANG, nil); {
		case pid == b.pid(), err == unix.ECHILD:
			return
		case pid == 0:
			time.Sleep(2 * time.Millisecond)
		}
	}
}

// exec runs a command in the running container.
func (b *box) exec(args ...string) (string, error) {
	return b.call(append([]string{"exec"}, args...)...)
}

// lines collects what comes out of a pipe until it ends.
type lines struct {
	mu   sync.Mutex
	all  []string      // guarded by mu
	more chan struct{} // one element when all has grown
}

func follow(r io.Reader) *lines {
	l := &lines{more: make(chan struct{}, 1)}
	go func() { // ends with the pipe
		for s := bufio.NewScanner(r); s.Scan(); {
			l.mu.Lock()
			l.all = append(l.all, s.Text())
			l.mu.Unlock()
			select {
			case l.more <- struct{}{}:
			default:
			}
		}
	}()
	return l
}

// with gives the lines so far that begin with a word.
func (l *lines) with(word string) (found []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, s := range l.all {
		if strings.HasPrefix(s, word) {
			found = append(found, s)
		}
	}
	return found
}

var errSilent = errors.New("not said")

// await waits until a line begins with word.
func (l *lines) await(word string, max time.Duration) error {
	end := time.After(max)
	for len(l.with(word)) == 0 {
		select {
		case <-l.more:
		case <-end:
			return fmt.Errorf("%q: %w; but %q", word, errSilent, l.with(""))
		}
	}
	return nil
}

func itoa(n int) string { return fmt.Sprint(n) }
