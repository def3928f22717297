package integrationcli

import (
	"archive/tar"
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"gantry/internal/testutil/engine"
)

// sourcesLeft are the mounts of daemon/source that are there.
func sourcesLeft(t *testing.T, e *engine.Engine) (left []string) {
	t.Helper()
	raw, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.SplitSeq(string(raw), "\n") {
		if f := strings.Fields(line); len(f) > 4 && strings.HasPrefix(f[4], filepath.Join(e.Dir, "exec", "sources")) {
			left = append(left, f[4])
		}
	}
	return left
}

// TestCreateMounts has one container with a mount of each kind that is opened inside of
// something, and refuses those that lead out.
func TestCreateMounts(t *testing.T) {
	e := start(t)
	e.Must("run", "--rm", "-v", "vol:/v", image, "sh", "-c",
		"mkdir -p /v/dir/sub && echo in-sub > /v/dir/sub/f && ln -s dir/sub /v/inside && ln -s /etc /v/absolute && ln -s ../../../../../../../etc /v/up && mkfifo /v/fifo")
	made := filepath.Join(t.TempDir(), "not", "there")
	id := e.Must("create", "--name", "all",
		"--mount", "type=volume,src=vol,dst=/sub,volume-subpath=dir/sub",
		"--mount", "type=volume,src=vol,dst=/file,volume-subpath=dir/sub/f,readonly",
		"--mount", "type=volume,src=vol,dst=/link,volume-subpath=inside",
		"--mount", "type=image,src="+image+",dst=/img",
		"--mount", "type=image,src="+image+",dst=/imgbin,image-subpath=bin",
		"--mount", "type=tmpfs,dst=/tmpfs,tmpfs-size=1m,tmpfs-mode=1700",
		"-v", made+":/made",
		image, "sh", "-c", `cat /sub/f /file /link/f; /imgbin/busybox echo ran; ls -d /img/etc/passwd
echo x > /img/x || echo read-only; echo x > /file || echo read-only; echo y >> /sub/f
grep ' /tmpfs ' /proc/mounts | tr , '\n' | grep -c 'size=1024k\|mode=1700'; touch /made/x; grep -c sources /proc/mounts`)
	if got := e.Docker("start", "-a", "all"); strings.Join(strings.Fields(got.Stdout), " ") !=
		"in-sub in-sub in-sub ran /img/etc/passwd read-only read-only 2 0" {
		t.Errorf("inside: %q, %q", got.Stdout, got.Stderr)
	}
	if _, err := os.Stat(filepath.Join(made, "x")); err != nil {
		t.Error(err)
	}
	if left := sourcesLeft(t, e); len(left) > 0 {
		t.Errorf("mounts left: %v", left)
	}
	const format = `{{range .Mounts}}{{if eq .Type "image"}}{{.Name}} {{.RW}} {{.Propagation}},{{end}}{{end}}`
	if got := e.Must("inspect", "-f", format, "all"); got != image+" false rprivate,"+image+" false rprivate," {
		t.Errorf("inspect: %s", got)
	}
	for path, want := range map[string]string{"all:/sub/f": "in-sub", "all:/imgbin/../img/etc/passwd": "root:"} {
		if got := e.Docker("cp", path, "-"); got.Code != 0 || !strings.Contains(got.Stdout, want) {
			t.Errorf("cp %s: %+v", path, got)
		}
	}
	for path, want := range map[string]string{
		"up": "path concatenation escapes the base directory", "absolute/ssl": "path concatenation escapes the base directory",
		"none": "cannot access path ", "fifo/x": "error while resolving symlinks in combined path",
	} {
		got := e.Docker("run", "--rm", "--mount", "type=volume,src=vol,dst=/m,volume-subpath="+path, image, "true")
		if got.Code == 0 || !strings.Contains(got.Stderr, want) {
			t.Errorf("subpath %s: %d %s", path, got.Code, got.Stderr)
		}
	}
	if got := e.Docker("run", "--rm", "--mount", "type=image,src="+image+",dst=/m,image-subpath=none", image, "true"); got.Code == 0 || !strings.Contains(got.Stderr, "cannot access path "+image+"/none") {
		t.Errorf("a part of an image that is not there: %+v", got)
	}
	if left := sourcesLeft(t, e); len(left) > 0 {
		t.Errorf("mounts left by what was refused: %v", left)
	}
	if got := e.Docker("run", "--rm", "--volumes-from", "all", image, "sh", "-c", "cat /link/f | wc -l; ls -d /img/etc/passwd"); strings.Join(strings.Fields(got.Stdout), " ") != "2 /img/etc/passwd" {
		t.Errorf("volumes from: %+v", got)
	}
	e.Kill()
	e.Launch()
	if got := e.Docker("start", "-a", id); !strings.Contains(got.Stdout, "ran") {
		t.Errorf("after the daemon died: %+v", got)
	}
	e.Clean(t)
}

// TestReadOnlyRecursive mounts a tree with another mount in it, in all ways of read-only.
func TestReadOnlyRecursive(t *testing.T) {
	e := start(t)
	dir := t.TempDir()
	below := filepath.Join(dir, "below")
	if err := os.Mkdir(below, 0o755); err != nil {
		t.Fatal(err)
	}
	mountTmpfs(t, below)
	try := func(option string) string {
		if older, ok := strings.CutPrefix(option, "1.43"); ok {
			t.Setenv("DOCKER_API_VERSION", "1.43")
			defer os.Unsetenv("DOCKER_API_VERSION") //nolint:errcheck // the test's own
			option = older
		}
		got := e.Docker("run", "--rm", "--mount", "type=bind,src="+dir+",dst=/m"+option, image, "sh", "-c",
			"touch /m/x 2>/dev/null && echo top; touch /m/below/x 2>/dev/null && echo below; grep -c ' /m/below ' /proc/mounts")
		if got.Code > 1 {
			return got.Stderr
		}
		return strings.Join(strings.Fields(got.Stdout), " ")
	}
	for option, want := range map[string]string{
		"": "top below 1", ",readonly": "1", "1.43,readonly": "below 1", ",readonly,bind-recursive=writable": "below 1",
		",readonly,bind-recursive=readonly,bind-propagation=rprivate": "1", ",readonly,bind-recursive=disabled": "0",
	} {
		if got := try(option); got != want {
			t.Errorf("%q: %q, want %q", option, got, want)
		}
	}
}

func mountTmpfs(t *testing.T, at string) {
	t.Helper()
	if err := unix.Mount("none", at, "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(at, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
}

// TestImageMountKeepsLayers removes an image that a container has mounted, and its layers
// stay for as long as the container does.
func TestImageMountKeepsLayers(t *testing.T) {
	e := start(t)
	var layer bytes.Buffer
	w := tar.NewWriter(&layer)
	for name, body := range map[string]string{"data/f": "kept\n", "g": "g\n"} {
		if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(body))}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(body)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if got := e.DockerIn(layer.String(), "import", "-", "data:1"); got.Code != 0 {
		t.Fatalf("import: %+v", got)
	}
	e.Must("create", "--name", "reader", "--mount", "type=image,src=data:1,dst=/whole", "--mount", "type=image,src=data:1,dst=/part,image-subpath=data", image, "cat", "/whole/data/f", "/part/f")
	e.Must("create", "--name", "heir", "--volumes-from", "reader", image, "cat", "/part/f")
	e.Must("rmi", "data:1")
	collect := func() {
		t.Helper()
		if err := e.Place().Collect(); err != nil {
			t.Fatal(err)
		}
	}
	collect()
	if got := e.Must("start", "-a", "reader"); got != "kept\nkept" {
		t.Errorf("without the image: %q", got)
	}
	e.Must("rm", "reader")
	collect()
	if got := e.Must("start", "-a", "heir"); got != "kept" {
		t.Errorf("without the container that it came from: %q", got)
	}
	e.Must("rm", "heir")
	if !e.Place().Agree(t) {
		t.Error("something is left")
	}
	e.Clean(t)
}
