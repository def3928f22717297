package integrationcli

import (
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"gantry/internal/testutil/engine"
)

// TestSideBySide runs two engines on one host.
func TestSideBySide(t *testing.T) {
	a, b := start(t), start(t)
	a.Must("run", "-d", "--name", "same", image, "sleep", "1000")
	b.Must("run", "-d", "--name", "same", image, "sleep", "1000")
	if x, y := a.Must("ps", "-q"), b.Must("ps", "-q"); x == y {
		t.Error("both engines show one container")
	}
	a.Must("rm", "-f", "same")
	if s := status(b, "same"); s != "running" {
		t.Errorf("the other engine's container is %s", s)
	}
}

func TestReload(t *testing.T) {
	e := engine.Start(t)
	if err := os.WriteFile(e.Dir+"/daemon.json", []byte(`{"labels":["x=y"]}`), 0o600); err != nil {
		t.Fatal(err)
	}
	e.Signal("HUP")
	eventually(t, "the new label is shown", func() bool { return strings.Contains(e.Docker("info", "-f", "{{.Labels}}").Stdout, "x=y") })
	e.Signal("USR1")
	eventually(t, "the stacks are written", func() bool {
		l, _ := os.ReadDir(e.Dir + "/exec")
		for _, f := range l {
			if strings.HasPrefix(f.Name(), "goroutine-stacks-") {
				return true
			}
		}
		return false
	})
}

// TestReloadEarly: a daemon that is told to read its file again while it comes up does so
// when it is up.
func TestReloadEarly(t *testing.T) {
	e := engine.Start(t)
	e.Terminate()
	launched := make(chan error, 1)
	go func() { launched <- e.TryLaunch() }()
	var pid int
	eventually(t, "there is a process", func() bool {
		raw, err := os.ReadFile(e.Dir + "/pid")
		pid, _ = strconv.Atoi(string(raw))
		return err == nil && pid > 0
	})
	if err := os.WriteFile(e.Dir+"/daemon.json", []byte(`{"labels":["x=y"]}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(pid, syscall.SIGHUP); err != nil {
		t.Error(err)
	}
	if err := <-launched; err != nil {
		t.Fatal(err)
	}
	eventually(t, "the new label is shown", func() bool { return strings.Contains(e.Docker("info", "-f", "{{.Labels}}").Stdout, "x=y") })
}

// TestReloadSettings: what a reload promises holds for the next container and the next
// pull, and a bad file changes nothing.
func TestReloadSettings(t *testing.T) {
	e := start(t)
	mirror := registry(t)
	e.Must("tag", image, mirror+"/library/mirrored:1")
	e.Must("push", mirror+"/library/mirrored:1")
	runtime := engine.Binary(t, "grun")
	reload := func(text, runtime string) {
		t.Helper()
		if err := os.WriteFile(e.Dir+"/daemon.json", []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		e.Signal("HUP")
		eventually(t, "the default runtime is "+runtime, func() bool { return e.Must("info", "-f", "{{.DefaultRuntime}}") == runtime })
	}
	show := func() string {
		e.Must("run", "--name", "cc", image, "sh", "-c", "df -k /dev/shm | tail -n 1")
		defer e.Must("rm", "cc")
		size := strings.Fields(e.Must("logs", "cc"))[1]
		return size + " " + e.Must("inspect", "-f", "{{.HostConfig.Runtime}} {{.HostConfig.IpcMode}} {{.HostConfig.ShmSize}}", "cc")
	}
	reload(`{"default-runtime":"mine","runtimes":{"mine":{"path":"`+runtime+`"}},"default-shm-size":"8m","default-ipc-mode":"shareable",
		"registry-mirrors":["http://`+mirror+`"],"max-concurrent-downloads":1,"max-download-attempts":2}`, "mine")
	if got, want := show(), "8192 mine shareable 8388608"; got != want {
		t.Errorf("after a reload: %s, want %s", got, want)
	}
	if got := e.Must("pull", "mirrored:1"); !strings.Contains(got, "Status: Downloaded newer image for mirrored:1") {
		t.Errorf("through the mirror: %s", got)
	}
	if err := os.WriteFile(e.Dir+"/daemon.json", []byte(`{"default-runtime":"nope","labels":["a=b"]}`), 0o600); err != nil {
		t.Fatal(err)
	}
	e.Signal("HUP")
	time.Sleep(200 * time.Millisecond)
	if got := e.Must("info", "-f", "{{.DefaultRuntime}} {{.Labels}}"); got != "mine []" {
		t.Errorf("after a bad file: %s", got)
	}
	reload(`{}`, "gantry")
	if got, want := show(), "65536 gantry private 67108864"; got != want {
		t.Errorf("after an empty file: %s, want %s", got, want)
	}
}
