package integrationcli

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"gantry/internal/testutil/need"
)

// TestRuntimes runs containers under the names that a runtime may have.
func TestRuntimes(t *testing.T) {
	runc := need.Command(t, "runc")
	need.Command(t, "containerd-shim-runc-v2")
	dir := t.TempDir()
	config, own, mark := filepath.Join(dir, "daemon.json"), filepath.Join(dir, "own"), filepath.Join(dir, "mark")
	if err := os.WriteFile(own, []byte("#!/bin/sh\n: > "+mark+"\nexec "+runc+" \"$@\"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(config, []byte(`{"runtimes":{
		"small":{"path":"`+runc+`"},
		"shim":{"runtimeType":"io.containerd.runc.v2","options":{"BinaryName":"`+own+`"}}}}`), 0o644); err != nil {
		t.Fatal(err)
	}
	e := start(t, "--config-file", config)
	for _, tc := range []struct {
		runtime string
		code    int
		out     string
		err     string
	}{
		{runtime: "gantry", out: "ran"}, {runtime: "runc", out: "ran"}, {runtime: "io.containerd.gantry.v2", out: "ran"},
		{runtime: "io.containerd.runc.v2", out: "ran"}, {runtime: "small", out: "ran"}, {runtime: "shim", out: "ran"},
		{runtime: "kata", code: 125, err: "unknown or invalid runtime name: kata"},
		{runtime: runc, code: 125, err: "unknown or invalid runtime name: " + runc},
		{runtime: "../x.v1", code: 125, err: "unknown or invalid runtime name: ../x.v1"},
		{runtime: "io.containerd.nothing.v1", code: 125, err: "containerd-shim-nothing-v1"},
	} {
		got := e.Docker("run", "--rm", "--runtime", tc.runtime, image, "echo", "ran")
		if got.Code != tc.code || strings.TrimSpace(got.Stdout) != tc.out || !strings.Contains(got.Stderr, tc.err) {
			t.Errorf("%s: %+v", tc.runtime, got)
		}
	}
	if _, err := os.Stat(mark); err != nil {
		t.Errorf("the shim did not run the program of its options: %v", err)
	}
	if left := e.Must("ps", "-aq"); left != "" {
		t.Errorf("left: %s", left)
	}
	e.Clean(t)
}
