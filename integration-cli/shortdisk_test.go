package integrationcli

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"gantry/internal/testutil/busybox"
	"gantry/internal/testutil/engine"
	"gantry/internal/testutil/need"
)

// noSpace is what every command that needs room says when there is none.
const noSpace = "…no space left on device…"

// disk is a file system of its own that can be filled.
type disk struct {
	t    *testing.T
	path string
}

// newDisk puts a fresh ext4 of mb megabytes where sub of the engine's directory was, and
// starts the engine anew on it.
func newDisk(t *testing.T, e *engine.Engine, sub string, mb int64) disk {
	t.Helper()
	e.Terminate()
	d := mountDisk(t, filepath.Join(e.Dir, sub), mb)
	t.Cleanup(func() {
		if ids := strings.Fields(e.Docker("ps", "-aq").Stdout); len(ids) > 0 {
			e.Docker(append([]string{"rm", "-fv"}, ids...)...)
		}
		e.Terminate()
		if err := unmount(d.path); err != nil {
			t.Errorf("unmount: %v", err)
		}
	})
	e.Launch()
	return d
}

// mountDisk puts a fresh ext4 of mb megabytes in the place of a directory.
func mountDisk(t *testing.T, path string, mb int64) disk {
	t.Helper()
	mkfs, mount := need.Command(t, "mkfs.ext4"), need.Command(t, "mount")
	d := disk{t, path}
	image := filepath.Join(t.TempDir(), "disk")
	f, err := os.Create(image)
	if err == nil {
		err = errors.Join(f.Truncate(mb<<20), f.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(mkfs, "-q", "-m", "0", image).CombinedOutput(); err != nil {
		t.Fatalf("mkfs: %s", out)
	}
	if err := errors.Join(os.RemoveAll(d.path), os.Mkdir(d.path, 0o711)); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(mount, "-o", "loop", image, d.path).CombinedOutput(); err != nil {
		t.Skipf("needs loop devices: %s", out)
	}
	return d
}

// unmount waits for those that are just ending.
func unmount(path string) (err error) {
	for end := time.Now().Add(5 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if err = syscall.Unmount(path, 0); err == nil {
			return nil
		}
	}
	return errors.Join(err, syscall.Unmount(path, syscall.MNT_DETACH))
}

func (d disk) ballast() string { return filepath.Join(d.path, "ballast") }

// fill leaves not a block.
func (d disk) fill() {
	d.t.Helper()
	f, err := os.OpenFile(d.ballast(), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		d.t.Fatal(err)
	}
	defer f.Close()
	for _, size := range []int{1 << 20, 4 << 10, 512} {
		for err = nil; err == nil; {
			if _, err = f.Write(make([]byte, size)); err == nil && size < 1<<20 {
				err = f.Sync()
			}
		}
		if !errors.Is(err, syscall.ENOSPC) {
			d.t.Fatal(err)
		}
	}
}

func (d disk) empty() {
	d.t.Helper()
	if err := os.Remove(d.ballast()); err != nil {
		d.t.Fatal(err)
	}
	syscall.Sync()
}

// agree is Place.Agree, but for the disk's own mount.
func (d disk) agree(e *engine.Engine) {
	d.t.Helper()
	var odd []string
	var err error
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		odd, err = e.Place().Odd()
		odd = slices.DeleteFunc(odd, func(s string) bool { return strings.HasSuffix(s, " mount "+d.path) })
		if err == nil && len(odd) == 0 {
			return
		}
	}
	d.t.Errorf("records and things do not agree (%v):\n%s", err, strings.Join(odd, "\n"))
}

// during counts the lines that a docker command writes in a while.
func during(t *testing.T, e *engine.Engine, while time.Duration, args ...string) int {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), while)
	defer cancel()
	out, _ := e.Cmd(ctx, args...).Output() // it is cut off
	return strings.Count(string(out), "\n")
}

const counting = `i=0; while :; do echo $i; i=$((i+1)); sleep 0.01; done`

// TestDiskFull fills the disk of the data-root: what needs room fails with Docker's
// words and leaves nothing, what runs goes on, what is to go goes, a new daemon starts;
// and all is well when there is room again.
func TestDiskFull(t *testing.T) {
	engine.CoreInside(t, "what is short is its disk, too")
	e := engine.Start(t)
	d := newDisk(t, e, "data", 48)
	e.Load(busybox.Archive(t, busybox.Config{}, image))
	other := busybox.Archive(t, busybox.Config{Env: []string{"other=1"}}, "other:1")
	e.Must("tag", image, "spare:1")
	e.Must("run", "-d", "--name", "writer", image, "sh", "-c", counting)
	e.Must("run", "-d", "--name", "ends", image, "sh", "-c", "while [ ! -e /go ]; do sleep 0.05; done; exit 7")
	e.Must("run", "-d", "--name", "fills", image, "sleep", "1000")
	for _, name := range []string{"old", "old2"} {
		e.Must("run", "--name", name, image, "true")
		e.Must("volume", "create", "v"+name)
	}
	e.Must("exec", "fills", "sh", "-c", "dd if=/dev/zero of=/big bs=1M count=1")
	remote := registry(t) + "/other:1"
	e.Load(other)
	e.Must("tag", "other:1", remote)
	e.Must("push", "-q", remote)
	e.Must("rmi", "other:1", remote)
	d.fill()
	for _, args := range [][]string{{"logs", "-f", "-n", "0", "writer"}, {"attach", "--no-stdin", "--sig-proxy=false", "writer"}} {
		if n := during(t, e, time.Second, args...); n < 10 {
			t.Errorf("docker %s gives %d lines in a second", args[0], n)
		}
	}

	for _, tc := range []row{
		{name: "create", args: []string{"create", image, "true"}, code: 1, err: noSpace},
		{name: "run", args: []string{"run", "--rm", image, "true"}, code: 125, err: noSpace},
		{name: "volume create", args: []string{"volume", "create", "vnew"}, code: 1, err: noSpace},
		{name: "load", args: []string{"load", "-q"}, stdin: string(other), code: 1, err: noSpace},
		{name: "pull", args: []string{"pull", "-q", remote}, code: 1, err: noSpace},
		{name: "import", args: []string{"import", "-"}, stdin: string(busybox.Layer(t)), code: 1, err: noSpace},
		{name: "write within", args: []string{"exec", "fills", "dd", "if=/dev/zero", "of=/more", "bs=64k", "count=64"}, code: 1, err: "…No space left on device…"},
		{name: "cp into", args: []string{"cp", engine.Binary(t, "grun"), "fills:/grun"}, code: 1, err: "…"},
		{name: "commit", args: []string{"commit", "fills", "made:1"}, code: 1, err: noSpace},
		{name: "diff", args: []string{"diff", "writer"}},
		{name: "export", args: []string{"export", "-o", filepath.Join(t.TempDir(), "tar"), "writer"}},
		{name: "rename", args: []string{"rename", "fills", "filled"}},
		{name: "and back", args: []string{"rename", "filled", "fills"}},
		{name: "update", args: []string{"update", "--restart", "on-failure:1", "fills"}, out: "fills"},
		{name: "update while it runs", args: []string{"update", "-m", "64m", "--memory-swap", "128m", "writer"}, out: "writer"},
		{name: "exec", args: []string{"exec", "writer", "echo", "alive"}, out: "alive"},
		{name: "logs", args: []string{"logs", "-n", "1", "old"}},
		{name: "ps", args: []string{"ps", "-q", "--filter", "name=writer"}},
		{name: "info", args: []string{"info"}},
		{name: "stop", args: []string{"stop", "-t", "0", "fills"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := e.DockerIn(tc.stdin, tc.args...)
			if r.Code != tc.code {
				t.Errorf("exit %d, want %d: %s%s", r.Code, tc.code, r.Stdout, r.Stderr)
			}
			compare(t, "stdout", r.Stdout, tc.out)
			compare(t, "stderr", r.Stderr, tc.err)
		})
	}
	d.agree(e)
	e.Must("exec", "ends", "mkdir", "/dev/shm/x") // not on the disk
	e.Docker("kill", "-s", "KILL", "ends")
	eventually(t, "the exit is known", func() bool { return status(e, "ends") == "exited" })

	e.Kill()
	e.Launch()
	if s := status(e, "writer"); s != "running" {
		t.Errorf("after a restart on a full disk the writer is %s", s)
	}
	if in := inspect(t, e, "ends"); in.State.ExitCode != 137 {
		t.Errorf("exit code %d", in.State.ExitCode)
	}
	d.fill()
	e.Must("rm", "old")
	e.Must("rmi", "spare:1")
	e.Must("volume", "rm", "vold")
	e.Must("rm", "ends")
	d.fill()
	e.Must("rm", "-v", "old2")
	e.Must("volume", "rm", "vold2")
	e.Must("rm", "fills")
	d.agree(e)

	d.empty()
	e.Load(other)
	if got := e.Must("run", "--rm", "other:1", "echo", "again"); got != "again" {
		t.Errorf("with room again: %q", got)
	}
	e.Must("volume", "create", "vnew")
	before := len(strings.Fields(e.Must("logs", "writer")))
	eventually(t, "the log goes on", func() bool { return len(strings.Fields(e.Must("logs", "writer"))) > before+10 })
	e.Must("kill", "writer")
	last := -1
	for _, l := range strings.Fields(e.Must("logs", "writer")) {
		n, err := strconv.Atoi(l)
		if err != nil || n != last+1 {
			t.Fatalf("after line %d of the log comes %q", last, l)
		}
		last = n
	}
	e.Must("rm", "writer")
	e.Must("rmi", image, "other:1")
	d.agree(e)
}

// TestRunDiskFull is the same for the exec-root, which holds what only this boot needs.
func TestRunDiskFull(t *testing.T) {
	engine.CoreInside(t, "what is short is its disk, too")
	e := engine.Start(t)
	d := newDisk(t, e, "exec", 24)
	e.Load(busybox.Archive(t, busybox.Config{}, image))
	e.Must("run", "-d", "--name", "writer", image, "sh", "-c", counting)
	e.Must("create", "--name", "made", image, "true")
	d.fill()
	if r := e.Docker("start", "made"); r.Code == 0 || !strings.Contains(r.Stderr, "no space left on device") {
		t.Errorf("start: %d %s", r.Code, r.Stderr)
	}
	if r := e.Docker("run", "--rm", image, "true"); r.Code == 0 || !strings.Contains(r.Stderr, "no space left on device") {
		t.Errorf("run: %d %s", r.Code, r.Stderr)
	}
	d.agree(e)
	e.Kill()
	e.Launch()
	if s := status(e, "writer"); s != "running" {
		t.Errorf("after a restart on a full disk the writer is %s", s)
	}
	d.fill()
	e.Must("stop", "-t", "0", "writer")
	if in := inspect(t, e, "writer"); in.State.ExitCode != 137 {
		t.Errorf("exit code %d", in.State.ExitCode)
	}
	e.Must("rm", "writer")
	d.empty()
	e.Must("start", "-a", "made")
	if got := e.Must("run", "--rm", image, "echo", "again"); got != "again" {
		t.Errorf("with room again: %q", got)
	}
	e.Must("rm", "made")
	d.agree(e)
}
