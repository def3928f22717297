package engine

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"gantry/internal/testutil/need"
)

// CoreVariable says, in the environment, what core engines stand on: "containerd", the
// path of one, or "gantryd" for ours as a process of its own. They have the one in
// their own process without.
const CoreVariable = "GANTRY_CORE"

// core is a core beside an engine. It has the directories and the socket that the
// engine's own would have, so what looks for its things finds them.
type core struct {
	words []string
	cmd   *exec.Cmd
	ended chan struct{} // closed when cmd has ended
}

// StartOn is Start on a core of the kind that CoreVariable would name, "" for the
// engine's own, whatever the environment says.
func StartOn(t testing.TB, kind string, args ...string) *Engine {
	t.Helper()
	return start(t, &Engine{on: &kind}, args...)
}

// StartHidden is StartOn with a core that does not see our programs.
func StartHidden(t testing.TB, kind string, args ...string) *Engine {
	t.Helper()
	need.Command(t, "unshare")
	return start(t, &Engine{on: &kind, hidden: true}, args...)
}

// OnCore names the core that engines stand on unless a test says otherwise; "" is
// their own.
func OnCore() string { return os.Getenv(CoreVariable) }

// OnContainerd says whether engines stand on a core that is not ours.
func OnContainerd() bool { return OnCore() != "" && OnCore() != "gantryd" }

// OwnCore skips a test of what only our own core does.
func OwnCore(t testing.TB, why string) {
	t.Helper()
	if OnContainerd() {
		t.Skipf("the core is %s: %s", OnCore(), why)
	}
}

// CoreInside skips a test of a core in the engine's process.
func CoreInside(t testing.TB, why string) {
	t.Helper()
	if OnCore() != "" {
		t.Skipf("the core is %s, a process of its own: %s", OnCore(), why)
	}
}

// MapsIDs skips a test that needs a core which maps ids.
func MapsIDs(t testing.TB) {
	t.Helper()
	if !OnContainerd() {
		return
	}
	out, err := exec.Command(OnCore(), "--version").Output()
	if err != nil {
		t.Fatal(err)
	}
	if f := strings.Fields(string(out)); len(f) > 2 && strings.HasPrefix(f[2], "1.") {
		t.Skipf("containerd %s maps no ids", f[2])
	}
}

// Beside says whether the engine's core is a process beside it.
func (e *Engine) Beside() bool { return e.core != nil }

const coreConfig = `version = 2
root = %q
state = %q
disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.cri.v1.images", "io.containerd.cri.v1.runtime", "io.containerd.nri.v1.nri", "io.containerd.internal.v1.opt"]
[grpc]
address = %q
[ttrpc]
address = %q
[debug]
level = "debug"
`

// makeCore writes the configuration of the engine's core and starts it.
func (e *Engine) makeCore(kind string) {
	e.t.Helper()
	path := filepath.Join(e.Dir, "core.toml")
	text := fmt.Sprintf(coreConfig, filepath.Join(e.Dir, "data/core"), filepath.Join(e.Dir, "exec/core"), e.CoreSocket(), e.CoreSocket()+".ttrpc")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		e.t.Fatal(err)
	}
	var words []string
	switch {
	case kind == "gantryd":
		words = []string{Binary(e.t, "gantryd"), "core"}
	case filepath.IsAbs(kind):
		words = []string{kind}
	default:
		words = []string{need.Command(e.t, kind)}
	}
	if e.hidden { // what the engine mounts is to reach the core
		if err := errors.Join(unix.Mount(e.Dir, e.Dir, "", unix.MS_BIND, ""), unix.Mount("", e.Dir, "", unix.MS_SHARED, "")); err != nil {
			e.t.Fatal(err)
		}
	}
	e.core = &core{words: append(words, "--config", path)}
	e.StartCore()
}

// StartCore starts the core beside the engine, also again after StopCore.
func (e *Engine) StartCore() {
	e.t.Helper()
	words := e.core.words
	if e.hidden {
		words = append([]string{need.Command(e.t, "unshare"), "--mount", "--propagation", "slave", "sh", "-c",
			`mount -t tmpfs none "$1" && shift && exec "$@"`, "sh", filepath.Dir(Binary(e.t, "gantryd"))}, words...)
	}
	if e.netns != "" {
		words = append([]string{need.Command(e.t, "nsenter"), "--net=" + e.netns}, words...)
	}
	log, err := os.OpenFile(filepath.Join(e.Dir, "core.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		e.t.Fatal(err)
	}
	defer log.Close()
	cmd := exec.Command(words[0], words[1:]...)
	cmd.Stdout, cmd.Stderr = log, log
	// The shim of a containerd is beside it.
	cmd.Env = append(os.Environ(), "PATH="+filepath.Dir(e.core.words[0])+":"+os.Getenv("PATH"), "GORACE=atexit_sleep_ms=0 log_path="+e.races())
	if err := cmd.Start(); err != nil {
		e.t.Fatal(err)
	}
	ended := make(chan struct{})
	e.core.cmd, e.core.ended = cmd, ended
	go func() { cmd.Wait(); close(ended) }()
}

// StopCore sends the core beside the engine a signal and waits until it has ended.
func (e *Engine) StopCore(sig syscall.Signal) {
	e.t.Helper()
	if err := e.core.cmd.Process.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		e.t.Error(err)
	}
	select {
	case <-e.core.ended:
	case <-time.After(20 * time.Second):
		e.core.cmd.Process.Kill()
		e.t.Errorf("the core did not end on %v\n%s", sig, e.CoreLog())
	}
}

// CoreLog is the end of what the core beside the engine has written.
func (e *Engine) CoreLog() string {
	if e.core == nil {
		return ""
	}
	return tail(filepath.Join(e.Dir, "core.log"))
}

// tail is the end of a file.
func tail(path string) string {
	raw, _ := os.ReadFile(path)
	return string(raw[max(0, len(raw)-32<<10):])
}

// kindOfCore is what the engine stands on.
func (e *Engine) kindOfCore() string {
	if e.on != nil {
		return *e.on
	}
	return OnCore()
}

// closeCore ends the core beside the engine, if there is one.
func (e *Engine) closeCore() {
	if e.core == nil {
		return
	}
	e.StopCore(syscall.SIGTERM)
	if e.hidden {
		if err := unix.Unmount(e.Dir, unix.MNT_DETACH); err != nil {
			e.t.Error(err)
		}
	}
	if e.t.Failed() {
		e.t.Logf("the core's log:\n%s", e.CoreLog())
	}
}
