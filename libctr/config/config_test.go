package config_test

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/pelletier/go-toml/v2"

	"gantry/api/errdefs"
	"gantry/libctr/config"
)

// schema is what the tests' files may have.
type schema struct {
	Version  int               `toml:"version"`
	Root     string            `toml:"root"`
	Score    int               `toml:"oom_score"`
	Imports  []string          `toml:"imports"`
	Disabled []string          `toml:"disabled_plugins"`
	Timeouts map[string]string `toml:"timeouts"`
	Plugins  map[string]any    `toml:"plugins"`
	Proxies  map[string]any    `toml:"proxy_plugins"`
	GRPC     struct {
		Address string `toml:"address"`
		TCP     string `toml:"tcp_address"`
		UID     int    `toml:"uid"`
		CA      string `toml:"tcp_tls_ca"`
	} `toml:"grpc"`
	Metrics struct {
		Address   string `toml:"address"`
		Histogram bool   `toml:"grpc_histogram"`
	} `toml:"metrics"`
}

func reader(log *bytes.Buffer, m ...config.Migration) config.Reader {
	return config.Reader{Schema: func() any { return new(schema) }, Migrations: m, Log: slog.New(slog.NewTextHandler(log, nil))}
}

// files writes texts into a directory and returns it.
func files(t *testing.T, texts map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range texts {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// load reads main.toml among the texts.
func load(t *testing.T, texts map[string]string, m ...config.Migration) (config.Tree, string, error) {
	t.Helper()
	var log bytes.Buffer
	tree, err := reader(&log, m...).Load(t.Context(), filepath.Join(files(t, texts), "main.toml"))
	return tree, log.String(), err
}

// is compares a tree with the text of one.
func is(t *testing.T, got config.Tree, want string) {
	t.Helper()
	w := config.Tree{}
	if err := toml.Unmarshal([]byte(want), &w); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, w) {
		t.Errorf("got %v\nnot %v", got, w)
	}
}

func TestMerge(t *testing.T) {
	got, _, err := load(t, map[string]string{
		"main.toml": `version = 2
root = "/old"
oom_score = 1
imports = ["more.toml"]
disabled_plugins = ["a.b"]
timeouts = { a = "1s", b = "1s" }
[grpc]
address = "/old.sock"
uid = 4
[proxy_plugins.p]
type = "snapshot"
exports = { x = "1" }
[plugins."x.y".deep]
one = 1
list = ["a"]
on = true`,
		"more.toml": `version = 2
root = "/new"
oom_score = 0
disabled_plugins = ["a.b", "c.d"]
timeouts = { b = "2s" }
[grpc]
address = ""
uid = 5
[proxy_plugins.p]
type = "content"
[plugins."x.y".deep]
list = ["b"]
on = false
two = 2`,
	})
	if err != nil {
		t.Fatal(err)
	}
	is(t, got, `version = 3
root = "/new"
oom_score = 1
imports = ["more.toml"]
disabled_plugins = ["a.b", "c.d"]
timeouts = { a = "1s", b = "2s" }
grpc = { address = "/old.sock", uid = 5 }
proxy_plugins = { p = { type = "content" } }
plugins = { "x.y" = { deep = { one = 1, two = 2, list = ["b"], on = false } } }`)
}

// TestImports has a circle, patterns, names relative to their file, and a later file
// of another version.
func TestImports(t *testing.T) {
	got, _, err := load(t, map[string]string{
		"main.toml":      `version = 3` + "\n" + `imports = ["d/*.toml", "none/*.toml", "./main.toml"]`,
		"d/1.toml":       `version = 2` + "\n" + `root = "/one"` + "\n" + `imports = ["deep/x.toml", "../main.toml"]`,
		"d/2.toml":       `root = "/two"` + "\n" + `disabled_plugins = ["restart"]`,
		"d/deep/x.toml":  `root = "/deep"` + "\n" + `imports = ["../1.toml"]`,
		"d/not-me.tomli": `root = "/wrong"`,
	})
	if err != nil {
		t.Fatal(err)
	}
	if got["root"] != "/deep" || !reflect.DeepEqual(got["disabled_plugins"], []any{"io.containerd.internal.v1.restart"}) {
		t.Errorf("got %v", got)
	}
}

func TestImportThatIsNotThere(t *testing.T) {
	_, _, err := load(t, map[string]string{"main.toml": `imports = ["nope.toml"]`})
	if !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "nope.toml") || !strings.Contains(err.Error(), "imported by") {
		t.Errorf("got %v", err)
	}
}

func TestVersion1(t *testing.T) {
	got, log, err := load(t, map[string]string{"main.toml": `
disabled_plugins = ["cri", "odd", "io.x.y"]
required_plugins = ["tasks-service"]
[plugins.overlayfs]
root_path = "/x"
[plugins.scheduler]
pause_threshold = 0.5`})
	if err != nil {
		t.Fatal(err)
	}
	is(t, got, `version = 3
disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.grpc.v1.odd", "io.x.y"]
required_plugins = ["io.containerd.service.v1.tasks-service"]
plugins = { "io.containerd.snapshotter.v1.overlayfs" = { root_path = "/x" }, "io.containerd.gc.v1.scheduler" = { pause_threshold = 0.5 } }`)
	if !strings.Contains(log, "plugin=odd") || strings.Contains(log, "plugin=cri") {
		t.Errorf("log %s", log)
	}
}

// TestMigrationsStepByStep asks each plugin once for each version below the latest.
func TestMigrationsStepByStep(t *testing.T) {
	for version, want := range map[string][]int{"": {1, 2}, "version = 1": {1, 2}, "version = 2": {2}, "version = 3": nil, "version = 4": nil} {
		var seen []int
		move := func(_ context.Context, from int, plugins map[string]any) error {
			seen = append(seen, from)
			if v, ok := plugins["a.b"]; ok {
				delete(plugins, "a.b")
				plugins["c.d"] = v
			}
			return nil
		}
		got, _, err := load(t, map[string]string{"main.toml": version + "\n[plugins.\"a.b\"]\nx = 1"}, move)
		if err != nil || !reflect.DeepEqual(seen, want) {
			t.Errorf("%s: asked for %v, %v", version, seen, err)
		}
		if _, moved := got["plugins"].(config.Tree)["c.d"]; moved != (len(want) > 0) {
			t.Errorf("%s: got %v", version, got)
		}
	}
}

func TestVersion4(t *testing.T) {
	got, _, err := load(t, map[string]string{"main.toml": `version = 4
[plugins."io.containerd.server.v1.grpc"]
address = "/x.sock"
uid = 3
[plugins."io.containerd.server.v1.grpc-tcp"]
address = "127.0.0.1:1"
tls_ca = "/ca"
[plugins."io.containerd.server.v1.metrics"]
address = "127.0.0.1:2"
[plugins."io.containerd.metrics.v1.grpc-prometheus"]
grpc_histogram = true
[plugins."x.y"]
z = 1`})
	if err != nil {
		t.Fatal(err)
	}
	is(t, got, `version = 3
grpc = { address = "/x.sock", uid = 3, tcp_address = "127.0.0.1:1", tcp_tls_ca = "/ca" }
metrics = { address = "127.0.0.1:2", grpc_histogram = true }
plugins = { "x.y" = { z = 1 } }`)
}

// TestErrorsNameThePlace goes through what can be wrong with a file.
func TestErrorsNameThePlace(t *testing.T) {
	for name, tc := range map[string]struct{ text, want string }{
		"not toml":          {"root = \"/x\"\n}{", "main.toml: line 2, column 1"},
		"cut off":           {"version = 2\n[grpc]\naddress = \"/x", "main.toml: line 3, column 13"},
		"wrong type":        {"version = 2\nroot = 7", "main.toml: line 2, column 8"},
		"beside a stranger": {"version = 2\nstranger = 1\nroot = 7", "main.toml: line 3, column 8"},
		"too new":           {"version = 9", "main.toml: version 9 is unknown"},
		"negative":          {"version = -1", "version -1 is unknown"},
		"twice":             {"root = \"/x\"\nroot = \"/y\"", "main.toml: line 2"},
		"binary":            {"\x00\x01\xff", "main.toml: "},
	} {
		if _, _, err := load(t, map[string]string{"main.toml": tc.text}); !errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	big := "root = \"" + strings.Repeat("x", 5<<20) + "\""
	if _, _, err := load(t, map[string]string{"main.toml": big}); !errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), "larger than") {
		t.Errorf("too large: %v", err)
	}
}

func TestUnknownKeyIsTold(t *testing.T) {
	got, log, err := load(t, map[string]string{"main.toml": "version = 2\n[grpc]\nadress = \"/x\""})
	if err != nil || got["version"] != int64(3) {
		t.Errorf("got %v, %v", got, err)
	}
	for _, want := range []string{"level=WARN", "main.toml", "row=3", "column=1", "key=grpc.adress"} {
		if !strings.Contains(log, want) {
			t.Errorf("no %s in %s", want, log)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte("version = 2\n[plugins.a]\nx = 1\n[grpc]\naddress = '/x'"))
	f.Add([]byte("version = 4\n[plugins.'io.containerd.server.v1.grpc']\naddress = 3"))
	f.Fuzz(func(_ *testing.T, text []byte) {
		var log bytes.Buffer
		_, _ = reader(&log).Parse(context.Background(), "fuzz", text)
	})
}
