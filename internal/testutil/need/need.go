// Package need skips tests that the machine cannot run, with the reason.
package need

import (
	"os"
	"os/exec"
	"testing"
)

// Root skips unless the test runs as root.
func Root(t testing.TB, why string) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: " + why)
	}
}

// Command returns the path of a program, looked for in PATH and the sbin directories.
func Command(t testing.TB, name string) string {
	t.Helper()
	if p, err := exec.LookPath(name); err == nil {
		return p
	}
	for _, dir := range []string{"/usr/sbin/", "/sbin/", "/usr/local/sbin/"} {
		if _, err := os.Stat(dir + name); err == nil {
			return dir + name
		}
	}
	t.Skipf("needs the program %s (Debian has it)", name)
	return ""
}
