package intelrdt

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// tree is a directory in resctrl's place: what the kernel puts into a new group is missing,
// and what it checks. There are machines with resctrl, but few.
func tree(t *testing.T) Tree {
	t.Helper()
	dir := t.TempDir()
	for _, d := range []string{"info", "mon_groups", "ready/mon_groups"} {
		os.MkdirAll(filepath.Join(dir, d), 0o755)
	}
	for file, text := range map[string]string{
		"schemata": "L3:0=fff\n", "tasks": "", "ready/tasks": "", "ready/schemata": "    L3:0=007f0;1=0001F\n    MB:0= 20;1= 70\n",
	} {
		os.WriteFile(filepath.Join(dir, file), []byte(text), 0o644)
	}
	return Tree(dir)
}

func TestCreate(t *testing.T) {
	for _, c := range []struct {
		name    string
		rdt     specs.LinuxIntelRdt
		control string
		written string // schemata of the group afterwards; "-": no file
		stays   bool   // after Remove
	}{
		{"own group", specs.LinuxIntelRdt{L3CacheSchema: "L3:0=f", MemBwSchema: "MB:0=20", Schemata: []string{"L2:0=1"}}, "c1", "L3:0=f\nMB:0=20\nL2:0=1\n", false},
		{"own group as it is", specs.LinuxIntelRdt{}, "c1", "-", false},
		{"new group of a name", specs.LinuxIntelRdt{ClosID: "gold", Schemata: []string{"L3:0=f"}}, "gold", "L3:0=f\n", true},
		{"group that is there", specs.LinuxIntelRdt{ClosID: "ready"}, "ready", "    L3:0=007f0;1=0001F\n    MB:0= 20;1= 70\n", true},
		{"group that is there and has it", specs.LinuxIntelRdt{ClosID: "ready", L3CacheSchema: "L3:1=1f;0=7f0", MemBwSchema: "MB:1=70"}, "ready", "    L3:0=007f0;1=0001F\n    MB:0= 20;1= 70\n", true},
		{"the default group", specs.LinuxIntelRdt{ClosID: "/"}, "", "L3:0=fff\n", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			tr := tree(t)
			g, err := tr.Create("c1", &c.rdt)
			if err != nil {
				t.Fatal(err)
			}
			dir := filepath.Join(string(tr), c.control)
			if g.Control != dir {
				t.Errorf("control group %s, want %s", g.Control, dir)
			}
			b, err := os.ReadFile(dir + "/schemata")
			if c.written == "-" && !errors.Is(err, fs.ErrNotExist) || c.written != "-" && string(b) != c.written {
				t.Errorf("schemata %q, %v", b, err)
			}
			os.Remove(filepath.Join(string(tr), "c1/schemata")) // which the kernel's directory takes with it
			if err := g.Remove(); err != nil {
				t.Error(err)
			}
			if _, err := os.Stat(dir); (err == nil) != c.stays {
				t.Errorf("afterwards: %v", err)
			}
			if err := g.Remove(); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestMonitor(t *testing.T) {
	tr := tree(t)
	g, err := tr.Create("c1", &specs.LinuxIntelRdt{ClosID: "ready", EnableMonitoring: true})
	if err != nil {
		t.Fatal(err)
	}
	mon := string(tr) + "/ready/mon_groups/c1"
	if g.Monitor != mon {
		t.Errorf("%s", g.Monitor)
	}
	os.WriteFile(mon+"/tasks", nil, 0o644)
	files, err := g.Tasks()
	if err != nil || len(files) != 2 {
		t.Fatalf("%v %v", files, err)
	}
	for i, want := range []string{"/ready/tasks", "/ready/mon_groups/c1/tasks"} {
		if files[i].Name() != string(tr)+want {
			t.Errorf("%s, want %s", files[i].Name(), want)
		}
		files[i].Close()
	}
	os.Remove(mon + "/tasks")
	if err := g.Remove(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(mon); err == nil {
		t.Error("the monitoring group stays")
	}
	if _, err := os.Stat(string(tr) + "/ready"); err != nil {
		t.Error("the group has gone, which was not ours")
	}
}

func TestRefused(t *testing.T) {
	for _, c := range []struct {
		name string
		rdt  specs.LinuxIntelRdt
		want string
		is   error
	}{
		{"no such group", specs.LinuxIntelRdt{ClosID: "gold"}, "must be there", fs.ErrNotExist},
		{"other cache", specs.LinuxIntelRdt{ClosID: "ready", L3CacheSchema: "L3:0=1"}, "differs", errdefs.ErrInvalidArgument},
		{"other resource", specs.LinuxIntelRdt{ClosID: "ready", Schemata: []string{"L2:0=1"}}, "differs", errdefs.ErrInvalidArgument},
		{"way out", specs.LinuxIntelRdt{ClosID: "../x"}, "closID", errdefs.ErrInvalidArgument},
		{"parent", specs.LinuxIntelRdt{ClosID: ".."}, "closID", errdefs.ErrInvalidArgument},
		{"the kernel's own", specs.LinuxIntelRdt{ClosID: "info"}, "no name for a group", errdefs.ErrInvalidArgument},
		{"bandwidth of no form", specs.LinuxIntelRdt{MemBwSchema: "L3:0=1"}, "MB:", errdefs.ErrInvalidArgument},
		{"two lines", specs.LinuxIntelRdt{Schemata: []string{"L3:0=1\nMB:0=1"}}, "not a line", errdefs.ErrInvalidArgument},
	} {
		t.Run(c.name, func(t *testing.T) {
			tr := tree(t)
			_, err := tr.Create("c1", &c.rdt)
			if !errors.Is(err, c.is) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v", err)
			}
			if _, err := os.Stat(string(tr) + "/c1"); err == nil {
				t.Error("a group has been left")
			}
		})
	}
}

// TestKernelsWords: what last_cmd_status says is in the error, and what was made is gone.
func TestKernelsWords(t *testing.T) {
	tr := tree(t)
	os.WriteFile(string(tr)+"/info/last_cmd_status", []byte("out of CLOSIDs\n"), 0o644)
	os.RemoveAll(string(tr) + "/ready/mon_groups")
	_, err := tr.Create("c1", &specs.LinuxIntelRdt{ClosID: "ready", EnableMonitoring: true})
	if err == nil || !strings.HasSuffix(err.Error(), ": out of CLOSIDs") {
		t.Errorf("error %v", err)
	}
}

func TestFind(t *testing.T) {
	if _, err := os.Stat(usual); err == nil {
		t.Skip("this machine has resctrl")
	}
	if _, err := Find(); !errdefs.IsFailedPrecondition(err) || !strings.Contains(err.Error(), "no resctrl filesystem is mounted") {
		t.Errorf("error %v", err)
	}
}
