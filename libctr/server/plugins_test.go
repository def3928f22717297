package server_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/containerd/plugin"

	"gantry/internal/testutil/need"
	"gantry/libctr/server"
)

// TestRegistrations: what every core has is whole, and can be put in an order in which
// each plugin comes after all of the types that it requires.
func TestRegistrations(t *testing.T) {
	var registry plugin.Registry
	var uris []string
	types := map[plugin.Type]bool{}
	for _, r := range server.Registrations() {
		if r.InitFn == nil {
			t.Errorf("%s has nothing to initialise", r.URI())
		}
		registry = registry.Register(r) // panics when there are two of a URI
		uris = append(uris, r.URI())
		types[r.Type] = true
	}
	for _, uri := range server.Essential() {
		if !slices.Contains(uris, uri) {
			t.Errorf("%s is essential and not there", uri)
		}
	}
	left := map[plugin.Type]int{}
	for _, r := range server.Registrations() {
		left[r.Type]++
	}
	for _, r := range registry.Graph(func(*plugin.Registration) bool { return false }) {
		left[r.Type]--
		for _, needed := range r.Requires {
			if needed == "*" || needed == r.Type {
				continue
			}
			if !types[needed] {
				t.Errorf("%s requires %s, of which there is none", r.URI(), needed)
			}
			if left[needed] > 0 {
				t.Errorf("%s comes before %d plugins of %s", r.URI(), left[needed], needed)
			}
		}
	}
}

// TestFailedPlugin: one that fails is listed with its error, and what can do without it
// works.
func TestFailedPlugin(t *testing.T) {
	need.Root(t, "makes a core")
	cfg := newConfig(t)
	file := filepath.Join(filepath.Dir(cfg.Root), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	cfg.RequiredPlugins = nil
	cfg.DisabledPlugins = []string{"io.containerd.grpc.v1.version"}
	cfg.Plugins = map[string]any{"io.containerd.snapshotter.v1.overlayfs": map[string]any{"root_path": filepath.Join(file, "below")}}
	c := start(t, cfg)
	plugins, err := c.client.Introspection().Plugins(t.Context(), "type==io.containerd.snapshotter.v1")
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range plugins {
		if failed := p.GetInitErr() != nil; failed != (p.GetID() == "overlayfs") {
			t.Errorf("%s: %v", p.GetID(), p.GetInitErr())
		}
		if text := p.GetInitErr().GetMessage(); p.GetID() == "overlayfs" && !strings.Contains(text, "not a directory") {
			t.Errorf("its error: %s", text)
		}
	}
	if _, err := c.client.Snapshotter("native").Prepare(t.Context(), "k", "", nil); err != nil {
		t.Errorf("the other snapshotter: %v", err)
	}
	if _, _, err := c.client.Introspection().Version(t.Context()); err == nil {
		t.Error("a disabled plugin answers")
	}
}

// TestBrokenPluginSettings end the start: a core that runs without them would not be
// the one that was asked for.
func TestBrokenPluginSettings(t *testing.T) {
	cfg := newConfig(t)
	cfg.Plugins = map[string]any{"io.containerd.snapshotter.v1.overlayfs": map[string]any{"mount_options": 3}}
	_, err := server.New(t.Context(), cfg)
	if err == nil || !strings.Contains(err.Error(), "overlayfs") || !strings.Contains(err.Error(), "mount_options") {
		t.Errorf("got %v", err)
	}
}

// TestShimSettings: core scheduling of version 2 has become the shims' environment.
func TestShimSettings(t *testing.T) {
	path := writeFile(t, filepath.Join(t.TempDir(), "config.toml"), `version = 2
[plugins."io.containerd.runtime.v2.task"]
sched_core = true
`)
	cfg, err := server.Load(t.Context(), path, nil)
	if err != nil {
		t.Fatal(err)
	}
	table, _ := cfg.Plugins["io.containerd.shim.v1.manager"].(map[string]any)
	if env, _ := table["env"].([]any); len(env) != 1 || env[0] != "SCHED_CORE=1" {
		t.Errorf("got %v", cfg.Plugins)
	}
	writeFile(t, path, strings.ReplaceAll("version = 2\n[plugins.'io.containerd.runtime.v2.task']\nsched_core = 'x'\n", "'", `"`))
	if _, err := server.Load(t.Context(), path, nil); err == nil || !strings.Contains(err.Error(), "sched_core") {
		t.Errorf("got %v", err)
	}
	for _, bad := range []map[string]any{{"socket_dir": "relative"}, {"socket_dir": "/" + strings.Repeat("x", 90)}, {"env": []string{"NOTHING"}}} {
		cfg := newConfig(t)
		cfg.Plugins = map[string]any{"io.containerd.shim.v1.manager": bad}
		if _, err := server.New(t.Context(), cfg); err == nil { // what requires it is essential
			t.Errorf("%v is taken", bad)
		}
	}
}

// TestRefusedSettings: what is asked for and not there is said, by the plugin.
func TestRefusedSettings(t *testing.T) {
	need.Root(t, "makes a core")
	for uri, table := range map[string]map[string]any{
		"io.containerd.service.v1.tasks-service": {"rdt_config_file": "/x"},
		"io.containerd.snapshotter.v1.overlayfs": {"slow_chown": true},
	} {
		cfg := newConfig(t)
		cfg.RequiredPlugins = []string{uri}
		cfg.Plugins = map[string]any{uri: table}
		if _, err := server.New(t.Context(), cfg); err == nil || !strings.Contains(err.Error(), "not supported") {
			t.Errorf("%s: %v", uri, err)
		}
	}
}

func TestSecondCore(t *testing.T) {
	need.Root(t, "makes a core")
	cfg := newConfig(t)
	first := start(t, cfg)
	cfg.Timeouts = map[string]string{"io.containerd.timeout.bolt.open": "100ms"}
	cfg.State += "2"
	if _, err := server.New(t.Context(), cfg); err == nil || !strings.Contains(err.Error(), cfg.Root+" is in use by another core") {
		t.Errorf("second core: %v", err)
	}
	first.stop(t)
	s, err := server.New(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Stop(t.Context()); err != nil {
		t.Error(err)
	}
}
