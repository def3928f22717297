package server_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	specsv1 "github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// ctr is Debian's containerd client on one namespace of a core.
type ctr struct {
	core *core
	ns   string
}

func needCtr(t *testing.T) {
	t.Helper()
	needRunc(t)
	if _, err := exec.LookPath("ctr"); err != nil {
		t.Skipf("needs ctr: %v", err)
	}
}

func (c ctr) try(ctx context.Context, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, "ctr", append([]string{"--address", c.core.Address(), "-n", c.ns}, args...)...)
	cmd.WaitDelay = time.Second
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func (c ctr) run(t *testing.T, args ...string) string {
	t.Helper()
	out, err := c.try(t.Context(), args...)
	if err != nil {
		t.Fatalf("ctr %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return out
}

// expect runs ctr and looks for each text in what it prints.
func (c ctr) expect(t *testing.T, args []string, texts ...string) {
	t.Helper()
	out := c.run(t, args...)
	for _, text := range texts {
		if !strings.Contains(out, text) {
			t.Errorf("ctr %s: no %q in\n%s", strings.Join(args, " "), text, out)
		}
	}
}

func cmd(line string) []string { return strings.Fields(line) }

// ctrNamespace is one of the test's own. ctr makes cgroups by it, whose parent is
// nobody's to remove.
func ctrNamespace(t *testing.T) string {
	ns := fmt.Sprintf("ctr-test-%d-%d", os.Getpid(), namespaces.Add(1))
	t.Cleanup(func() {
		noRuntimeState(t, ns)
		dirs, _ := filepath.Glob("/sys/fs/cgroup/*/" + ns)
		for _, dir := range append(dirs, filepath.Join("/sys/fs/cgroup", ns)) {
			if err := os.Remove(dir); err != nil && !errors.Is(err, os.ErrNotExist) {
				t.Error(err)
			}
		}
	})
	return ns
}

// ociArchive writes an OCI image of the userland as a tar file.
func ociArchive(t *testing.T, name string) string {
	t.Helper()
	layer, diffID := layerOf(t, userland(t))
	files := map[string][]byte{}
	blob := func(mediaType string, data []byte) ocispec.Descriptor {
		d := digest.FromBytes(data)
		files["blobs/sha256/"+d.Encoded()] = data
		return ocispec.Descriptor{MediaType: mediaType, Digest: d, Size: int64(len(data))}
	}
	marshal := func(v any) []byte {
		data, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	config := blob(ocispec.MediaTypeImageConfig, marshal(ocispec.Image{
		Platform: ocispec.Platform{OS: "linux", Architecture: runtime.GOARCH},
		Config:   ocispec.ImageConfig{Env: []string{"PATH=/bin"}, Cmd: []string{"sh"}},
		RootFS:   ocispec.RootFS{Type: "layers", DiffIDs: []digest.Digest{diffID}},
	}))
	manifest := blob(ocispec.MediaTypeImageManifest, marshal(ocispec.Manifest{
		Versioned: specsv1.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest,
		Config: config, Layers: []ocispec.Descriptor{blob(ocispec.MediaTypeImageLayerGzip, layer)},
	}))
	manifest.Annotations = map[string]string{"io.containerd.image.name": name, ocispec.AnnotationRefName: "latest"}
	files["index.json"] = marshal(ocispec.Index{
		Versioned: specsv1.Versioned{SchemaVersion: 2}, Manifests: []ocispec.Descriptor{manifest}})
	files[ocispec.ImageLayoutFile] = marshal(ocispec.ImageLayout{Version: ocispec.ImageLayoutVersion})

	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, path := range append([]string{ocispec.ImageLayoutFile, "index.json"}, sortedBlobs(files)...) {
		if err := w.WriteHeader(&tar.Header{Name: path, Mode: 0o644, Size: int64(len(files[path]))}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(files[path]); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "image.tar")
	if err := os.WriteFile(path, buf.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

func sortedBlobs(files map[string][]byte) (out []string) {
	for path := range files {
		if strings.HasPrefix(path, "blobs/") {
			out = append(out, path)
		}
	}
	return out
}

// layerOf packs a directory; the digest is the uncompressed tar's.
func layerOf(t *testing.T, dir string) ([]byte, digest.Digest) {
	t.Helper()
	var packed bytes.Buffer
	if err := func() error {
		w := tar.NewWriter(&packed)
		if err := w.AddFS(os.DirFS(dir)); err != nil {
			return err
		}
		return w.Close()
	}(); err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(packed.Bytes())
	var zipped bytes.Buffer
	z := gzip.NewWriter(&zipped)
	if _, err := z.Write(packed.Bytes()); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return zipped.Bytes(), digest.NewDigestFromEncoded(digest.SHA256, hex.EncodeToString(sum[:]))
}

func TestCtr(t *testing.T) {
	needCtr(t)
	onEachShim(t, ctrCommands)
}

func ctrCommands(t *testing.T, c *core) {
	ns := ctrNamespace(t)
	x := ctr{core: c, ns: ns}
	const image = "example.org/busybox:latest"

	x.expect(t, cmd("version"), "1.2.3")
	x.expect(t, cmd("plugins ls"), "io.containerd.runtime.v2", "overlayfs", "ok")
	x.run(t, "namespaces", "create", ns, "a=b")
	x.expect(t, cmd("namespaces ls"), ns, "a=b")
	x.run(t, "image", "import", ociArchive(t, image))
	x.expect(t, cmd("images ls"), image, "linux/"+runtime.GOARCH)
	x.expect(t, cmd("images check"), "complete (2/2)")
	x.expect(t, cmd("content ls"), "sha256:", "containerd.io/gc.ref.content")
	x.expect(t, cmd("snapshots ls"), "Committed")
	x.expect(t, cmd("leases ls"), "ID")

	x.expect(t, []string{"run", "--rm", "--runtime", c.runtime, image, "short", "sh", "-c", "echo hello from $(busybox uname)"}, "hello from Linux")
	if out, err := x.try(t.Context(), "run", "--rm", "--runtime", c.runtime, image, "code", "sh", "-c", "exit 42"); err == nil || err.Error() != "exit status 42" {
		t.Errorf("exit status: %v\n%s", err, out)
	}
	if out, err := x.try(t.Context(), "run", "--rm", "--runtime", c.runtime, image, "nope", "/no/such/thing"); err == nil ||
		!strings.Contains(out, "failed to create shim task: ") {
		t.Errorf("unknown command: %v\n%s", err, out)
	}
	x.expect(t, cmd("containers ls -q"), "")

	x.run(t, "run", "-d", "--runtime", c.runtime, image, "web", "sleep", "1000")
	x.expect(t, cmd("tasks ls"), "web", "RUNNING")
	x.expect(t, cmd("containers ls"), "web", image, c.runtime)
	x.expect(t, cmd("containers info web"), `"ID": "web"`, `"Image": "`+image)
	x.run(t, cmd("containers label web x=y")...)
	x.expect(t, cmd("containers ls labels.x==y"), "web")
	x.expect(t, cmd("tasks ps web"), "PID")
	x.expect(t, cmd("tasks metrics web"), "METRIC")
	x.expect(t, []string{"tasks", "exec", "--exec-id", "e1", "web", "sh", "-c", "echo inside"}, "inside")
	if out, err := x.try(t.Context(), "tasks", "exec", "--exec-id", "e2", "web", "sh", "-c", "exit 3"); err == nil || err.Error() != "exit status 3" {
		t.Errorf("exec exit status: %v\n%s", err, out)
	}
	x.run(t, cmd("tasks pause web")...)
	x.expect(t, cmd("tasks ls"), "PAUSED")
	x.run(t, cmd("tasks resume web")...)
	x.expect(t, cmd("tasks ls"), "RUNNING")
	if out, err := x.try(t.Context(), cmd("containers rm web")...); err == nil {
		t.Errorf("a container with a running task was removed: %s", out)
	}
	x.run(t, cmd("tasks kill -s KILL web")...)
	eventually(t, "task stops", func() error {
		if out := x.run(t, "tasks", "ls"); !strings.Contains(out, "STOPPED") {
			return fmt.Errorf("%s", out)
		}
		return nil
	})
	if out, err := x.try(t.Context(), cmd("tasks rm web")...); err != nil && !strings.Contains(err.Error(), "exit status") {
		t.Errorf("tasks rm: %v\n%s", err, out)
	}
	x.run(t, cmd("containers rm web")...)

	x.run(t, "containers", "create", "--runtime", c.runtime, image, "two", "sleep", "1000")
	x.run(t, cmd("tasks start -d two")...)
	x.expect(t, cmd("tasks ls"), "two", "RUNNING")
	x.run(t, cmd("tasks rm -f two")...)
	x.run(t, cmd("containers rm two")...)

	x.run(t, "leases", "create", "--id", "mine", "--expires", "1h")
	x.expect(t, cmd("leases ls"), "mine")
	x.run(t, "leases", "rm", "mine")
	x.run(t, "images", "rm", "--sync", image)
	x.expect(t, cmd("content ls -q"), "")
	x.expect(t, cmd("snapshots ls"), "KEY")
	x.run(t, "namespaces", "rm", ns)
	c.noneLeft(t)
}

func TestCtrEvents(t *testing.T) {
	needCtr(t)
	c := start(t, newConfig(t))
	x := ctr{core: c, ns: ctrNamespace(t)}
	var out bytes.Buffer
	ctx, cancel := context.WithCancel(t.Context())
	watch := exec.CommandContext(ctx, "ctr", "--address", c.Address(), "-n", x.ns, "events")
	watch.Stdout = &lockedWriter{w: &out}
	if err := watch.Start(); err != nil {
		t.Fatal(err)
	}
	defer watch.Wait()
	defer cancel()
	seen := func() string { return watch.Stdout.(*lockedWriter).String() }
	eventually(t, "ctr sees an event", func() error {
		x.run(t, "leases", "create") // no event; the image below has one
		x.run(t, "namespaces", "label", x.ns, "k=v")
		if !strings.Contains(seen(), "/namespaces/") {
			return fmt.Errorf("seen %q", seen())
		}
		return nil
	})
	const image = "example.org/busybox:latest"
	x.run(t, "image", "import", ociArchive(t, image))
	x.run(t, "run", "--rm", "--runtime", c.runtime, image, "one", "true")
	for _, topic := range []string{"/images/create", "/snapshot/prepare", "/containers/create", "/tasks/create", "/tasks/start",
		"/tasks/exit", "/tasks/delete", "/containers/delete"} {
		eventually(t, topic, func() error {
			if !strings.Contains(seen(), " "+topic+" ") {
				return fmt.Errorf("not in %s", seen())
			}
			return nil
		})
	}
	c.noneLeft(t)
}
