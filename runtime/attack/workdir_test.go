package attack_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// hostDirs are open directories of the host that a careless caller lets grun inherit, as
// descriptors 3 and up.
func hostDirs(t *testing.T, n int) (files []*os.File) {
	t.Helper()
	for range n {
		f, err := os.Open("/")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { f.Close() })
		files = append(files, f)
	}
	return files
}

// leaks are working directories that lead to what is open, or elsewhere, by the magic
// links of procfs.
func leaks() (dirs []string) {
	for n := range scale(32, 12) {
		dirs = append(dirs, fmt.Sprintf("/proc/self/fd/%d", n))
	}
	for _, n := range []int{3, 7, 9} {
		dirs = append(dirs, fmt.Sprintf("/proc/self/fd/%d/../../..", n), fmt.Sprintf("/proc/thread-self/fd/%d", n), fmt.Sprintf("/link%d", n))
	}
	return append(dirs, "/proc/self/cwd", "/proc/self/root/..", "/proc/1/cwd", "/proc/thread-self/root")
}

// seek looks for the secret from the working directory on upwards.
func seek(secret string) string {
	up := ""
	var tries []string
	for range 6 {
		tries = append(tries, up+secret)
		up += "../"
	}
	return "for f in " + strings.Join(tries, " ") + "; do test -e $f && echo reached $f; done; echo looked"
}

// TestWorkingDirectory is CVE-2024-21626: a descriptor of a host directory stayed open in
// the runtime, and a working directory of /proc/self/fd/<n> put the container's process
// there. It is tried for run and exec, by name, by links in the image and with more
// directories open than any caller has.
func TestWorkingDirectory(t *testing.T) {
	g := newGround(t)
	name := secret(t)
	b := g.box("box", "sh", "-c", seek(name))
	for n := range 32 {
		os.Symlink(fmt.Sprintf("/proc/self/fd/%d", n), fmt.Sprintf("%s/link%d", b.rootfs(), n))
	}
	longLived := g.box("long", "sleep", "1000")
	for n := range 32 {
		os.Symlink(fmt.Sprintf("/proc/self/fd/%d", n), fmt.Sprintf("%s/link%d", longLived.rootfs(), n))
	}
	longLived.start()
	refused := 0
	for _, dir := range leaks() {
		b.spec.Process.Cwd = dir
		b.save()
		run := b.command("run", "--bundle", b.bundle, b.id)
		enter := b.command("exec", "--cwd", dir, longLived.id, "sh", "-c", seek(name))
		for what, cmd := range map[string]*exec.Cmd{"run": run, "exec": enter} {
			cmd.ExtraFiles = hostDirs(t, 12)
			out, err := cmd.CombinedOutput()
			switch {
			case strings.Contains(string(out), "reached"):
				t.Errorf("%s in %s: %s", what, dir, out)
			case err != nil:
				refused++
			case !strings.Contains(string(out), "looked"):
				t.Errorf("%s in %s: %s", what, dir, out)
			}
		}
	}
	if refused < 24 {
		t.Errorf("only %d were refused", refused)
	}
}

// TestWorkingDirectoryWorks: a process that is merely in another root reaches the host so.
func TestWorkingDirectoryWorks(t *testing.T) {
	g := newGround(t)
	b := g.box("box")
	name := secret(t)
	cmd := exec.Command("unshare", "-m", "sh", "-c", `mount -t proc proc "$0/proc" && exec chroot "$0" /bin/sh -c "$1"`,
		b.rootfs(), "cd /proc/self/fd/3 && "+seek(name))
	cmd.ExtraFiles = hostDirs(t, 1)
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "reached") {
		t.Errorf("%s%v", out, err)
	}
}

// TestRemovedDirectory: a working directory that is not below the root any more, because
// another container that shares the volume moves it away in between, is refused or stays
// inside. See also TestRaces.
func TestRemovedDirectory(t *testing.T) {
	g := newGround(t)
	b := g.box("box", "sleep", "1000")
	os.MkdirAll(b.rootfs()+"/work/deep", 0o755)
	b.start()
	elsewhere := filepath.Join(g.dir, "elsewhere")
	if err := os.Rename(b.rootfs()+"/work", elsewhere); err != nil {
		t.Fatal(err)
	}
	if out, err := b.exec("--cwd", "/work/deep", b.id, "pwd"); err == nil {
		t.Errorf("in %s", out)
	}
}

// TestDescriptors: nothing that the runtime or its caller has open is open in a container,
// unless it was asked for.
func TestDescriptors(t *testing.T) {
	g := newGround(t)
	b := g.box("box", "intruder", "descriptors")
	b.save()
	longLived := g.box("long", "sleep", "1000")
	longLived.start()
	for _, c := range []struct {
		args []string
		open string
	}{
		{[]string{"run", "--bundle", b.bundle, b.id}, "0 1 2"},
		{[]string{"exec", longLived.id, "intruder", "descriptors"}, "0 1 2"},
		{[]string{"run", "--preserve-fds", "2", "--bundle", b.bundle, b.id}, "0 1 2 3 4"},
		{[]string{"exec", "--preserve-fds", "1", longLived.id, "intruder", "descriptors"}, "0 1 2 3"},
	} {
		cmd := b.command(c.args...)
		cmd.ExtraFiles = hostDirs(t, 12)
		out, err := cmd.CombinedOutput()
		var open []string
		for line := range strings.Lines(string(out)) {
			open = append(open, strings.Fields(line)[0])
		}
		if got := strings.Join(open, " "); err != nil || got != c.open {
			t.Errorf("%s: open are %q, want %q: %s%v", c.args[0], got, c.open, out, err)
		}
	}
}

// TestWaitingDescriptors: an init that waits for its start holds its own streams and what
// it waits for, and no directory.
func TestWaitingDescriptors(t *testing.T) {
	g := newGround(t)
	b := g.box("box", "true")
	b.save()
	cmd := b.command("create", "--bundle", b.bundle, "--pid-file", b.bundle+"/pid", b.id)
	cmd.ExtraFiles = hostDirs(t, 12)
	if err := cmd.Run(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.remove)
	open, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", b.pid()))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range open {
		link := fmt.Sprintf("/proc/%d/fd/%s", b.pid(), f.Name())
		target, _ := os.Readlink(link)
		if st, err := os.Stat(link); err == nil && st.IsDir() {
			t.Errorf("%s is %s", f.Name(), target)
		}
	}
	if len(open) < 4 || len(open) > 6 {
		t.Errorf("%d are open", len(open))
	}
}
