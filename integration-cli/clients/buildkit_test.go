package clients

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"gantry/internal/testutil/need"
)

// TestBuildKit builds with BuildKit's containerd worker, and runs what it has built.
func TestBuildKit(t *testing.T) {
	daemon, cli, ctr := need.Client(t, "buildkitd"), need.Client(t, "buildctl"), need.Client(t, "ctr")
	r := registry(t)
	c := ours(t)
	socket := "unix://" + filepath.Join(filepath.Dir(c.socket), "bk")
	log, err := os.Create(filepath.Join(c.dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	config := filepath.Join(c.dir, "buildkitd.toml")
	if err := os.WriteFile(config, []byte("[registry.\""+r.Host+"\"]\n  http = true\n[worker.containerd]\n  defaultCgroupParent = \"/"+ns+"\"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(daemon, "--config", config, "--root", filepath.Join(c.dir, "root"), "--addr", socket, "--oci-worker=false",
		"--containerd-worker=true", "--containerd-worker-addr", c.socket, "--containerd-worker-namespace", ns, "--containerd-worker-net", "host")
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(unix.SIGTERM)
		_ = cmd.Wait()
		if t.Failed() {
			text, _ := os.ReadFile(log.Name())
			t.Logf("buildkitd's log ends\n%s", text[max(0, len(text)-3000):])
		}
	})
	for deadline := time.Now().Add(30 * time.Second); c.run(t, "", cli, "--addr", socket, "debug", "workers").code != 0; time.Sleep(100 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("buildkitd does not come up")
		}
	}
	dir := filepath.Join(c.dir, "context")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"Dockerfile": "FROM " + r.Host + "/bb:1 AS first\nRUN echo made > /made && ln /made /again && rm -r /www\nFROM first\nCOPY file /copied\nRUN --mount=type=cache,target=/cache cat /made /copied | tee /cache/x > /both\nUSER 1000\nCMD [\"cat\", \"/both\"]\n",
		"file":       "from outside\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	build := func(output string) result {
		return c.run(t, "", cli, "--addr", socket, "build", "--progress", "plain", "--frontend", "dockerfile.v0",
			"--local", "context="+dir, "--local", "dockerfile="+dir, "--output", output)
	}
	if got := build("type=image,name=docker.io/library/built:1,unpack=true"); got.code != 0 {
		t.Fatalf("build: %s", got.out)
	}
	if got := c.run(t, "", ctr, "run", "--rm", "--cgroup", "/"+ns+"/b", "docker.io/library/built:1", "b"); got.out != "made\nfrom outside\n" {
		t.Errorf("the image says %q", got.out)
	}
	if got := c.run(t, "", ctr, "run", "--rm", "--cgroup", "/"+ns+"/b", "docker.io/library/built:1", "b", "ls", "/www"); !strings.Contains(got.out, "No such file") {
		t.Errorf("what a step has removed: %q", got.out)
	}
	again := build("type=image,name=" + r.Host + "/built:1,push=true")
	if again.code != 0 || strings.Count(again.out, " CACHED") < 3 {
		t.Errorf("a second build: %s", again.out)
	}
	if got := c.run(t, "", ctr, "images", "pull", "--plain-http", r.Host+"/built:1"); got.code != 0 {
		t.Errorf("pull of what was pushed: %s", got.out)
	}
	if got := c.run(t, "", cli, "--addr", socket, "prune", "--all"); got.code != 0 {
		t.Errorf("prune: %s", got.out)
	}
}
