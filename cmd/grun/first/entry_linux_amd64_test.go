package first_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"gantry/internal/testutil/need"
)

// TestEntry: with the linker told of the entry there is one Go runtime, not two, and it is
// the Go runtime that decides where the environment is unusual.
func TestEntry(t *testing.T) {
	need.Root(t, "makes mounts")
	grun := filepath.Join(t.TempDir(), "grun")
	build := exec.Command("go", "build", "-ldflags", "-E gantry/cmd/grun/first.entry", "-o", grun, "gantry/cmd/grun")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	const none = "specification file /none/config.json not found"
	for _, c := range []struct {
		name     string
		env      []string
		args     []string
		runtimes int // that came up
		want     string
	}{
		{"run", nil, []string{"run", "-b", "/none", "x"}, 1, none},
		{"create", nil, []string{"--debug", "create", "-b", "/none", "x"}, 1, none},
		{"exec", nil, []string{"exec", "none", "true"}, 1, "container does not exist"},
		{"state", nil, []string{"state", "none"}, 1, "container does not exist"},
		{"no command", nil, nil, 1, ""},
		{"empty word", nil, []string{""}, 1, ""},
		{"many variables", many(2000), []string{"run", "-b", "/none", "x"}, 1, none},
		{"own setting", []string{"GOGC=50"}, []string{"run", "-b", "/none", "x"}, 2, none},
		{"own setting", []string{"GOMAXPROCS=2"}, []string{"run", "-b", "/none", "x"}, 2, none},
		{"forged marker", []string{"_GANTRY_SELFEXE=1"}, []string{"run", "-b", "/none", "x"}, 1, "still unprotected"},
	} {
		t.Run(c.name, func(t *testing.T) {
			cmd := exec.Command(grun, c.args...)
			cmd.Env = append([]string{"GODEBUG=inittrace=1", "PATH=/usr/bin:/bin"}, c.env...)
			out, _ := cmd.CombinedOutput()
			if n := strings.Count(string(out), "init runtime "); n != c.runtimes || !strings.Contains(string(out), c.want) {
				t.Errorf("%d runtimes came up: %s", n, out)
			}
		})
	}
}

func many(n int) (env []string) {
	for i := range n {
		env = append(env, fmt.Sprintf("V%d=", i))
	}
	return env
}
