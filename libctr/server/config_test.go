package server_test

import (
	"bytes"
	"log/slog"
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

func writeFile(t *testing.T, path, text string) string {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// logOf is a log and what has been written to it.
func logOf() (*slog.Logger, *bytes.Buffer) {
	var b bytes.Buffer
	return slog.New(slog.NewTextHandler(&b, nil)), &b
}

func TestLoad(t *testing.T) {
	log, said := logOf()
	cfg, err := server.Load(t.Context(), writeFile(t, filepath.Join(t.TempDir(), "config.toml"), sample), log)
	if err != nil {
		t.Fatal(err)
	}
	if err := cfg.Validate(); err != nil {
		t.Error(err)
	}
	if cfg.Root != "/var/lib/x" || cfg.GRPC.GID != 7 || cfg.ProxyPlugins["stargz"].Type != "snapshot" ||
		cfg.Metrics.Address != "127.0.0.1:1338" || len(cfg.Plugins) != 1 || cfg.Version != 3 {
		t.Errorf("got %+v", cfg)
	}
	if strings.Contains(said.String(), "WARN") {
		t.Errorf("said %s", said)
	}
}

func TestLoadMovesPluginSettings(t *testing.T) {
	cfg, err := server.Load(t.Context(), writeFile(t, filepath.Join(t.TempDir(), "old.toml"), `
disabled_plugins = ["native"]
[plugins.overlayfs]
  root_path = "/srv/snapshots"
`), nil)
	if err != nil {
		t.Fatal(err)
	}
	table, _ := cfg.Plugins["io.containerd.snapshotter.v1.overlayfs"].(map[string]any)
	if cfg.DisabledPlugins[0] != "io.containerd.snapshotter.v1.native" || table["root_path"] != "/srv/snapshots" {
		t.Errorf("got %+v", cfg)
	}
}

// TestWriteIsRead reads what was written: nothing is lost, and no key is unknown.
func TestWriteIsRead(t *testing.T) {
	path := writeFile(t, filepath.Join(t.TempDir(), "config.toml"), sample+"[timeouts]\n\"io.containerd.timeout.task.state\" = \"7s\"\n")
	cfg, err := server.Load(t.Context(), path, nil)
	if err != nil {
		t.Fatal(err)
	}
	var text bytes.Buffer
	if err := cfg.Write(t.Context(), &text); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"version = 3", "root = '/var/lib/x'", "address = '/run/x/x.sock'", "root_path = '/srv/snapshots'",
		"mount_options = ['volatile']", `'io.containerd.timeout.task.state' = '7s'`, `'io.containerd.timeout.shim.load' = '2s'`} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("no %s in\n%s", want, &text)
		}
	}
	log, said := logOf()
	again, err := server.Load(t.Context(), writeFile(t, path, text.String()), log)
	if err != nil || strings.Contains(said.String(), "WARN") || again.GRPC.Address != cfg.GRPC.Address || again.GRPC.GID != 7 {
		t.Errorf("read again: %+v, %v\n%s", again, err, said)
	}
	var twice bytes.Buffer
	if err := again.Write(t.Context(), &twice); err != nil || twice.String() != text.String() {
		t.Errorf("%v, written again:\n%s\nfirst:\n%s", err, &twice, &text)
	}
}

func TestValidateReportsAll(t *testing.T) {
	err := server.Config{Version: 9, Root: "x", State: "/run/x", PluginDir: "/p", TempDir: "t",
		DisabledPlugins: []string{"cri"},
		GRPC:            server.GRPCConfig{Address: "relative", TCPAddress: ":1", MaxRecvMessage: -1, TCPTLSName: "n"},
		Timeouts:        map[string]string{"io.containerd.timeout.task.state": "soon", "b": "-1s"},
		ProxyPlugins:    map[string]server.ProxyPlugin{"p": {}}}.Validate()
	if !errdefs.IsInvalidArgument(err) {
		t.Fatal(err)
	}
	for _, want := range []string{"version 9", `root "x"`, "plugin_dir", `temp "t"`, `"cri"`, "grpc.address", "grpc.tcp_address",
		"message size", "tcp_tls_common_name", `"soon"`, "-1s is negative", "proxy_plugins.p"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("no %q in %v", want, err)
		}
	}
}
