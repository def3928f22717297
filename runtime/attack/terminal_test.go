package attack_test

import (
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/containerd/console"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// onTerminal runs a command as the leader of a session with a new terminal, which is its
// standard streams, and gives what comes out of it.
func onTerminal(t *testing.T, cmd *exec.Cmd) (string, error) {
	t.Helper()
	master, name, err := console.NewPty()
	if err != nil {
		t.Fatal(err)
	}
	defer master.Close()
	slave, err := os.OpenFile(name, os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = slave, slave, slave
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	err = cmd.Start()
	slave.Close()
	if err != nil {
		t.Fatal(err)
	}
	out, _ := io.ReadAll(master) // EIO at the end
	return string(out), cmd.Wait()
}

// TestTyping: a container that was given its caller's terminal, not one of its own, can't
// type there (TIOCSTI), so that the caller's shell would execute it afterwards.
func TestTyping(t *testing.T) {
	g := newGround(t)
	b := g.box("box", "intruder", "type", "evil")
	b.save()
	out, err := onTerminal(t, b.command("run", "--bundle", b.bundle, b.id))
	if err == nil || !strings.Contains(out, "TIOCSTI") || strings.Contains(out, "evil") {
		t.Errorf("run: %q, %v", out, err)
	}
	b.spec.Process.Args = []string{"sleep", "1000"}
	b.start()
	out, err = onTerminal(t, b.command("exec", b.id, "intruder", "type", "evil"))
	if err == nil || !strings.Contains(out, "TIOCSTI") || strings.Contains(out, "evil") {
		t.Errorf("exec: %q, %v", out, err)
	}
}

// TestTypingWorks: a process that keeps its terminal can.
func TestTypingWorks(t *testing.T) {
	out, err := onTerminal(t, exec.Command(program(t, "intruder"), "type", "evil"))
	if err != nil || !strings.Contains(out, "typed") {
		t.Errorf("%q, %v", out, err)
	}
}

// TestConsole is CVE-2025-52565: the terminal that was bound on /dev/console was looked up
// by its name in the container, which had put a link to a file of procfs there, before
// masks and read-only paths. A link for /dev/console itself leads nowhere but inside.
func TestConsole(t *testing.T) {
	for name, change := range map[string]func(b *box){
		"link to the host": func(b *box) { os.Symlink(b.dir+"/canary", b.rootfs()+"/dev/console") },
		"link upwards":     func(b *box) { os.Symlink("../../../../../../.."+b.dir+"/canary", b.rootfs()+"/dev/console") },
		"links for terminals": func(b *box) {
			os.Mkdir(b.rootfs()+"/dev/pts", 0o755)
			for _, n := range []string{"0", "1", "2"} {
				os.Symlink("/proc/sysrq-trigger", b.rootfs()+"/dev/pts/"+n)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			g := newGround(t)
			b := g.box("box", "sh", "-c", "stat -L -c terminal=%t /dev/console; stat -c input=%t /proc/self/fd/0 >/dev/null; tty")
			os.WriteFile(g.dir+"/canary", []byte("canary"), 0o600)
			b.spec.Process.Terminal = true
			var mounts []specs.Mount
			for _, m := range b.spec.Mounts { // the image's own /dev
				if m.Destination != "/dev" && m.Destination != "/dev/shm" {
					mounts = append(mounts, m)
				}
			}
			b.spec.Mounts = mounts
			change(b)
			before := takeInventory(t, g.dir+"/canary")
			b.save()
			out, err := onTerminal(t, b.command("run", "--bundle", b.bundle, b.id))
			if err != nil || !strings.Contains(out, "terminal=88") || !strings.Contains(out, "/dev/pts/0") {
				t.Errorf("%q, %v", out, err)
			}
			if diff := before.differences(takeInventory(t, g.dir+"/canary")); len(diff) > 0 {
				t.Errorf("%q", diff)
			}
		})
	}
}
