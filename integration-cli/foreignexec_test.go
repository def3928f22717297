package integrationcli

import (
	"context"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// TestForeignExecOutlivesEngine lets the engine die while an exec runs under another's
// shim: the exec goes on, and when it ends nothing stays of it.
func TestForeignExecOutlivesEngine(t *testing.T) {
	t.Parallel()
	e := foreign(t)
	e.Must("run", "-d", "--name", "web", "--network", "none", image, "sleep", "1000")
	ctx, cancel := context.WithCancel(t.Context())
	client := e.Cmd(ctx, "exec", "-i", "web", "sleep", "98761")
	if _, err := client.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	if err := client.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		cancel()
		client.Wait() //nolint:errcheck // its daemon has died
	}()
	fifos := func() int {
		all, _ := filepath.Glob(filepath.Join(e.Dir, "exec", "io", "*.fifos", "*.[012]"))
		return len(all)
	}
	pid := 0
	eventually(t, "the exec runs", func() bool {
		pid = processOf("sleep\x0098761\x00")
		return pid != 0 && fifos() > 3
	})
	e.Kill()
	e.Launch()
	if pid != processOf("sleep\x0098761\x00") || fifos() <= 3 {
		t.Errorf("the exec has gone, or its streams: %d fifos", fifos())
	}
	syscall.Kill(pid, syscall.SIGTERM)
	e.Place().Agree(t)
	e.Must("exec", "web", "true")
	e.Must("rm", "-f", "web")
	e.Clean(t)
}

// processOf is the process with this command line, 0 when there is none.
func processOf(line string) int {
	all, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, path := range all {
		if raw, err := os.ReadFile(path); err == nil && string(raw) == line {
			pid, _ := strconv.Atoi(strings.Split(path, "/")[2])
			return pid
		}
	}
	return 0
}
