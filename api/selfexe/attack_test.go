package selfexe_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"gantry/api/selfexe"
	"gantry/internal/testutil/exeattack"
	"gantry/internal/testutil/need"
)

// copied is a program of the test's own, a copy of this one.
func copied(t *testing.T) string {
	t.Helper()
	b, err := os.ReadFile(selfexe.Self)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "prog")
	if err := os.WriteFile(path, b, 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

// waiting starts a program from an open file, which then waits, and returns a descriptor
// of /proc/<pid>/exe, as a container may get one, and what ends the process.
func waiting(t *testing.T, f *os.File) (pid int, exe *os.File, end func()) {
	t.Helper()
	cmd := exec.Command(fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), f.Fd()))
	cmd.Env = []string{"PLAY=wait"}
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	end = func() { in.Close(); cmd.Wait() }
	t.Cleanup(end)
	line := make([]byte, 64)
	n, _ := out.Read(line)
	if got := string(line[:n]); got != "true\n" {
		t.Fatalf("protected: %q", got)
	}
	fd, err := unix.Open(fmt.Sprintf("/proc/%d/exe", cmd.Process.Pid), unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	exe = os.NewFile(uintptr(fd), "exe")
	t.Cleanup(func() { exe.Close() })
	return cmd.Process.Pid, exe, end
}

// TestAttack: who holds a descriptor of the executable can't write it while the process
// that executes others from it keeps its own, whatever privileges he has.
func TestAttack(t *testing.T) {
	need.Root(t, "makes mounts")
	f, err := selfexe.Open(copied(t))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	_, exe, end := waiting(t, f)
	end()
	t.Run("host's root", func(t *testing.T) {
		ways, err := exeattack.Writable(int(exe.Fd()))
		if err != nil || len(ways) > 0 {
			t.Errorf("%q, %v", ways, err)
		}
	})
	t.Run("root of a user namespace", func(t *testing.T) {
		if got := attackFromUserNamespace(t, exe); got != "null\n" {
			t.Errorf("%s", got)
		}
	})
}

func attackFromUserNamespace(t *testing.T, exe *os.File) string {
	t.Helper()
	ids := []syscall.SysProcIDMap{{ContainerID: 0, HostID: 0, Size: 65536}} // the file is its root's
	cmd := exec.Command(selfexe.Self)
	cmd.Env = []string{"PLAY=attack"}
	cmd.ExtraFiles = []*os.File{exe}
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS, UidMappings: ids, GidMappings: ids}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s, %v", out, err)
	}
	return string(out)
}

// TestAttackWorks: the attack succeeds on a mount of an anonymous namespace.
func TestAttackWorks(t *testing.T) {
	need.Root(t, "makes mounts")
	fd, err := unix.OpenTree(unix.AT_FDCWD, copied(t), unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	detached := os.NewFile(uintptr(fd), "detached")
	defer detached.Close()
	readOnly := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY | unix.MOUNT_ATTR_NOSUID}
	if err := unix.MountSetattr(fd, "", unix.AT_EMPTY_PATH, &readOnly); err != nil {
		t.Fatal(err)
	}
	if got := attackFromUserNamespace(t, detached); !strings.Contains(got, "mount_setattr") {
		t.Errorf("%s", got)
	}
	cmd := exec.Command(fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), fd), "word")
	cmd.Env = []string{"PLAY=protected"}
	if out, err := cmd.CombinedOutput(); err != nil || string(out) != "false\n" {
		t.Errorf("counts as protected: %s, %v", out, err)
	}
}

// TestAttached: a read-only mount that its own namespace may change does not protect.
func TestAttached(t *testing.T) {
	need.Root(t, "makes mounts")
	cmd := exec.Command("sh", "-ec", `mount --bind "$0" "$0"; mount -o remount,bind,ro,nosuid "$0"; exec "$0"`, copied(t))
	cmd.Env = append(os.Environ(), "PLAY=protected")
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
	if out, err := cmd.CombinedOutput(); err != nil || string(out) != "false\n" {
		t.Errorf("counts as protected: %s, %v", out, err)
	}
}

// TestBusy: nobody writes the program's file while a process executes it, nor through
// the host's path, lest a new version copied over it change what runs.
func TestBusy(t *testing.T) {
	need.Root(t, "makes mounts")
	path := copied(t)
	f, err := selfexe.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	waiting(t, f)
	if w, err := os.OpenFile(path, os.O_WRONLY, 0); err == nil {
		w.Close()
		t.Error("opened for writing")
	}
}

// TestSharedPages: those who run from one file, or from files opened one after the
// other, have their text in common.
func TestSharedPages(t *testing.T) {
	need.Root(t, "makes mounts")
	path := copied(t)
	var first string
	for range 2 {
		f, err := selfexe.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		for range 5 {
			pid, _, _ := waiting(t, f)
			shared, private := text(t, pid)
			if first == "" { // it has nobody to share with yet
				first = shared
				continue
			}
			if private != "0" {
				t.Errorf("%s KiB of text are its own, %s shared", private, shared)
			}
		}
	}
}

// text says how much of a process's executable pages of its program it shares with
// others and has for itself, in KiB.
func text(t *testing.T, pid int) (shared, private string) {
	t.Helper()
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps", pid))
	if err != nil {
		t.Fatal(err)
	}
	ours := false
	for line := range bytes.Lines(raw) {
		w := strings.Fields(string(line))
		if !strings.HasSuffix(w[0], ":") {
			ours = len(w) > 5 && strings.HasPrefix(w[1], "r-x") && strings.HasSuffix(w[5], "prog")
		}
		switch {
		case ours && w[0] == "Shared_Clean:":
			shared = w[1]
		case ours && w[0] == "Private_Clean:":
			private = w[1]
		}
	}
	return shared, private
}

// attack plays the attacker: descriptor 3 is the executable.
func attack() error {
	ways, err := exeattack.Writable(3)
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(ways)
}
