package server_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"gantry/internal/testutil/busybox"
	"gantry/internal/testutil/need"
	"gantry/internal/testutil/registrytest"
	"gantry/internal/testutil/sink"
	"gantry/internal/testutil/transfertest"
)

// imageClient is one make of ctr on one core.
type imageClient struct {
	t       *testing.T
	program string
	core    *core
	ns      string
}

func (c imageClient) try(args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(c.t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, c.program, append([]string{"--address", c.core.Address(), "-n", c.ns}, args...)...)
	cmd.WaitDelay = time.Second
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func (c imageClient) run(args ...string) string {
	c.t.Helper()
	out, err := c.try(args...)
	if err != nil {
		c.t.Fatalf("%s %s: %v\n%s", c.program, strings.Join(args, " "), err, out)
	}
	return out
}

func (c imageClient) refused(want string, args ...string) {
	c.t.Helper()
	out, err := c.try(args...)
	if err == nil || !strings.Contains(out, want) {
		c.t.Errorf("%s %s: %v, want %q in\n%s", c.program, strings.Join(args, " "), err, want, out)
	}
}

// has says that the image is complete and unpacked.
func (c imageClient) has(image string) {
	c.t.Helper()
	out := c.run("images", "check", "name=="+image)
	for line := range strings.Lines(out) {
		f := strings.Fields(line)
		if len(f) > 0 && f[0] == image {
			if !strings.Contains(line, "complete (2/2)") || f[len(f)-1] != "true" {
				c.t.Errorf("check of %s: %s", image, line)
			}
			return
		}
	}
	c.t.Errorf("%s is not there:\n%s", image, out)
}

// TestCtrImages moves images with Debian's ctr, which does all on the client's side, and
// with containerd 2's, which uses the transfer service, and both on the client's side.
func TestCtrImages(t *testing.T) {
	need.Root(t, "unpacks images")
	registry := registrytest.Start(t)
	_, certs := sink.Certificates(t)
	private, secure := registry.Private(t), registry.TLS(t, certs, false)
	tokens, _ := registry.Tokens(t, certs)
	layer, id := transfertest.Layer("file", "text")
	img := registrytest.Image{Layers: [][]byte{layer}, DiffIDs: []digest.Digest{id}}
	img.Architecture = "s390x"
	other := registry.Push("app", "other", img)
	img.Architecture = runtime.GOARCH
	registry.Index("app", "1", other, registry.Push("app", "host", img))
	hosts := t.TempDir()
	writeHosts(t, hosts, secure.Host, fmt.Sprintf("server = \"https://%s\"\n[host.\"https://%s\"]\nca = %q\n", secure.Host, secure.Host, certs+"/ca.pem"))
	writeHosts(t, hosts, "mirrored.test", fmt.Sprintf("server = \"https://mirrored.test\"\n[host.\"http://%s\"]\n", registry.Host))

	for name, client := range map[string]func(t *testing.T) (string, []string){
		"1.6": func(t *testing.T) (string, []string) { return need.Command(t, "ctr"), nil },
		"2":   func(t *testing.T) (string, []string) { return need.Client(t, "ctr"), nil },
		"2, local": func(t *testing.T) (string, []string) {
			return need.Client(t, "ctr"), []string{"--local"}
		},
	} {
		t.Run(name, func(t *testing.T) {
			program, local := client(t)
			c := imageClient{t, program, start(t, newConfig(t)), "images"}
			pull := func(args ...string) []string { return append(append([]string{"images", "pull"}, local...), args...) }
			push := func(args ...string) []string { return append(append([]string{"images", "push"}, local...), args...) }
			user := registrytest.User + ":" + registrytest.Password

			plain := registry.Host + "/app:1"
			c.run(pull("--plain-http", plain)...)
			c.has(plain)
			if local == nil { // the others have shown the rest of it
				c.reach(pull, user, private, tokens, secure, registry, hosts)
			}
			single := registry.Host + "/app:host"
			c.run(pull("--plain-http", single)...)
			to := private.Host + "/back/" + strings.NewReplacer(" ", "", ",", "-", ".", "-").Replace(name) + ":2"
			c.run("images", "tag", single, to)
			c.refused("", push("--plain-http", to)...)
			c.run(push("--plain-http", "--user", user, to)...)
			c.run("images", "rm", "--sync", to)
			c.run(pull("--plain-http", "--user", user, to)...)
			c.has(to)

			file := filepath.Join(t.TempDir(), "out.tar")
			c.run("images", "export", file, single)
			for line := range strings.Lines(c.run("images", "ls", "-q")) {
				c.run("images", "rm", "--sync", strings.TrimSpace(line))
			}
			if out := c.run("content", "ls", "-q"); strings.TrimSpace(out) != "" {
				t.Errorf("content is left: %s", out)
			}
			c.run("images", "import", file)
			c.has(single)
			if out := c.run("leases", "ls", "-q"); strings.TrimSpace(out) != "" {
				t.Errorf("leases are left: %s", out)
			}
		})
	}
}

// reach pulls in the ways that there are to reach a registry.
func (c imageClient) reach(pull func(args ...string) []string, user string, private, tokens, secure, registry *registrytest.Registry, hosts string) {
	c.t.Helper()
	for _, way := range []struct {
		ref  string
		args []string
	}{
		{private.Host + "/app:1", []string{"--plain-http", "--user", user}},
		{tokens.Host + "/app:1", []string{"--plain-http", "--user", user}},
		{secure.Host + "/app:1", []string{"--hosts-dir", hosts}},
		{"mirrored.test/app:1", []string{"--hosts-dir", hosts}},
	} {
		c.run(pull(append(way.args, way.ref)...)...)
		c.has(way.ref)
	}
	c.refused("", pull("--plain-http", private.Host+"/app:1")...)
	c.refused("not found", pull("--plain-http", registry.Host+"/none:1")...)
}

func writeHosts(t *testing.T, dir, host, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Join(dir, host), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, host, "hosts.toml"), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// TestSkopeo pulls what skopeo has pushed, in each of the formats that it writes.
func TestSkopeo(t *testing.T) {
	need.Root(t, "unpacks images")
	program := need.Command(t, "skopeo")
	registry := registrytest.Start(t)
	file := filepath.Join(t.TempDir(), "image.tar")
	if err := os.WriteFile(file, busybox.Archive(t, busybox.Config{}, "example.org/skopeo:1"), 0o644); err != nil {
		t.Fatal(err)
	}
	c := imageClient{t, need.Client(t, "ctr"), start(t, newConfig(t)), "images"}
	for _, args := range []string{"--format v2s2", "--format oci", "--format oci --dest-compress-format zstd"} {
		ref := registry.Host + "/skopeo:" + strings.Map(func(r rune) rune {
			if r == ' ' || r == '-' {
				return '.'
			}
			return r
		}, strings.Trim(args, "-"))
		all := append(append([]string{"copy", "--insecure-policy", "--dest-tls-verify=false"}, strings.Fields(args)...), "docker-archive:"+file, "docker://"+ref)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		out, err := exec.CommandContext(ctx, program, all...).CombinedOutput()
		cancel()
		if err != nil {
			t.Fatalf("skopeo %s: %v\n%s", strings.Join(all, " "), err, out)
		}
		c.run("images", "pull", "--plain-http", ref)
		c.has(ref)
	}
}
