// Package need skips tests that the machine cannot run, with the reason.
package need

import (
	"os"
	"os/exec"
	"path/filepath"
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

// Client returns the path of a client or peer that contrib/tools pins: ctr, containerd and
// containerd-shim-runc-v2 of containerd 2.x, nerdctl, buildkitd, buildctl, coreclient.
func Client(t testing.TB, name string) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for ; dir != "/"; dir = filepath.Dir(dir) {
		p := filepath.Join(dir, ".build/clients", name)
		if _, err := os.Stat(p); err == nil {
			return p
		}
	}
	t.Skipf("needs the pinned %s (make clients builds it)", name)
	return ""
}
