package integrationcli

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"gantry/internal/testutil/engine"
	"gantry/internal/testutil/need"
)

// stuckRuntime is an OCI runtime whose create never ends; it notes its pid in the
// directory pids.
func stuckRuntime(t *testing.T) (path, pids string) {
	t.Helper()
	dir := t.TempDir()
	path, pids = filepath.Join(dir, "runtime"), filepath.Join(dir, "pids")
	text := "#!/bin/sh\nfor a; do case $a in create) touch " + pids + "/$$; exec sleep 1000;; esac; done\nexec " + need.Command(t, "runc") + " \"$@\"\n"
	if err := os.Mkdir(pids, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
	return path, pids
}

// TestStuckStart has starts that never come to an end. Nobody else waits for them, a
// forced removal ends one, and so does the daemon's end.
func TestStuckStart(t *testing.T) {
	engine.OwnCore(t, "it waits for a shim that does not answer")
	path, pids := stuckRuntime(t)
	e := start(t, "--add-runtime", "stuck="+path)
	e.Must("run", "-d", "--name", "well", image, "sleep", "1000")
	begin := func(name string) <-chan error {
		e.Must("create", "--name", name, "--runtime", "stuck", "-p", "80", "-v", "/data", image, "true")
		before, done := len(entries(t, pids)), make(chan error, 1)
		go func() {
			status, text, err := ask(e, "POST", "/containers/"+name+"/start", nil)
			if err == nil && status < 400 {
				err = fmt.Errorf("status %d: %s", status, text)
			} else if err == nil {
				t.Logf("start of %s: %s", name, text)
			}
			done <- err
		}()
		eventually(t, "the runtime hangs", func() bool { return len(entries(t, pids)) > before })
		return done
	}
	removed := begin("removed")
	for _, args := range [][]string{
		{"ps", "-a"}, {"inspect", "removed"}, {"exec", "well", "true"}, {"run", "--rm", image, "true"}, {"system", "df"},
	} {
		if r := within(t, e, 5*time.Second, args...); r.Code != 0 {
			t.Errorf("docker %v: %s", args, r.Stderr)
		}
	}
	within(t, e, 30*time.Second, "rm", "-fv", "removed")
	if err := <-removed; err != nil {
		t.Error(err)
	}
	gone(t, pids)

	cut := begin("cut")
	began := time.Now()
	e.Terminate()
	if took := time.Since(began); took > 25*time.Second {
		t.Errorf("the daemon took %v to end", took)
	}
	if err := <-cut; err != nil {
		t.Error(err)
	}
	e.Launch()
	gone(t, pids)
	e.Must("rm", "-v", "cut")
	e.Must("exec", "well", "true")
	e.Clean(t)
}

func entries(t *testing.T, dir string) []os.DirEntry {
	t.Helper()
	list, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// gone checks that the runtimes that hung have ended.
func gone(t *testing.T, pids string) {
	t.Helper()
	for _, f := range entries(t, pids) {
		pid, err := strconv.Atoi(f.Name())
		if err != nil {
			t.Fatal(err)
		}
		eventually(t, "runtime "+f.Name()+" has ended", func() bool { return ended(pid) })
	}
}
