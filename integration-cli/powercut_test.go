package integrationcli

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"gantry/internal/testutil/busybox"
	"gantry/internal/testutil/engine"
	"gantry/internal/testutil/need"
)

// platter is a file system whose disk is a file. What the file holds at a moment is
// what a power cut at that moment leaves: the rest is in the page cache of the file
// system above it, which writes nothing by itself within the time of a test.
type platter struct {
	t     *testing.T
	mount string
	fs    string
	disk  string
	cuts  int
}

func newPlatter(t *testing.T, fs, mountpoint string) *platter {
	t.Helper()
	p := &platter{t: t, mount: mountpoint, fs: fs, disk: filepath.Join(t.TempDir(), "disk")}
	f, err := os.Create(p.disk)
	if err == nil {
		err = errors.Join(f.Truncate(512<<20), f.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(need.Command(t, "mkfs."+fs), "-q", p.disk).CombinedOutput(); err != nil {
		t.Fatalf("mkfs: %s", out)
	}
	p.on(p.disk)
	return p
}

// platterOptions: as far as the file system can be told, it writes nothing unasked.
var platterOptions = map[string]string{"ext4": "loop,commit=300", "xfs": "loop,nouuid", "btrfs": "loop,commit=300"}

// on mounts a disk; what the journal has is replayed.
func (p *platter) on(disk string) {
	p.t.Helper()
	if out, err := exec.Command(need.Command(p.t, "mount"), "-o", platterOptions[p.fs], disk, p.mount).CombinedOutput(); err != nil {
		p.t.Skipf("needs loop devices: %s", out)
	}
}

func (p *platter) off() {
	p.t.Helper()
	if err := unmount(p.mount); err != nil {
		p.t.Fatalf("unmount: %v", err)
	}
}

// cut returns a disk as a power cut would leave it now.
func (p *platter) cut() string {
	p.t.Helper()
	p.cuts++
	copied := fmt.Sprintf("%s.%d", p.disk, p.cuts)
	if out, err := exec.Command("cp", "--sparse=always", p.disk, copied).CombinedOutput(); err != nil {
		p.t.Fatalf("cp: %s", out)
	}
	return copied
}

// TestPowerCut cuts the power right after an answer: what was acknowledged is there
// at the next boot, and is whole. At full length on file systems that sync less than
// ext4 does with a file.
func TestPowerCut(t *testing.T) {
	engine.CoreInside(t, "the disk is put under the engine after its start")
	for _, fs := range []string{"ext4", "xfs", "btrfs"}[:scale(3, 1)] {
		t.Run(fs, func(t *testing.T) { cutOn(t, fs) })
	}
}

func cutOn(t *testing.T, fs string) {
	from := registry(t)
	e := engine.Start(t)
	e.Terminate()
	data := filepath.Join(e.Dir, "data")
	if err := errors.Join(os.RemoveAll(data), os.Mkdir(data, 0o711)); err != nil {
		t.Fatal(err)
	}
	p := newPlatter(t, fs, data)
	t.Cleanup(func() { unmount(data) })
	e.Launch()
	steps := cutSteps(t, e, from)
	for i := range steps {
		steps[i].do()
		steps[i].disk = p.cut()
	}
	for _, s := range steps {
		t.Run(s.name, func(t *testing.T) {
			e.Kill()
			p.off()
			if err := os.RemoveAll(filepath.Join(e.Dir, "exec")); err != nil { // as /run is
				t.Fatal(err)
			}
			p.on(s.disk)
			e.Launch()
			s.check(t)
		})
	}
	for _, id := range strings.Fields(e.Must("ps", "-aq")) {
		e.Must("rm", "-fv", id)
	}
	e.Terminate()
	p.off()
	e.Launch()
}

// cutStep is a change and what is to be seen of it after the cut.
type cutStep struct {
	name  string
	do    func()
	check func(t *testing.T)
	disk  string // after it was answered
}

func cutSteps(t *testing.T, e *engine.Engine, from string) []cutStep {
	must := func(args ...string) func() { return func() { e.Must(args...) } }
	has := func(want bool, args ...string) func(t *testing.T) {
		return func(t *testing.T) {
			if r := e.Docker(args...); (r.Code == 0) != want {
				t.Errorf("docker %v: %+v", args, r)
			}
		}
	}
	shows := func(want string, args ...string) func(t *testing.T) {
		return func(t *testing.T) {
			t.Helper()
			if r := e.Docker(args...); strings.TrimSpace(r.Stdout) != want {
				t.Errorf("docker %v: %+v, want %s", args, r, want)
			}
		}
	}
	runs := func(ref string) func(t *testing.T) {
		return shows("gantry", "run", "--rm", "--network", "none", ref, "cat", "/www/index.html")
	}
	pulled := from + "/library/pulled:1"
	return []cutStep{
		{"load", func() { e.Load(busybox.Archive(t, busybox.Config{}, image)) }, runs(image), ""},
		{"tag", must("tag", image, pulled), runs(pulled), ""},
		{"push and remove", func() { e.Must("push", pulled); e.Must("rmi", image, pulled) }, func(t *testing.T) {
			has(false, "image", "inspect", image)(t)
			shows("", "images", "-aq")(t)
		}, ""},
		{"pull", must("pull", pulled), runs(pulled), ""},
		{"volume create", must("volume", "create", "--label", "a=b", "kept"), shows("b", "volume", "inspect", "-f", "{{.Labels.a}}", "kept"), ""},
		// What overwrites free pages of a database syncs no directory along with it.
		{"create and remove often", func() {
			for range 12 {
				e.Must("rm", "-fv", e.Must("create", "-v", "/anonymous", pulled))
			}
		}, func(t *testing.T) {
			shows("", "ps", "-aq")(t)
			shows("kept", "volume", "ls", "-q")(t)
		}, ""},
		{"create", must("create", "--name", "one", "--network", "none", "-v", "/anonymous", "-v", "kept:/kept", pulled, "sh", "-c", "echo x > /kept/f; exit 3"), func(t *testing.T) {
			shows("created", "inspect", "-f", "{{.State.Status}}", "one")(t)
			e.Docker("start", "-a", "one")
			shows("exited 3", "inspect", "-f", "{{.State.Status}} {{.State.ExitCode}}", "one")(t)
		}, ""},
		{"rename", must("rename", "one", "two"), func(t *testing.T) {
			has(true, "inspect", "two")(t)
			has(false, "inspect", "one")(t)
		}, ""},
		{"update", must("update", "--restart", "on-failure:2", "two"), shows("2", "inspect", "-f", "{{.HostConfig.RestartPolicy.MaximumRetryCount}}", "two"), ""},
		{"commit", func() {
			file := filepath.Join(t.TempDir(), "file")
			if err := os.WriteFile(file, []byte("copied"), 0o644); err != nil {
				t.Fatal(err)
			}
			e.Must("cp", file, "two:/copied")
			e.Must("commit", "two", "made:1")
		}, shows("copied", "run", "--rm", "--network", "none", "made:1", "cat", "/copied"), ""},
		{"the exit of a run, a second later", func() { e.Docker("start", "-a", "two"); time.Sleep(2 * time.Second) }, func(t *testing.T) {
			in := inspect(t, e, "two") // failed, so its policy may have started it again since
			if !strings.HasPrefix(in.State.StartedAt, "20") || in.State.Status == "created" {
				t.Errorf("state %+v", in.State)
			}
		}, ""},
		{"remove", must("rm", "-fv", "two"), func(t *testing.T) {
			has(false, "inspect", "two")(t)
			shows("kept", "volume", "ls", "-q")(t)
		}, ""},
		{"volume remove", must("volume", "rm", "kept"), func(t *testing.T) {
			has(false, "volume", "inspect", "kept")(t)
			if _, err := os.Stat(filepath.Join(e.Dir, "data/volumes/kept")); err == nil {
				t.Error("its content is there")
			}
		}, ""},
		{"rmi", must("rmi", "made:1", pulled), func(t *testing.T) {
			has(false, "image", "inspect", pulled)(t)
			shows("", "images", "-aq")(t)
		}, ""},
	}
}
