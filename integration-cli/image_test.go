package integrationcli

import (
	"archive/tar"
	"bytes"
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"gantry/internal/testutil/busybox"
	"gantry/internal/testutil/engine"
	"gantry/internal/testutil/need"
)

func TestImages(t *testing.T) {
	e := engine.Start(t)
	archive := busybox.Archive(t, busybox.Config{
		Cmd: []string{"echo", "default"}, Env: []string{"IMG=yes"}, WorkingDir: "/home", Volumes: []string{"/data"}, Ports: []string{"80/tcp"}, Labels: map[string]string{"a": "b"},
	}, "app:1", "app:latest")
	e.Load(archive)
	if got := e.Must("run", "--rm", "app"); got != "default" {
		t.Errorf("the image's command: %q", got)
	}
	if got := e.Must("run", "--rm", "app", "sh", "-c", "echo $IMG; pwd; ls -d /data"); got != "yes\n/home\n/data" {
		t.Errorf("the image's settings: %q", got)
	}
	if got := e.Must("images", "--format", "{{.Repository}}:{{.Tag}}"); got != "app:1\napp:latest" && got != "app:latest\napp:1" {
		t.Errorf("images:\n%s", got)
	}
	id := e.Must("images", "-q", "--no-trunc", "app:1")
	if !strings.HasPrefix(id, "sha256:") || len(id) != 71 || e.Must("inspect", "-f", "{{.Id}}", "app:1") != id || e.Must("inspect", "-f", "{{.Id}}", id[7:19]) != id {
		t.Errorf("id %s", id)
	}
	if got := e.Must("image", "inspect", "-f", "{{.Os}} {{.Config.WorkingDir}} {{index .Config.Labels \"a\"}} {{len .RootFS.Layers}}", "app"); got != "linux /home b 1" {
		t.Errorf("inspect: %s", got)
	}
	if got := e.Must("history", "--format", "{{.CreatedBy}}", "app"); got != "busybox" {
		t.Errorf("history: %s", got)
	}
	e.Must("tag", "app:1", "other.example/x/y:z")
	if got := e.Must("rmi", "app:1"); got != "Untagged: app:1" {
		t.Errorf("rmi of one name: %q", got)
	}
	if got := e.Must("run", "--rm", "other.example/x/y:z"); got != "default" {
		t.Errorf("after rmi of another name: %q", got)
	}
	saved := e.Docker("save", "app").Stdout
	e.Must("rmi", "-f", id)
	if got := e.Must("images", "-q"); got != "" {
		t.Errorf("images left: %s", got)
	}
	if r := e.Docker("rmi", "app"); r.Code != 1 || !strings.Contains(r.Stderr, "No such image: app:latest") {
		t.Errorf("rmi of none: %s", r.Stderr)
	}
	if r := e.DockerIn(saved, "load"); r.Code != 0 || !strings.Contains(r.Stdout, "Loaded image: app:latest") {
		t.Fatalf("load of what was saved: %s%s", r.Stdout, r.Stderr)
	}
	if got := e.Must("images", "-q", "--no-trunc"); got != id {
		t.Errorf("the id has changed: %s, was %s", got, id)
	}
	if r := e.DockerIn(saved[:len(saved)/2], "load"); r.Code == 0 {
		t.Error("a torn archive was loaded")
	}
	e.Must("rmi", "app")
	if r := e.DockerIn(string(busybox.Layer(t)), "import", "-c", "CMD [\"echo\",\"imported\"]", "-", "imp:1"); r.Code != 0 || !strings.HasPrefix(r.Stdout, "sha256:") {
		t.Fatalf("import: %s%s", r.Stdout, r.Stderr)
	}
	if got := e.Must("run", "--rm", "imp:1"); got != "imported" {
		t.Errorf("an imported image: %q", got)
	}
	e.Must("run", "-d", "--name", "user", "imp:1", "sleep", "1000")
	if r := e.Docker("rmi", "imp:1"); r.Code != 1 || !strings.Contains(r.Stderr, "is using its referenced image") && !strings.Contains(r.Stderr, "is being used by running container") {
		t.Errorf("rmi of an image in use: %s", r.Stderr)
	}
	e.Clean(t)
	e.Must("rmi", "imp:1")
	checkEmptyStore(t, e)
}

// checkEmptyStore looks for blobs and snapshots that no image needs.
func checkEmptyStore(t *testing.T, e *engine.Engine) {
	t.Helper()
	eventually(t, "blobs and snapshots are collected", func() bool {
		blobs, _ := filepath.Glob(filepath.Join(e.Dir, "data/core/*content*/blobs/sha256/*"))
		snaps, _ := filepath.Glob(filepath.Join(e.Dir, "data/core/*overlayfs/snapshots/*"))
		return len(blobs) == 0 && len(snaps) == 0
	})
}

// registry runs Debian's docker-registry on loopback and returns its address.
func registry(t *testing.T) string {
	t.Helper()
	bin := need.Command(t, "docker-registry")
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	l.Close()
	dir := t.TempDir()
	config := fmt.Sprintf("version: 0.1\nstorage:\n  filesystem:\n    rootdirectory: %s\nhttp:\n  addr: %s\n", dir, addr)
	path := filepath.Join(dir, "config.yml")
	if err := os.WriteFile(path, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(bin, "serve", path)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Signal(syscall.SIGTERM); cmd.Wait() })
	for range 200 {
		if r, err := http.Get("http://" + addr + "/v2/"); err == nil {
			r.Body.Close()
			return addr
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Fatal("the registry does not answer")
	return ""
}

func TestPull(t *testing.T) {
	e := engine.Start(t)
	addr := registry(t)
	archive := filepath.Join(t.TempDir(), "a.tar")
	if err := os.WriteFile(archive, busybox.Archive(t, busybox.Config{Cmd: []string{"echo", "pulled"}}, "x:1"), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	ref := addr + "/some/app:1"
	push := exec.CommandContext(ctx, need.Command(t, "skopeo"), "--insecure-policy", "copy", "--dest-tls-verify=false", "docker-archive:"+archive, "docker://"+ref)
	if out, err := push.CombinedOutput(); err != nil {
		t.Fatalf("skopeo: %v\n%s", err, out)
	}
	r := e.Docker("run", "--rm", ref)
	if r.Code != 0 || r.Stdout != "pulled\n" {
		t.Fatalf("run of an image that is not there: %d %s%s", r.Code, r.Stdout, r.Stderr)
	}
	for _, want := range []string{"Unable to find image '" + ref + "' locally", "1: Pulling from some/app", "Pull complete", "Digest: sha256:", "Status: Downloaded newer image for " + ref} {
		if !strings.Contains(r.Stderr, want) {
			t.Errorf("missing %q in\n%s", want, r.Stderr)
		}
	}
	if got := e.Must("pull", ref); !strings.Contains(got, "Status: Image is up to date for "+ref) {
		t.Errorf("pulled again:\n%s", got)
	}
	if r := e.Docker("pull", addr+"/some/app:2"); r.Code != 1 || !strings.Contains(r.Stderr, "not found") {
		t.Errorf("a tag that is not there: %d %s", r.Code, r.Stderr)
	}
	if got := e.Must("images", "--digests", "--format", "{{.Repository}} {{.Tag}} {{.Digest}}"); !strings.HasPrefix(got, addr+"/some/app 1 sha256:") {
		t.Errorf("images --digests: %s", got)
	}
	e.Must("rmi", ref)
	checkEmptyStore(t, e)
}

func TestVolumes(t *testing.T) {
	e := engine.Start(t)
	layer := busybox.Layer(t)
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	w.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: "seed/", Mode: 0o750, Uid: 1000, Gid: 1000})
	w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: "seed/file", Mode: 0o640, Uid: 1000, Gid: 1000, Size: 5})
	w.Write([]byte("seed\n"))
	w.Flush()
	// A tar ends with two empty blocks; what comes before them can be put in front of another.
	if r := e.DockerIn(buf.String()+string(layer), "import", "-c", "CMD sh", "-", image); r.Code != 0 {
		t.Fatal(r.Stderr)
	}
	if got := e.Must("run", "--rm", "-v", "vol:/seed", image, "sh", "-c", "cat /seed/file; stat -c '%u %a' /seed /seed/file; echo more > /seed/more"); got != "seed\n1000 750\n1000 640" {
		t.Errorf("copied up: %q", got)
	}
	if got := e.Must("run", "--rm", "-v", "vol:/elsewhere:ro", image, "sh", "-c", "cat /elsewhere/more; touch /elsewhere/x 2>/dev/null || echo ro"); got != "more\nro" {
		t.Errorf("the volume again: %q", got)
	}
	if got := e.Must("run", "--rm", "-v", "empty:/seed:nocopy", image, "ls", "/seed"); got != "" {
		t.Errorf("nocopy: %q", got)
	}
	if got := e.Must("volume", "ls", "-q"); got != "empty\nvol" {
		t.Errorf("volume ls: %q", got)
	}
	e.Must("create", "--name", "holder", "-v", "vol:/v", image)
	if r := e.Docker("volume", "rm", "vol"); r.Code != 1 || !strings.Contains(r.Stderr, "volume is in use - [") {
		t.Errorf("volume rm: %s", r.Stderr)
	}
	e.Must("rm", "holder")
	e.Must("volume", "rm", "vol", "empty")
	e.Must("run", "--name", "anon", "-v", "/seed", image, "true")
	if got := strings.Fields(e.Must("volume", "ls", "-q")); len(got) != 1 || len(got[0]) != 64 {
		t.Errorf("anonymous volumes %v", got)
	}
	e.Must("rm", "-v", "anon")
	if got := e.Must("volume", "ls", "-q"); got != "" {
		t.Errorf("volumes left: %s", got)
	}
	if r := e.Docker("volume", "inspect", "nope"); r.Code != 1 || !strings.Contains(r.Stderr, "no such volume") {
		t.Errorf("volume inspect: %s", r.Stderr)
	}
}
