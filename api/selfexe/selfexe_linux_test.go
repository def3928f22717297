package selfexe_test

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"

	"gantry/api/selfexe"
)

// TestMain plays the program when asked to.
func TestMain(m *testing.M) {
	switch os.Getenv("PLAY") {
	case "":
		os.Exit(m.Run())
	case "protected":
		fmt.Println(selfexe.Protected())
		os.Exit(0)
	case "wait":
		fmt.Println(selfexe.Protected())
		io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	case "attack":
		if err := attack(); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	if err := selfexe.Ensure(strings.Fields(os.Getenv("SETTINGS"))...); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	if os.Getenv("PLAY") == "procs" {
		fmt.Println(runtime.GOMAXPROCS(0), len(os.Environ()))
		os.Exit(0)
	}
	_, err := os.OpenFile("/proc/self/exe", os.O_WRONLY, 0)
	fmt.Println(selfexe.Protected(), os.Args[1], os.Getenv("PLAY"), len(os.Environ()), err)
	os.Exit(0)
}

func TestEnsure(t *testing.T) {
	if selfexe.Protected() {
		t.Error("the test binary counts as protected")
	}
	cmd := exec.Command("/proc/self/exe", "word")
	cmd.Env = []string{"PLAY=yes"}
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.HasPrefix(string(out), "true word yes 1 open /proc/self/exe: ") {
		t.Errorf("%s, %v", out, err)
	}
}

// TestSettings: they hold for the second run's Go runtime, where the user has none of his
// own, and programs that it executes do not get them.
func TestSettings(t *testing.T) {
	for _, c := range []struct{ env, procs string }{
		{"OTHER=1", "1"},
		{"GOMAXPROCS=3", "3"},
	} {
		cmd := exec.Command("/proc/self/exe", "word")
		cmd.Env = []string{"PLAY=procs", "SETTINGS=GOMAXPROCS=1 GOGC=off", c.env}
		out, err := cmd.CombinedOutput()
		if want := fmt.Sprintf("%s 3\n", c.procs); err != nil || string(out) != want {
			t.Errorf("with %s: %q instead of %q, %v", c.env, out, want, err)
		}
	}
}

// TestForgedMarker: the marker alone does not pass for protection.
func TestForgedMarker(t *testing.T) {
	cmd := exec.Command("/proc/self/exe", "word")
	cmd.Env = []string{"PLAY=yes", "_GANTRY_SELFEXE=1"}
	if out, err := cmd.CombinedOutput(); err == nil {
		t.Errorf("ran unprotected: %s", out)
	}
}

// TestWithoutMounts: a user who can't mount gets a sealed copy.
func TestWithoutMounts(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root: drops to another user")
	}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(exe)
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "selfexe")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	os.Chmod(dir, 0o755)
	if err := os.WriteFile(dir+"/prog", b, 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(dir+"/prog", "word")
	cmd.Env = []string{"PLAY=yes"}
	cmd.SysProcAttr = nobody()
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.HasPrefix(string(out), "true word yes 1 ") {
		t.Errorf("%s, %v", out, err)
	}
}
