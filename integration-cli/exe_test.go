package integrationcli

import (
	"debug/elf"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"gantry/internal/testutil/engine"
	"gantry/internal/testutil/exeattack"
)

// catch keeps open, as descriptor 5 of a sleep, the executable of whatever appears
// among the container's processes and is none of its own programs.
const catch = `while :; do for p in /proc/[0-9]*; do
	[ $p/exe -ef /bin/busybox ] || (exec 5<$p/exe && echo caught && exec sleep 1000) 2>/dev/null
done; done`

// TestExecutable: a privileged container that gets hold of its shim's program, which a
// script's interpreter /proc/self/exe runs inside the container, can't write it.
func TestExecutable(t *testing.T) {
	useStatic(t)
	e := start(t)
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "script"), []byte("#!/proc/self/exe\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	e.Must("run", "-d", "--name", "thief", "--cap-add", "SYS_ADMIN", "--security-opt", "seccomp=unconfined",
		"-v", dir+":/m", image, "sh", "-c", catch)
	eventually(t, "the container holds the executable", func() bool {
		e.Docker("exec", "thief", "/m/script")
		return strings.Contains(e.Docker("logs", "thief").Stdout, "caught")
	})
	exe := heldExecutable(t, inspect(t, e, "thief").State.Pid)
	defer exe.Close()
	have, err := exe.Stat()
	if err != nil {
		t.Fatal(err)
	}
	want, err := os.Stat(engine.Binary(t, "containerd-shim-gantry-v2"))
	if err != nil {
		t.Fatal(err)
	}
	if !os.SameFile(have, want) {
		t.Fatalf("caught another file: %+v", have.Sys())
	}
	shim := shimOf(t, e, "thief")
	e.Must("rm", "-f", "thief")
	eventually(t, "the shim has ended", func() bool { return unix.Kill(shim, 0) != nil })
	eventually(t, "it can't be written, also when no other process of the program runs", func() bool {
		ways, err := exeattack.Writable(int(exe.Fd()))
		return err == nil && len(ways) == 0
	})
}

// useStatic takes the engine from bin/ where the one under test needs a dynamic linker,
// which the container does not have: the race detector's do.
func useStatic(t *testing.T) {
	t.Helper()
	for _, dir := range []string{os.Getenv("GANTRY_BIN"), "../bin"} {
		f, err := elf.Open(filepath.Join(dir, "containerd-shim-gantry-v2"))
		if err != nil {
			continue
		}
		dynamic := slices.ContainsFunc(f.Progs, func(p *elf.Prog) bool { return p.Type == elf.PT_INTERP })
		f.Close()
		if dynamic {
			continue
		}
		if dir, err = filepath.Abs(dir); err != nil {
			t.Fatal(err)
		}
		t.Setenv("GANTRY_BIN", dir)
		return
	}
	t.Skip("needs a static shim, such as make build makes in bin/")
}

// heldExecutable opens what a child of pid has at descriptor 5.
func heldExecutable(t *testing.T, pid int) *os.File {
	t.Helper()
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	if err != nil {
		t.Fatal(err)
	}
	for _, child := range strings.Fields(string(raw)) {
		if fd, err := unix.Open("/proc/"+child+"/fd/5", unix.O_PATH|unix.O_CLOEXEC, 0); err == nil {
			return os.NewFile(uintptr(fd), "executable")
		}
	}
	t.Fatalf("nobody among %s holds it", raw)
	return nil
}
