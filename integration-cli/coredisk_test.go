package integrationcli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"gantry/internal/testutil/busybox"
	"gantry/internal/testutil/corealone"
	"gantry/internal/testutil/moving"
	"gantry/internal/testutil/registrytest"
)

// TestCoreDiskFull fills the disk of the core's root: what needs room fails with the
// kernel's words and leaves nothing, what runs goes on, what is to go goes, a new core
// starts; and all is well when there is room again.
func TestCoreDiskFull(t *testing.T) {
	reg := registrytest.Start(t)
	pushTiny(reg)
	c := corealone.Start(t)
	c.Terminate()
	d := mountDisk(t, filepath.Join(c.Dir, "root"), 48)
	t.Cleanup(func() {
		for _, id := range strings.Fields(c.Ctr("containers", "ls", "-q")) {
			c.Remove(id)
		}
		c.Terminate()
		if err := unmount(d.path); err != nil {
			t.Errorf("unmount: %v", err)
		}
		c.Launch() // what ends the test asks it
	})
	c.Launch()
	base := c.Image()
	dir := t.TempDir()
	later, packed := filepath.Join(dir, "later"), filepath.Join(dir, "packed")
	raw := busybox.Archive(t, busybox.Config{Env: []string{"later=1"}}, "docker.io/library/later:1")
	if err := errors.Join(os.WriteFile(later, raw, 0o600), os.WriteFile(packed, tinyArchive("packed"), 0o600)); err != nil {
		t.Fatal(err)
	}
	const tiny = "docker.io/library/tiny:1"
	c.Ctr("images", "import", "--no-unpack", packed)
	manifest := digestOf(t, c, tiny)
	c.Ctr("run", "-d", "--runtime", "io.containerd.gantry.v2", base, "lives", "sleep", "1000")
	c.Ctr("tasks", "exec", "--exec-id", "x", "lives", "sh", "-c", "echo new >/new")
	c.Ctr("leases", "create", "--id", "held")
	c.Ctr("snapshots", "prepare", "going")
	before := stored(c)
	pull := func() error {
		ctx, cancel := context.WithTimeout(t.Context(), 40*time.Second)
		defer cancel()
		return moving.Through(ctx, c.Socket(), reg.Host+"/tiny:1")
	}

	d.fill()
	fails := func(what string, err error, out string) {
		t.Helper()
		if err == nil || !strings.Contains(out+err.Error(), "no space left on device") {
			t.Errorf("%s: %v\n%s", what, err, out)
		}
	}
	for _, args := range [][]string{
		{"images", "import", later},
		{"snapshots", "unpack", manifest},
		{"snapshots", "prepare", "more"},
		{"snapshots", "diff", "lives"},
		{"run", "-d", "--runtime", "io.containerd.gantry.v2", base, "more", "true"},
	} {
		out, err := c.Try(args...)
		fails(strings.Join(args[:2], " "), err, out)
	}
	fails("pull", pull(), "")
	if out := c.Ctr("tasks", "exec", "--exec-id", "x", "lives", "cat", "/new"); out != "new\n" {
		t.Errorf("exec: %q", out)
	}
	if out := c.Ctr("leases", "ls", "-q"); !strings.Contains(out, "held") {
		t.Errorf("leases: %s", out)
	}

	c.Kill()
	c.Launch()
	if out := c.Ctr("tasks", "ls"); !strings.Contains(out, "RUNNING") {
		t.Errorf("after a restart on a full disk:\n%s", out)
	}
	c.Ctr("snapshots", "rm", "going")
	c.Ctr("leases", "delete", "held")
	c.Ctr("images", "rm", tiny)
	c.Ctr("tasks", "kill", "-s", "KILL", "lives")
	eventually(t, "the task has ended", func() bool { return strings.Contains(c.Ctr("tasks", "ls"), "STOPPED") })
	d.fill()
	c.Remove("lives")
	collect(c)

	// The database's file has room of its own. When that is used up, too, nothing can be
	// written until there is some elsewhere.
	d.fill()
	var leases []string
	for n := range scale(2000, 3) {
		id := fmt.Sprint("lease", n)
		if out, err := c.Try("leases", "create", "--id", id); err != nil {
			fails("lease", err, out)
			break
		}
		leases = append(leases, id)
	}
	d.empty()
	for _, id := range leases {
		c.Ctr("leases", "delete", id)
	}
	checkCore(t, c, "--deep")
	c.Ctr("images", "import", "--no-unpack", packed)
	c.Ctr("run", "-d", "--runtime", "io.containerd.gantry.v2", base, "lives", "sleep", "1000")
	c.Ctr("leases", "create", "--id", "held")
	c.Ctr("snapshots", "prepare", "going")
	if after := stored(c); !slices.Equal(after, before) {
		t.Errorf("stored were\n%s\nand are\n%s", strings.Join(before, "\n"), strings.Join(after, "\n"))
	}
	c.Ctr("images", "import", later)
	c.Ctr("snapshots", "unpack", manifest)
	if err := pull(); err != nil {
		t.Errorf("pull: %v", err)
	}
	if out := c.Ctr("run", "--rm", "--runtime", "io.containerd.gantry.v2", "docker.io/library/later:1", "again", "echo", "again"); out != "again\n" {
		t.Errorf("with room again: %q", out)
	}
	collect(c)
	checkCore(t, c, "--deep")
}

// stored is what the core has after a collection, but for ingests.
func stored(c *corealone.Core) (out []string) {
	collect(c)
	for _, args := range [][]string{{"content", "ls", "-q"}, {"images", "ls", "-q"}, {"containers", "ls", "-q"}, {"leases", "ls", "-q"}} {
		out = append(out, strings.Fields(c.Ctr(args...))...)
	}
	for _, line := range strings.Split(c.Ctr("snapshots", "ls"), "\n") {
		if f := strings.Fields(line); len(f) > 0 {
			out = append(out, f[0])
		}
	}
	slices.Sort(out)
	return out
}

// collect has the core collect now.
func collect(c *corealone.Core) {
	c.Ctr("leases", "create", "--id", "collect")
	c.Ctr("leases", "delete", "--sync", "collect")
}

func digestOf(t *testing.T, c *corealone.Core, name string) string {
	t.Helper()
	for _, line := range strings.Split(c.Ctr("images", "ls"), "\n") {
		if f := strings.Fields(line); len(f) > 2 && f[0] == name {
			return f[2]
		}
	}
	t.Fatalf("no image %s", name)
	return ""
}
