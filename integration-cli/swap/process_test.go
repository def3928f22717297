package swap

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// place is what a caller has of the machine: a short directory and a cgroup parent.
type place struct {
	dir, cgroup string
	prefix      string // of containers' cgroups; an id follows
}

func newPlace(t *testing.T) place {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "swap-")
	if err != nil {
		t.Fatal(err)
	}
	p := place{dir: dir, cgroup: filepath.Base(dir)}
	t.Cleanup(func() {
		p.removeCgroups()
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return p
}

// empty fails the test for every mount of a mount namespace, cgroup and process that is
// left of containers.
func (p place) empty(t *testing.T, mountinfo string) {
	t.Helper()
	var left []string
	for deadline := time.Now().Add(5 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		left = append(append(p.mounts(mountinfo), p.containers()...), p.processes()...)
		if len(left) == 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Errorf("left behind:\n%s", strings.Join(left, "\n"))
			return
		}
	}
}

func (p place) mounts(mountinfo string) (out []string) {
	if mountinfo == "" {
		mountinfo = "/proc/self/mountinfo"
	}
	raw, _ := os.ReadFile(mountinfo)
	for line := range strings.Lines(string(raw)) {
		// The storage directory that callers mount on itself stays with them.
		if f := strings.Fields(line); len(f) > 4 && strings.HasPrefix(f[4], p.dir+"/") && strings.Count(f[4], "/") > 5 {
			out = append(out, "mount "+f[4])
		}
	}
	return out
}

// containers are cgroups below the parent that have a container's name.
func (p place) containers() (out []string) {
	for _, root := range p.cgroups() {
		found, _ := filepath.Glob(root + "/*")
		more, _ := filepath.Glob(root + "/*/*")
		for _, f := range slices.Concat(found, more) {
			if id, ok := strings.CutPrefix(filepath.Base(f), p.prefix); ok && len(id) == 64 {
				out = append(out, "cgroup "+f)
			}
		}
	}
	return out
}

func (p place) cgroups() []string {
	v1, _ := filepath.Glob("/sys/fs/cgroup/*/" + p.cgroup)
	v2, _ := filepath.Glob("/sys/fs/cgroup/" + p.cgroup)
	return append(v1, v2...)
}

func (p place) removeCgroups() {
	for _, root := range p.cgroups() {
		var fs unix.Statfs_t
		if unix.Statfs(root, &fs) == nil && fs.Type == unix.TMPFS_MAGIC { // podman takes a directory for a hierarchy
			os.RemoveAll(root)
			continue
		}
		var all []string
		filepath.WalkDir(root, func(path string, d os.DirEntry, err error) error {
			if err == nil && d.IsDir() {
				all = append(all, path)
			}
			return nil
		})
		for _, dir := range slices.Backward(all) {
			os.Remove(dir)
		}
	}
}

// processes are shims and monitors that name the directory.
func (p place) processes() (out []string) {
	found, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, f := range found {
		raw, _ := os.ReadFile(f)
		words := strings.Split(strings.TrimRight(string(raw), "\x00"), "\x00")
		program := filepath.Base(words[0])
		if (strings.HasPrefix(program, "containerd-shim") || program == "conmon") && strings.Contains(string(raw), p.dir+"/") {
			out = append(out, "process "+filepath.Base(filepath.Dir(f))+" "+strings.Join(words, " "))
		}
	}
	return out
}

// daemon is a program that runs until the test ends.
type daemon struct {
	cmd   *exec.Cmd
	log   *output
	ended chan struct{}
}

// launch starts a program, and ends it with the test.
func launch(t *testing.T, words ...string) *daemon {
	t.Helper()
	return launchIn(t, os.Getenv("PATH"), words...)
}

// launchIn is launch of one that looks for programs in path.
func launchIn(t *testing.T, path string, words ...string) *daemon {
	t.Helper()
	d := &daemon{cmd: exec.Command(words[0], words[1:]...), log: &output{}, ended: make(chan struct{})}
	d.cmd.Stdout, d.cmd.Stderr = d.log, d.log
	d.cmd.Env = append(os.Environ(), "PATH="+path+":/usr/sbin:/sbin")
	d.cmd.WaitDelay = time.Second
	if err := d.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { d.cmd.Wait(); close(d.ended) }()
	t.Cleanup(func() { d.end(t) })
	return d
}

func (d *daemon) end(t *testing.T) {
	d.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-d.ended:
	case <-time.After(15 * time.Second):
		t.Errorf("%s does not end", d.cmd.Path)
		d.cmd.Process.Kill()
	}
	if t.Failed() {
		t.Logf("the log of %s:\n%s", d.cmd.Path, d.log)
	}
}

// ready waits until a condition holds or the program has ended.
func (d *daemon) ready(t *testing.T, what string, is func() bool) {
	t.Helper()
	for deadline := time.After(20 * time.Second); ; {
		if is() {
			return
		}
		select {
		case <-d.ended:
			t.Fatalf("%s has ended:\n%s", d.cmd.Path, d.log)
		case <-deadline:
			t.Fatalf("no %s of %s:\n%s", what, d.cmd.Path, d.log)
		case <-time.After(20 * time.Millisecond):
		}
	}
}
