package swap

import (
	"os"
	"path/filepath"
	"testing"

	"gantry/internal/testutil/engine"
)

// TestDockerdOnCore has dockerd start our core as its containerd: it looks for the
// program of that name, and writes it a configuration of version 1.
func TestDockerdOnCore(t *testing.T) {
	dir := t.TempDir()
	if err := os.Symlink(engine.Binary(t, "gantryd"), filepath.Join(dir, "containerd")); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	c := dockerd(t)
	out, err := c.docker("version", "--format", `{{range .Server.Components}}{{.Name}} {{.Version}} {{end}}`).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	t.Logf("server: %s", out)
	pid, err := os.ReadFile(filepath.Join(c.dir, "exec", "containerd", "containerd.pid"))
	if err != nil {
		t.Fatal(err)
	}
	if program, err := os.Readlink("/proc/" + string(pid) + "/exe"); err != nil || program != engine.Binary(t, "gantryd") {
		t.Fatalf("its containerd is %s, %v", program, err)
	}
	c.compare(t, lives, "runc", "gantry")
}
