package core

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestArgs(t *testing.T) {
	for line, want := range map[string]string{
		"gantryd core":                               "",
		"gantryd core -c x config dump":              "-c x config dump",
		"/usr/bin/containerd --config x":             "--config x",
		"gantryd --address /a publish --topic t":     "--address /a publish --topic t",
		"gantryd --address=/a publish --namespace n": "--address=/a publish --namespace n",
		"gantryd publish --topic t":                  "publish --topic t",
		"gantryd -H fd://":                           "no",
		"gantryd --data-root core":                   "no",
		"gantryd":                                    "no",
		"gantryd --address /a":                       "no",
	} {
		words := strings.Fields(line)
		args, ok := Args(words[0], words[1:])
		if got := strings.Join(args, " "); ok != (want != "no") || ok && got != want {
			t.Errorf("%s: %q, %v", line, got, ok)
		}
	}
}

func TestFlagsOverFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "core.toml")
	text := "version = 3\nroot = \"/file/root\"\n[grpc]\naddress = \"/file/sock\"\n[debug]\nlevel = \"warn\"\n"
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg, err := flags{file: path, fileGiven: true, state: "/flag/state", address: "/flag/sock"}.config(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if cfg.Root != "/file/root" || cfg.State != "/flag/state" || cfg.GRPC.Address != "/flag/sock" || cfg.Debug.Level != "warn" {
		t.Errorf("got %+v", cfg)
	}
	cfg, err = flags{file: path + ".not"}.config(t.Context(), nil)
	if err != nil || cfg.Root != defaultRoot || cfg.State != defaultState {
		t.Errorf("no file: %+v, %v", cfg, err)
	}
	if _, err := (flags{file: path + ".not", fileGiven: true}).config(t.Context(), nil); err == nil {
		t.Error("a file that was named and is not there is taken")
	}
	if _, err := (flags{file: path, level: "loud"}).config(t.Context(), nil); err == nil || !strings.Contains(err.Error(), `"loud"`) {
		t.Errorf("level: %v", err)
	}
	// A default file that imports what is not there is no missing file.
	if err := os.WriteFile(path, []byte("version = 3\nimports = [\"nope.toml\"]"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := (flags{file: path}).config(t.Context(), nil); err == nil || !strings.Contains(err.Error(), "nope.toml") {
		t.Errorf("import: %v", err)
	}
}

func TestMigrateLeavesTheRest(t *testing.T) {
	path := filepath.Join(t.TempDir(), "core.toml")
	if err := os.WriteFile(path, []byte("imports = [\"x.toml\"]\ndisabled_plugins = [\"native\"]\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := configCommand(t.Context(), flags{file: path}, []string{"migrate"}, &out); err != nil {
		t.Fatal(err)
	}
	want := "disabled_plugins = ['io.containerd.snapshotter.v1.native']\nimports = ['x.toml']\nversion = 3\n"
	if out.String() != want {
		t.Errorf("got %s", &out)
	}
	for _, args := range [][]string{nil, {"nope"}, {"dump", "more"}} {
		if err := configCommand(t.Context(), flags{file: path}, args, &out); err == nil {
			t.Errorf("%v: no error", args)
		}
	}
}

// hookVariable makes the test's binary a hook: its arguments are in the variable.
const hookVariable = "GANTRY_TEST_HOOK"

func TestMain(m *testing.M) {
	if text := os.Getenv(hookVariable); text != "" {
		var args []string
		if err := json.Unmarshal([]byte(text), &args); err != nil {
			panic(err)
		}
		os.Unsetenv(hookVariable)
		if err := Main(args); err != nil {
			os.Stderr.WriteString(err.Error())
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func TestHook(t *testing.T) {
	bundle := t.TempDir()
	write := func(text string) {
		if err := os.WriteFile(filepath.Join(bundle, "config.json"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(`{"root": {"path": "rootfs"}}`)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	run := func(state string, args ...string) (string, error) {
		data, _ := json.Marshal(append([]string{"oci-hook"}, args...))
		cmd := exec.Command(self)
		cmd.Env = append(os.Environ(), hookVariable+"="+string(data), `WHO={{id}}/{{annotation "a"}}`)
		cmd.Stdin = strings.NewReader(state)
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	state := `{"id": "c1", "pid": 42, "status": "creating", "bundle": "` + bundle + `", "annotations": {"a": "b"}}`
	for _, args := range [][]string{{"--"}, nil} {
		words := slices.Concat(args, []string{"/bin/sh", "-c", "echo $WHO $*", "sh", "{{id}}", "{{pid}}", "{{status}}", "{{rootfs}}", "--bundle={{bundle}}"})
		want := "c1/b c1 42 creating " + bundle + "/rootfs --bundle=" + bundle + "\n"
		if out, err := run(state, words...); err != nil || out != want {
			t.Errorf("%q, %v", out, err)
		}
	}
	write(`{"root": {"path": "/elsewhere"}}`)
	if out, err := run(state, "/bin/echo", "{{rootfs}}"); err != nil || out != "/elsewhere\n" {
		t.Errorf("%q, %v", out, err)
	}
	for want, f := range map[string]func() (string, error){
		"the program to run": func() (string, error) { return run(state) },
		"state":              func() (string, error) { return run("{", "/bin/echo") },
		"not defined":        func() (string, error) { return run(state, "/bin/echo", "{{nope}}") },
		"/no/such":           func() (string, error) { return run(state, "/no/such") },
		"config.json":        func() (string, error) { return run(`{"bundle": "/none"}`, "/bin/echo") },
	} {
		if out, err := f(); err == nil || !strings.Contains(out, want) {
			t.Errorf("%s: %q, %v", want, out, err)
		}
	}
}
