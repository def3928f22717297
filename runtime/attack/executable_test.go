package attack_test

import (
	"debug/elf"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"gantry/internal/testutil/exeattack"
)

// powers are what a container may have that is trusted not to be confined, but not to
// change the host's files.
var powers = append([]string{"CAP_SYS_PTRACE", "CAP_SYS_ADMIN", "CAP_DAC_READ_SEARCH", "CAP_LINUX_IMMUTABLE", "CAP_SYS_RAWIO"}, dockerCaps...)

// thief runs a container that keeps open the executable of whatever appears in it.
func (g *ground) thief() (*box, *lines) {
	g.t.Helper()
	b := g.box("thief", "intruder", "exes")
	b.spec.Process.Capabilities = capabilities(powers)
	b.spec.Process.Env = append(b.spec.Process.Env, "LD_PRELOAD=/lib/evil.so", "LD_LIBRARY_PATH=/lib")
	if err := os.WriteFile(b.rootfs()+"/script", []byte("#!/proc/self/exe\n"), 0o755); err != nil {
		g.t.Fatal(err)
	}
	out := b.start()
	if err := out.await("ready", 10*time.Second); err != nil {
		g.t.Fatal(err)
	}
	return b, out
}

// held waits for a stolen executable, while lure lets one appear, and opens it as the
// thief has it.
func (b *box) held(out *lines, lure func()) (number int, inode uint64, exe *os.File) {
	b.t.Helper()
	for end := time.Now().Add(30 * time.Second); len(out.with("held")) == 0; lure() {
		if time.Now().After(end) {
			b.t.Fatal("no executable was stolen")
		}
	}
	fmt.Sscanf(out.with("held")[0], "held %d %d", &number, &inode)
	fd, err := unix.Open(fmt.Sprintf("/proc/%d/fd/%d", b.pid(), number), unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		b.t.Fatal(err)
	}
	exe = os.NewFile(uintptr(fd), "exe")
	b.t.Cleanup(func() { exe.Close() })
	return number, inode, exe
}

// tryInside says by what ways the container can change the file that it holds, when no
// grun is left that executes it.
func (b *box) tryInside(number int) string {
	b.t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		b.t.Fatal(err)
	}
	defer r.Close()
	cmd := b.command("exec", "--detach", "--cap", "CAP_SYS_ADMIN", b.id, "intruder", "write", fmt.Sprintf("/proc/1/fd/%d", number))
	cmd.Stdout, cmd.Stderr = w, w
	err = cmd.Run()
	w.Close()
	out, _ := io.ReadAll(r)
	if err != nil {
		b.t.Fatalf("%v: %s", err, out)
	}
	return strings.TrimSpace(string(out))
}

// TestExecutable is CVE-2019-5736: a container opened the runtime's own program through
// /proc/<pid>/exe, by a script whose interpreter is /proc/self/exe or by a library of its
// own that the runtime loaded there, and wrote it once it was not executed any more.
func TestExecutable(t *testing.T) {
	lures := map[string]func(*testing.T, *ground, *box){
		"exec of itself":   func(_ *testing.T, _ *ground, b *box) { b.exec(b.id, "/proc/self/exe") },
		"exec of a script": func(_ *testing.T, _ *ground, b *box) { b.exec(b.id, "/script") },
		"run in the same pid namespace": func(t *testing.T, g *ground, b *box) {
			victim := g.box("victim", "/script")
			os.WriteFile(victim.rootfs()+"/script", []byte("#!/proc/self/exe\n"), 0o755)
			victim.spec.Linux.Namespaces[0] = specs.LinuxNamespace{Type: specs.PIDNamespace, Path: fmt.Sprintf("/proc/%d/ns/pid", b.pid())}
			victim.run()
		},
	}
	for name, lure := range lures {
		t.Run(name, func(t *testing.T) {
			g := newGround(t)
			b, out := g.thief()
			number, inode, exe := b.held(out, func() { lure(t, g, b) })
			var st unix.Stat_t
			if err := unix.Stat(b.grun, &st); err != nil || st.Ino != inode {
				t.Fatalf("stole inode %d, not grun's %d: %v", inode, st.Ino, err)
			}
			if ways := b.tryInside(number); ways != "null" {
				t.Errorf("inside: %s", ways)
			}
			if ways, err := exeattack.Writable(int(exe.Fd())); err != nil || len(ways) > 0 {
				t.Errorf("host's root: %q, %v", ways, err)
			}
		})
	}
}

// TestExecutableWorks: the thief can write a program that enters its container unprotected.
func TestExecutableWorks(t *testing.T) {
	g := newGround(t)
	b, out := g.thief()
	nsenter := g.dir + "/nsenter"
	copyFile(t, "/bin/busybox", nsenter)
	number, _, exe := b.held(out, func() {
		exec.Command(nsenter, "-t", itoa(b.pid()), "-m", "-p", "/script").Run()
	})
	if ways := b.tryInside(number); !strings.Contains(ways, "opened for writing") {
		t.Errorf("inside: %s", ways)
	}
	if ways, err := exeattack.Writable(int(exe.Fd())); err != nil || len(ways) == 0 {
		t.Errorf("host's root: %q, %v", ways, err)
	}
}

// TestNoLibraries: there is no library that a container could put in place of the runtime's.
func TestNoLibraries(t *testing.T) {
	f, err := elf.Open(program(t, "grun"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP || p.Type == elf.PT_DYNAMIC {
			t.Errorf("has a %v", p.Type)
		}
	}
}
