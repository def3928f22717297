package integrationcli

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Attacks on the runtime, by the way of the whole engine; package runtime/attack has all.

// TestInheritable is CVE-2022-24769 and CVE-2022-29162: engine and exec left capabilities
// inheritable.
func TestInheritable(t *testing.T) {
	e := start(t)
	const show = "grep -E '^Cap(Inh|Amb)' /proc/self/status"
	const none = "CapInh:\t0000000000000000\nCapAmb:\t0000000000000000"
	for _, flags := range []string{"", "--user 1000", "--cap-add NET_ADMIN", "--privileged", "--cap-add ALL --user 1000"} {
		args := append(append([]string{"run", "--rm"}, strings.Fields(flags)...), image, "sh", "-c", show)
		if out := e.Must(args...); out != none {
			t.Errorf("run %s: %q", flags, out)
		}
	}
	e.Must("run", "-d", "--name", "box", image, "sleep", "1000")
	for _, flags := range []string{"", "--user 1000", "--privileged", "--privileged --user 1000"} {
		args := append(append([]string{"exec"}, strings.Fields(flags)...), "box", "sh", "-c", show)
		if out := e.Must(args...); out != none {
			t.Errorf("exec %s: %q", flags, out)
		}
	}
}

// TestNumericName is CVE-2016-3697: a user given by number was looked up as a name, and
// the image had one of that name who was root.
func TestNumericName(t *testing.T) {
	e := start(t)
	passwd := filepath.Join(t.TempDir(), "passwd")
	if err := os.WriteFile(passwd, []byte("root:x:0:0::/:/bin/sh\n4242:x:0:0::/:/bin/sh\nroot2:x:77:0::/:/bin/sh\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	e.Must("create", "--name", "numbers", "--user", "4242", image, "sh", "-c", "id -u; sleep 1000")
	e.Must("cp", passwd, "numbers:/etc/passwd")
	e.Must("start", "numbers")
	eventually(t, "it says who it is", func() bool { return e.Docker("logs", "numbers").Stdout != "" })
	if out := e.Must("logs", "numbers"); out != "4242" {
		t.Errorf("run: %q", out)
	}
	if out := e.Must("exec", "--user", "4242", "numbers", "id", "-u"); out != "4242" {
		t.Errorf("exec: %q", out)
	}
	if out := e.Must("exec", "--user", "root2", "numbers", "id", "-u"); out != "77" { // the file is the one that is read
		t.Errorf("by name: %q", out)
	}
}

// TestWorkingDirectoryOfHost is CVE-2024-21626: a working directory of /proc/self/fd/<n>
// was one of the host.
func TestWorkingDirectoryOfHost(t *testing.T) {
	e := start(t)
	const look = "ls -d var/lib/dpkg ../var/lib/dpkg ../../var/lib/dpkg ../../../../../../../var/lib/dpkg 2>/dev/null; echo looked"
	if _, err := os.Stat("/var/lib/dpkg"); err != nil {
		t.Skip("needs a host with /var/lib/dpkg, which the image does not have")
	}
	e.Must("run", "-d", "--name", "box", image, "sleep", "1000")
	for fd := 3; fd < scale(32, 10); fd += scale(1, 2) {
		dir := fmt.Sprintf("/proc/self/fd/%d", fd)
		for _, args := range [][]string{{"run", "--rm", "-w", dir, image}, {"exec", "-w", dir, "box"}} {
			if r := e.Docker(append(args, "sh", "-c", look)...); strings.Contains(r.Stdout, "dpkg") || r.Code == 0 && r.Stdout != "looked\n" {
				t.Errorf("%q: %+v", args, r)
			}
		}
	}
}

// TestSmallMemory: a container of 6 MiB, the least that the engine lets have one, starts
// every time, with the default seccomp profile; and so does what is executed in it.
func TestSmallMemory(t *testing.T) {
	e := start(t)
	rounds := scale(1000, 5)
	for i := range rounds {
		if r := e.Docker("run", "--rm", "-m", "6m", "--network", "none", image, "true"); r.Code != 0 {
			t.Fatalf("run %d of %d: %+v", i+1, rounds, r)
		}
	}
	e.Must("run", "-d", "--name", "small", "-m", "6m", image, "sleep", "10000")
	for i := range rounds {
		if r := e.Docker("exec", "small", "true"); r.Code != 0 {
			t.Fatalf("exec %d of %d: %+v", i+1, rounds, r)
		}
	}
}
