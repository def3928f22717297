package server_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"gantry/api/errdefs"
	"gantry/libctr/server"
)

const sample = `
version = 2
root = "/var/lib/x"
state = "/run/x"
disabled_plugins = ["io.containerd.snapshotter.v1.native"]
required_plugins = ["io.containerd.grpc.v1.tasks"]
oom_score = 0
[grpc]
  address = "/run/x/x.sock"
  uid = 0
  gid = 7
[ttrpc]
  address = "/run/x/t.sock"
[debug]
  address = "/run/x/debug.sock"
  level = "debug"
[metrics]
  address = "127.0.0.1:1338"
[proxy_plugins]
  [proxy_plugins.stargz]
    type = "snapshot"
    address = "/run/stargz.sock"
[plugins]
  [plugins."io.containerd.snapshotter.v1.overlayfs"]
    root_path = "/srv/snapshots"
    mount_options = ["volatile"]
`

func TestLoad(t *testing.T) {
	path := filepath.Join(t.TempDir(), "config.toml")
	if err := os.WriteFile(path, []byte(sample), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg, err := server.Load(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := cfg.Validate(); err != nil {
		t.Error(err)
	}
	if cfg.Root != "/var/lib/x" || cfg.GRPC.GID != 7 || cfg.ProxyPlugins["stargz"].Type != "snapshot" ||
		cfg.Metrics.Address != "127.0.0.1:1338" || len(cfg.Plugins) != 1 {
		t.Errorf("got %+v", cfg)
	}
	if cfg, err := server.Load(path + ".nope"); err != nil || cfg.Root != "" {
		t.Errorf("no file: %+v, %v", cfg, err)
	}
}

func TestParseRefuses(t *testing.T) {
	for name, tc := range map[string]struct{ text, want string }{
		"unknown key":     {"version = 2\n[grpc]\nadress = \"/x\"", "grpc.adress (line 3)"},
		"no version":      {"root = \"/x\"", "version 1"},
		"wrong type":      {"version = \"two\"", "cannot decode"},
		"not toml at all": {"}{", "configuration"},
	} {
		if _, err := server.Parse([]byte(tc.text)); !errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestValidateReportsAll(t *testing.T) {
	err := server.Config{Version: 9, Root: "x", State: "/run/x", PluginDir: "/p", Imports: []string{"/i"},
		GRPC:         server.GRPCConfig{Address: "relative", TCPAddress: ":1"},
		ProxyPlugins: map[string]server.ProxyPlugin{"p": {}}}.Validate()
	if !errdefs.IsInvalidArgument(err) {
		t.Fatal(err)
	}
	for _, want := range []string{"version 9", `root "x"`, "plugin_dir", "imports", "grpc.address", "grpc.tcp_address", "proxy_plugins.p"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("no %q in %v", want, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(sample))
	f.Fuzz(func(_ *testing.T, text []byte) {
		if cfg, err := server.Parse(text); err == nil {
			_ = cfg.Validate()
		}
	})
}
