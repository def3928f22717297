package integrationcli

import (
	"context"
	"encoding/json"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"gantry/internal/testutil/engine"
	"gantry/internal/testutil/need"
)

// bare runs gantryd without a network of its own, on sockets that the arguments name.
// It returns the directory of its files.
func bare(t *testing.T, prepare func(dir string, cmd *exec.Cmd)) (dir string) {
	t.Helper()
	need.Root(t, "runs the engine")
	dir, err := os.MkdirTemp("/tmp", "gantry-")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(dir+"/daemon.json", []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	log, err := os.Create(dir + "/log")
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	cmd := exec.Command(engine.Binary(t, "gantryd"), "--data-root", dir+"/data", "--exec-root", dir+"/exec", "--pidfile", dir+"/pid",
		"--config-file", dir+"/daemon.json", "--bridge", "none", "--iptables=false")
	cmd.Stdout, cmd.Stderr = log, log
	prepare(dir, cmd)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		if err := cmd.Wait(); err != nil || t.Failed() {
			raw, _ := os.ReadFile(dir + "/log")
			t.Errorf("gantryd: %v\n%s", err, raw)
		}
		os.RemoveAll(dir)
	})
	return dir
}

// pinged waits until the socket answers.
func pinged(t *testing.T, socket string) {
	t.Helper()
	c := &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(context.Context, string, string) (net.Conn, error) {
		return net.Dial("unix", socket)
	}}}
	eventually(t, socket+" answers", func() bool {
		resp, err := c.Get("http://x/_ping")
		if err == nil {
			resp.Body.Close()
		}
		return err == nil && resp.StatusCode == http.StatusOK
	})
}

// TestSocketActivation: the engine serves the sockets that systemd hands it, by fd://.
func TestSocketActivation(t *testing.T) {
	sock := filepath.Join(t.TempDir(), "a.sock")
	l, err := net.Listen("unix", sock) // closed, and so removed, after the engine has ended
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	f, err := l.(*net.UnixListener).File()
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	bare(t, func(_ string, cmd *exec.Cmd) {
		cmd.ExtraFiles = []*os.File{f} // descriptor 3
		// LISTEN_PID is to be the engine's own.
		words := append([]string{"sh", "-c", `export LISTEN_PID=$$; exec "$@"`, "sh"}, append(cmd.Args, "-H", "fd://")...)
		cmd.Path, cmd.Args = need.Command(t, "sh"), words
		cmd.Env = append(os.Environ(), "LISTEN_FDS=1", "LISTEN_FDNAMES=docker.socket")
	})
	pinged(t, sock)
}

// TestGroup: the socket is its group's and nobody else's.
func TestGroup(t *testing.T) {
	dir := bare(t, func(dir string, cmd *exec.Cmd) {
		cmd.Args = append(cmd.Args, "-H", "unix://"+dir+"/s", "-G", "12345", "-H", "unix://"+dir+"/deep/er/s")
	})
	for _, s := range []string{dir + "/s", dir + "/deep/er/s"} {
		pinged(t, s)
		fi, err := os.Stat(s)
		if err != nil {
			t.Fatal(err)
		}
		if st := fi.Sys().(*syscall.Stat_t); fi.Mode().Perm() != 0o660 || st.Uid != 0 || st.Gid != 12345 {
			t.Errorf("%s: %v %d:%d", s, fi.Mode(), st.Uid, st.Gid)
		}
	}
	raw, err := os.ReadFile(dir + "/pid")
	if err != nil {
		t.Fatal(err)
	}
	if pid, err := strconv.Atoi(string(raw)); err != nil || syscall.Kill(pid, 0) != nil {
		t.Errorf("the pid file says %q: %v", raw, err)
	}
	// A second one on the same pid file, and one whose group there is not.
	for want, args := range map[string][]string{
		dir + "/pid": {"--pidfile", dir + "/pid", "-H", "unix://" + dir + "/t"},
		"no-such":    {"--pidfile", dir + "/pid2", "-H", "unix://" + dir + "/t", "-G", "no-such"},
	} {
		out, err := exec.Command(engine.Binary(t, "gantryd"), append([]string{
			"--data-root", dir + "/data2", "--exec-root", dir + "/exec2", "--config-file", dir + "/daemon.json", "--bridge", "none",
		}, args...)...).CombinedOutput()
		if err == nil || !strings.Contains(string(out), want) {
			t.Errorf("%v: %v\n%s", args, err, out)
		}
	}
}

// TestDebugReload: the debug routes, and what info says, follow a reload.
func TestDebugReload(t *testing.T) {
	e := engine.Start(t)
	e.Terminate()
	set := func(text string) {
		t.Helper()
		if err := os.WriteFile(e.Dir+"/daemon.json", []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	set(`{"debug":false}`)
	e.Launch()
	look := func(path string) int {
		resp, err := e.HTTP().Get("http://x" + path)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		return resp.StatusCode
	}
	paths := []string{"/debug/vars", "/v1.51/debug/vars", "/debug/pprof/", "/debug/pprof/cmdline", "/debug/pprof/goroutine?debug=1", "/debug/pprof/symbol", "/debug/pprof/trace?seconds=0.01"}
	for _, debug := range []bool{false, true, false} {
		set(`{"debug":` + strconv.FormatBool(debug) + `}`)
		e.Signal("HUP")
		eventually(t, "debug is "+strconv.FormatBool(debug), func() bool { return e.Must("info", "-f", "{{.Debug}}") == strconv.FormatBool(debug) })
		for _, p := range paths {
			if code := look(p); (code == http.StatusOK) != debug || !debug && code != http.StatusNotFound {
				t.Errorf("debug %v: %s answers %d", debug, p, code)
			}
		}
	}
	set(`{}`) // the next start is as the others'
}

// TestAnyOptions: any path answers OPTIONS.
func TestAnyOptions(t *testing.T) {
	e := engine.Start(t)
	for _, path := range []string{"/", "/_ping", "/v1.24/containers/json", "/no/such/path"} {
		req, err := http.NewRequest(http.MethodOptions, "http://x"+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := e.HTTP().Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusOK || resp.ContentLength != 0 || resp.Header.Get("Api-Version") == "" {
			t.Errorf("%s: %s, %d bytes, %v", path, resp.Status, resp.ContentLength, resp.Header)
		}
	}
}

// TestReloadEvent: a reload is told with dockerd's attributes, one that fails is not told.
func TestReloadEvent(t *testing.T) {
	e := engine.Start(t)
	text := `{"labels":["a=b"],"max-concurrent-uploads":7,"max-concurrent-downloads":6,"max-download-attempts":9,"shutdown-timeout":33,
		"live-restore":false,"features":{"containerd-snapshotter":true},"insecure-registries":["reg:5000"],"registry-mirrors":["http://127.0.0.1:1"],
		"default-shm-size":"1m","default-ipc-mode":"shareable","runtimes":{"other":{"path":"/bin/true"}},"default-runtime":"other"}`
	for _, bad := range []string{`{"labels":["a=b"],"default-ipc-mode":"host"}`, `{`, `{"nope":1}`, `{"debug":true}`, text} {
		if err := os.WriteFile(e.Dir+"/daemon.json", []byte(bad), 0o600); err != nil {
			t.Fatal(err)
		}
		e.Signal("HUP")
		if bad != text {
			time.Sleep(100 * time.Millisecond) // a reload that is refused leaves no trace to wait for but the log
		}
	}
	eventually(t, "the label is there", func() bool { return e.Must("info", "-f", "{{.Labels}}") == "[a=b]" })
	out := e.Must("events", "--since", "0", "--until", "-1s", "--filter", "type=daemon", "--filter", "event=reload", "--format", "{{json .}}")
	var ev struct {
		Action, Type, Scope string `json:",omitempty"`
		Actor               struct {
			ID         string
			Attributes map[string]string
		}
	}
	if err := json.Unmarshal([]byte(out), &ev); err != nil {
		t.Fatalf("%v: %s", err, out) // more than one event, for one
	}
	name, _ := os.Hostname()
	want := map[string]string{
		"name": name, "debug": "true", "labels": `["a=b"]`, "max-concurrent-uploads": "7", "max-concurrent-downloads": "6", "max-download-attempts": "9",
		"shutdown-timeout": "33", "live-restore": "false", "features": "map[containerd-snapshotter:true]", "insecure-registries": `["reg:5000"]`,
		"registry-mirrors": `["http://127.0.0.1:1"]`, "default-shm-size": "1048576", "default-ipc-mode": "shareable", "runtimes": "other:/bin/true",
		"default-runtime": "other", "default-cgroupns-mode": ev.Actor.Attributes["default-cgroupns-mode"],
	}
	for k, v := range want {
		if ev.Actor.Attributes[k] != v {
			t.Errorf("%s is %q, want %q", k, ev.Actor.Attributes[k], v)
		}
	}
	if len(ev.Actor.Attributes) != len(want) || ev.Actor.ID != e.Must("info", "-f", "{{.ID}}") {
		t.Errorf("%+v", ev)
	}
}
