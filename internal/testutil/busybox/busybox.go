// Package busybox makes the test image: Debian's static busybox with a link per
// applet, a few users and nothing else.
package busybox

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"gantry/internal/testutil/need"
)

const passwd = `root:x:0:0:root:/root:/bin/sh
daemon:x:1:1:daemon:/usr/sbin:/bin/false
www-data:x:33:33:www-data:/var/www:/bin/false
tester:x:1000:1000:tester:/home/tester:/bin/sh
`

const group = `root:x:0:
daemon:x:1:
staff:x:50:tester
www-data:x:33:
tester:x:1000:
`

// Layer returns the image's only layer, an uncompressed tar.
func Layer(t testing.TB) []byte {
	t.Helper()
	var buf bytes.Buffer
	tw := tar.NewWriter(&buf)
	dir := func(name string, mode int64, uid int) {
		must(t, tw.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: name, Mode: mode, Uid: uid, Gid: uid}))
	}
	file := func(name, text string, mode int64) {
		must(t, tw.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: mode, Size: int64(len(text))}))
		_, err := io.WriteString(tw, text)
		must(t, err)
	}
	for _, d := range []string{"bin/", "dev/", "etc/", "proc/", "root/", "sbin/", "sys/", "usr/", "usr/bin/", "usr/sbin/", "var/", "home/", "www/"} {
		dir(d, 0o755, 0)
	}
	dir("tmp/", 0o1777, 0)
	dir("home/tester/", 0o755, 1000)
	file("etc/passwd", passwd, 0o644)
	file("etc/group", group, 0o644)
	file("www/index.html", "gantry\n", 0o644)
	path := need.Command(t, "busybox")
	bin, err := os.ReadFile(path)
	must(t, err)
	file("bin/busybox", string(bin), 0o755)
	applets, err := exec.Command(path, "--list").Output()
	must(t, err)
	for _, name := range strings.Fields(string(applets)) {
		if name != "busybox" {
			must(t, tw.WriteHeader(&tar.Header{Typeflag: tar.TypeLink, Name: "bin/" + name, Linkname: "bin/busybox", Mode: 0o755}))
		}
	}
	must(t, tw.Close())
	return buf.Bytes()
}

// Config is what the image says about running it; zero means sh.
type Config struct {
	Cmd, Entrypoint, Env []string
	User, WorkingDir     string
	Volumes, Ports       []string
	Labels               map[string]string
}

// Archive returns a docker-archive tar with the image under the names given.
func Archive(t testing.TB, c Config, names ...string) []byte {
	t.Helper()
	if c.Cmd == nil && c.Entrypoint == nil {
		c.Cmd = []string{"sh"}
	}
	layer := Layer(t)
	config := map[string]any{
		"architecture": runtime.GOARCH, "os": "linux", "created": "2024-01-02T03:04:05Z",
		"config": map[string]any{
			"Cmd": c.Cmd, "Entrypoint": c.Entrypoint, "User": c.User, "WorkingDir": c.WorkingDir,
			"Env":     append([]string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}, c.Env...),
			"Volumes": set(c.Volumes), "ExposedPorts": set(c.Ports), "Labels": c.Labels,
		},
		"rootfs":  map[string]any{"type": "layers", "diff_ids": []string{"sha256:" + sum(layer)}},
		"history": []any{map[string]any{"created": "2024-01-02T03:04:05Z", "created_by": "busybox"}},
	}
	raw, err := json.Marshal(config)
	must(t, err)
	manifest, err := json.Marshal([]any{map[string]any{"Config": sum(raw) + ".json", "RepoTags": names, "Layers": []string{sum(layer) + "/layer.tar"}}})
	must(t, err)
	var buf bytes.Buffer
	tw := tar.NewWriter(&buf)
	for _, f := range []struct {
		name string
		data []byte
	}{{sum(layer) + "/layer.tar", layer}, {sum(raw) + ".json", raw}, {"manifest.json", manifest}} {
		must(t, tw.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: f.name, Mode: 0o644, Size: int64(len(f.data))}))
		_, err := tw.Write(f.data)
		must(t, err)
	}
	must(t, tw.Close())
	return buf.Bytes()
}

// Rootfs unpacks the layer into a new directory under dir and returns its path.
func Rootfs(t testing.TB, dir string) string {
	t.Helper()
	root := filepath.Join(dir, "rootfs")
	must(t, os.MkdirAll(root, 0o755))
	cmd := exec.Command("tar", "-x", "-C", root)
	cmd.Stdin = bytes.NewReader(Layer(t))
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("unpack the test image: %v: %s", err, out)
	}
	return root
}

func set(keys []string) map[string]struct{} {
	if keys == nil {
		return nil
	}
	m := map[string]struct{}{}
	for _, k := range keys {
		m[k] = struct{}{}
	}
	return m
}

func sum(b []byte) string {
	s := sha256.Sum256(b)
	return hex.EncodeToString(s[:])
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(fmt.Errorf("test image: %w", err))
	}
}
