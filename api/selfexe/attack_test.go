package selfexe_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"gantry/api/selfexe"
	"gantry/internal/testutil/exeattack"
	"gantry/internal/testutil/need"
)

// noSleep keeps the race detector from waiting a second at the end of a process.
const noSleep = "GORACE=atexit_sleep_ms=0"

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
	if _, err := cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	end = func() { cmd.Process.Kill(); cmd.Wait() }
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
	cmd.Env = []string{"PLAY=attack", noSleep}
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
	cmd.Env = []string{"PLAY=protected", noSleep}
	if out, err := cmd.CombinedOutput(); err != nil || string(out) != "false\n" {
		t.Errorf("counts as protected: %s, %v", out, err)
	}
}

// TestAttached: a read-only mount that its own namespace may change does not protect.
func TestAttached(t *testing.T) {
	need.Root(t, "makes mounts")
	cmd := exec.Command("sh", "-ec", `mount --bind "$0" "$0"; mount -o remount,bind,ro,nosuid "$0"; exec "$0"`, copied(t))
	cmd.Env = append(os.Environ(), "PLAY=protected", noSleep)
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

// TestSharedPages: those who run from one file have their text in common, also with
// those who run from another opened later, unless it is a copy.
func TestSharedPages(t *testing.T) {
	need.Root(t, "makes mounts")
	t.Run("mount", func(t *testing.T) {
		path := copied(t)
		sharing(t, open(t, path), open(t, path))
	})
	t.Run("copy", func(t *testing.T) { sharing(t, open(t, inMemory(t))) })
}

func open(t *testing.T, path string) *os.File {
	t.Helper()
	f, err := selfexe.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

// inMemory is the path of a program on a file system that mounts can't be cloned of.
func inMemory(t *testing.T) string {
	t.Helper()
	b, err := os.ReadFile(selfexe.Self)
	if err != nil {
		t.Fatal(err)
	}
	fd, err := unix.MemfdCreate("original", unix.MFD_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	f := os.NewFile(uintptr(fd), "original")
	t.Cleanup(func() { f.Close() })
	if _, err := f.Write(b); err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("/proc/self/fd/%d", fd)
}

// sharing runs five processes from each file.
func sharing(t *testing.T, files ...*os.File) {
	t.Helper()
	first := true
	for _, f := range files {
		for range 5 {
			pid, _, _ := waiting(t, f)
			shared, private := text(t, pid)
			if first { // it has nobody to share with yet
				first = false
				continue
			}
			if shared <= private { // a page or two may be needed by one alone
				t.Errorf("%d KiB of text are its own, %d shared", private, shared)
			}
		}
	}
}

// text says how much of the executable pages of a process's program it shares with
// others and has for itself, in KiB.
func text(t *testing.T, pid int) (shared, private int) {
	t.Helper()
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps", pid))
	if err != nil {
		t.Fatal(err)
	}
	ours, seen := false, false
	for line := range bytes.Lines(raw) {
		w := strings.Fields(string(line))
		if !strings.HasSuffix(w[0], ":") { // addresses, permissions, offset, device, inode, path
			ours = !seen && len(w) > 4 && w[1] == "r-xp" && w[4] != "0" // libraries come later
			seen = seen || ours
			continue
		}
		n, _ := strconv.Atoi(w[1])
		switch {
		case ours && strings.HasPrefix(w[0], "Shared_"): // those of a copy are dirty
			shared += n
		case ours && strings.HasPrefix(w[0], "Private_") && w[0] != "Private_Hugetlb:":
			private += n
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
