package integrationcli

import (
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"gantry/internal/testutil/engine"
)

// damages are what can happen to a file; each gets its path and what it held.
var damages = map[string]func(path string, held []byte) error{
	"emptied": func(path string, _ []byte) error { return os.Truncate(path, 0) },
	"cut":     func(path string, held []byte) error { return os.Truncate(path, int64(len(held)/8)) },
	"random": func(path string, held []byte) error {
		noise := make([]byte, max(len(held), 16))
		rand.NewChaCha8([32]byte{7}).Read(noise)
		return os.WriteFile(path, noise, 0o600)
	},
	"a directory": func(path string, _ []byte) error { return errors.Join(os.Remove(path), os.Mkdir(path, 0o700)) },
	"torn JSON":   func(path string, _ []byte) error { return os.WriteFile(path, []byte(`{"a":[1,`), 0o600) },
}

// spoil damages the one file that matches pattern below the engine's directory, and
// returns its path and how to put it back.
func spoil(t *testing.T, e *engine.Engine, pattern, how string) (path string, mend func()) {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(e.Dir, pattern))
	if err != nil || len(found) != 1 {
		t.Fatalf("%s: %v, %v", pattern, found, err)
	}
	path = found[0]
	held, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := damages[how](path, held); err != nil {
		t.Fatal(err)
	}
	return path, func() {
		if err := errors.Join(os.RemoveAll(path), os.WriteFile(path, held, 0o600)); err != nil {
			t.Fatal(err)
		}
	}
}

// restart starts the daemon anew and returns what it logged.
func restart(t *testing.T, e *engine.Engine) (log string, err error) {
	t.Helper()
	path := filepath.Join(e.Dir, "log")
	before, serr := os.Stat(path)
	if serr != nil {
		t.Fatal(serr)
	}
	err = e.TryLaunch()
	raw, rerr := os.ReadFile(path)
	if rerr != nil {
		t.Fatal(rerr)
	}
	return string(raw[before.Size():]), err
}

// TestDamagedEngine damages each file that an engine reads at its start in turn. Records
// that have to last are not guessed at: the daemon refuses to start and names the file.
// What can be told again is begun anew. The container that runs goes on.
func TestDamagedEngine(t *testing.T) {
	engine.CoreInside(t, "it has other files")
	t.Parallel()
	e := start(t)
	e.Must("volume", "create", "kept")
	e.Must("run", "-d", "--name", "bg", "--network", "none", "-v", "kept:/kept", image, "sleep", "1000")
	pid := inspect(t, e, "bg").State.Pid
	time.Sleep(1500 * time.Millisecond) // its state is durable by then
	const snapshots = "data/core/io.containerd.snapshotter.v1.overlayfs/metadata.db"
	for _, tc := range []struct {
		file   string
		how    string // separated by commas
		starts bool
		silent bool // it need not be told
	}{
		{"data/gantry.db", "emptied,cut,random,a directory", false, false},
		{"data/core/io.containerd.metadata.v1.bolt/meta.db", "emptied,cut,random,a directory", false, false},
		{snapshots, "emptied,cut,random,a directory", false, false},
		{"exec/run.db", "emptied,cut,random,a directory", true, false},
		{"exec/core/io.containerd.metadata.v1.bolt/boot.db", "emptied,cut,random,a directory", false, false},
		{"data/events/events.jsonl", "emptied,cut,random", true, true},
		{"data/events/events.jsonl", "a directory", true, false},
		{"data/engine-id", "emptied,random", true, true},
		{"data/engine-id", "a directory", false, false},
		{"daemon.json", "random,torn JSON,a directory", false, false},
		{"pid", "emptied,random", true, true},
		{"pid", "a directory", false, false},
	} {
		all := strings.Split(tc.how, ",")
		for _, how := range all[:scale(len(all), min(len(all), 2))] {
			t.Run(filepath.Base(tc.file)+" "+how, func(t *testing.T) {
				e.Kill()
				path, mend := spoil(t, e, tc.file, how)
				log, err := restart(t, e)
				if (err == nil) != tc.starts {
					t.Errorf("starts: %v", err)
				}
				if !tc.silent && !strings.Contains(log, path) {
					t.Errorf("the log does not name %s:\n%s", path, log)
				}
				if strings.Contains(log, "panic") || strings.Contains(log, "SIGBUS") || strings.Contains(log, "goroutine ") {
					t.Errorf("a crash:\n%s", log)
				}
				if err != nil {
					mend()
					e.Launch()
				}
				if in := inspect(t, e, "bg"); !in.State.Running || in.State.Pid != pid {
					t.Errorf("the container is %+v", in.State)
				}
				if got := e.Must("exec", "bg", "echo", "alive"); got != "alive" {
					t.Errorf("exec: %q", got)
				}
				if got := e.Must("volume", "ls", "-q"); got != "kept" {
					t.Errorf("volumes %q", got)
				}
			})
		}
	}
	e.Must("run", "--rm", image, "true")
}

// TestDamagedContainer damages the files of one running container: it may be lost, and
// can be removed; others do not notice, and nothing of it stays.
func TestDamagedContainer(t *testing.T) {
	engine.CoreInside(t, "it has other files")
	t.Parallel()
	e := start(t)
	e.Must("run", "-d", "--name", "bg", image, "sleep", "1000")
	pid := inspect(t, e, "bg").State.Pid
	const bundle, runtime = "exec/core/io.containerd.runtime.v2.task/*/ID/", "exec/runtime/*/ID/"
	for _, tc := range []struct{ file, how string }{
		{bundle + "bootstrap.json", "emptied,cut,random,a directory"},
		{bundle + "shim-binary-path", "emptied,random,a directory"},
		{bundle + "config.json", "emptied,torn JSON,a directory"},
		{bundle + "runtime.json", "emptied,torn JSON,a directory"},
		{bundle + "shim.pid", "emptied,random,a directory"},
		{bundle + "init.pid", "emptied,random,a directory"},
		{runtime + "state.json", "emptied,cut,random,a directory"},
		{"data/containers/ID/ID-json.log", "emptied,cut,random,a directory"},
	} {
		all := strings.Split(tc.how, ",")
		for _, how := range all[:scale(len(all), 1)] {
			t.Run(filepath.Base(tc.file)+" "+how, func(t *testing.T) {
				id := e.Must("run", "-d", "--name", "victim", image, "sh", "-c", "echo one; echo two; sleep 1000")
				eventually(t, "it has written", func() bool { return strings.Contains(e.Docker("logs", "victim").Stdout, "two") })
				e.Kill()
				spoil(t, e, strings.ReplaceAll(tc.file, "ID", id), how)
				log, err := restart(t, e)
				if err != nil {
					t.Fatalf("%v\n%s", err, log)
				}
				if in := inspect(t, e, "bg"); !in.State.Running || in.State.Pid != pid {
					t.Errorf("the other container is %+v", in.State)
				}
				e.Docker("logs", "victim")
				t.Logf("it is %s", status(e, "victim"))
				e.Must("rm", "-f", "victim")
				e.Place().Agree(t)
			})
		}
	}
}
