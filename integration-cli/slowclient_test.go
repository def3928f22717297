package integrationcli

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/docker/docker/pkg/stdcopy"

	"gantry/internal/testutil/engine"
)

// noise makes a file of n bytes of all values, but for the carriage returns that a
// terminal adds, without a newline at the end, and returns its path and its bytes.
func noise(t *testing.T, n int) (path string, data []byte) {
	t.Helper()
	r := rand.New(rand.NewPCG(7, uint64(n)))
	data = make([]byte, n)
	for i := range data {
		if data[i] = byte(r.Uint32()); data[i] == '\r' {
			data[i] = '\n'
		}
	}
	data[n-1] = 'x'
	path = filepath.Join(t.TempDir(), "noise")
	if err := os.WriteFile(path, data, 0o644); err != nil {
		t.Fatal(err)
	}
	return path, data
}

// same compares what came with what was sent.
func same(t *testing.T, what string, got, want []byte) {
	t.Helper()
	if bytes.Equal(got, want) {
		return
	}
	i := 0
	for i < len(got) && i < len(want) && got[i] == want[i] {
		i++
	}
	t.Errorf("%s: %d bytes of %d; they differ from %d on", what, len(got), len(want), i)
}

// vanished says whether nothing of a container is left, its shim included.
func vanished(e *engine.Engine, name string) bool {
	code, _, err := ask(e, "GET", "/containers/"+name+"/json", nil)
	return err == nil && code == http.StatusNotFound
}

// served says whether a container has a shim or a keeper.
func served(id string) bool {
	found, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, f := range found {
		if raw, _ := os.ReadFile(f); bytes.Contains(raw, []byte("-shim-")) && bytes.Contains(raw, []byte("\x00"+id+"\x00")) {
			return true
		}
	}
	return false
}

// TestSlowRun: what `docker run --rm` prints into a pipe that nobody reads for a while
// comes whole, and nothing waits for the reader: the container has been removed by then.
func TestSlowRun(t *testing.T) {
	e := start(t)
	path, data := noise(t, scale(20, 3)<<20)
	few, little := noise(t, 200<<10) // fits in what is held on the way
	for name, c := range map[string]struct {
		flags []string
		path  string
		want  []byte
		early bool // it ends before it is read
	}{
		"json-file":  {nil, path, data, true},
		"local":      {[]string{"--log-driver", "local"}, path, data, true},
		"compressed": {[]string{"--log-driver", "local", "--log-opt", "max-size=1m", "--log-opt", "max-file=200"}, path, data, true},
		"cache":      {[]string{"--log-driver", "syslog", "--log-opt", "syslog-address=udp://127.0.0.1:9", "--log-opt", "cache-max-size=200m"}, path, data, true},
		"tty":        {[]string{"-t"}, path, data, true},
		"none":       {[]string{"--log-driver", "none"}, path, data, false},
		"none, few":  {[]string{"--log-driver", "none"}, few, little, true},
		"none, tty":  {[]string{"--log-driver", "none", "-t"}, few, little, true},
		"non-block":  {[]string{"--log-opt", "mode=non-blocking", "--log-opt", "max-buffer-size=100m"}, path, data, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			id := "slow-" + strings.NewReplacer(" ", "", ",", "-").Replace(name)
			ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
			defer cancel()
			cid := filepath.Join(t.TempDir(), "cid")
			args := append([]string{"run", "--rm", "--name", id, "--cidfile", cid, "-v", c.path + ":/noise:ro"}, c.flags...)
			cmd := e.Cmd(ctx, append(args, image, "cat", "/noise")...)
			cmd.Stderr = os.Stderr
			out, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			if c.early {
				var full string
				eventually(t, "it is there", func() bool { raw, _ := os.ReadFile(cid); full = string(raw); return full != "" })
				eventually(t, "the container has gone", func() bool { return vanished(e, full) })
				eventually(t, "its shim has gone", func() bool { return !served(full) })
			} else {
				eventually(t, "the container runs", func() bool { return status(e, id) == "running" })
			}
			got, err := io.ReadAll(out)
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Wait(); err != nil {
				t.Error(err)
			}
			if strings.Contains(strings.Join(c.flags, " "), "-t") {
				got = bytes.ReplaceAll(got, []byte("\r\n"), []byte("\n"))
			}
			same(t, "output", got, c.want)
		})
	}
	t.Cleanup(func() { e.Clean(t) })
}

// unread asks for a stream and reads nothing of it yet.
func unread(t *testing.T, e *engine.Engine, method, path, body string) *unreadStream {
	t.Helper()
	c, err := net.Dial("unix", e.Socket())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	req, _ := http.NewRequest(method, "http://gantry/v1.51"+path, strings.NewReader(body))
	req.Header.Set("Content-Type", "application/json")
	if err := req.Write(c); err != nil {
		t.Fatal(err)
	}
	return &unreadStream{c}
}

type unreadStream struct{ net.Conn }

// all is what comes until the end, stderr after stdout.
func (u *unreadStream) all(t *testing.T) []byte {
	t.Helper()
	u.SetDeadline(time.Now().Add(2 * time.Minute))
	answer, err := http.ReadResponse(bufio.NewReader(u.Conn), nil)
	if err != nil {
		t.Error(err)
		return nil
	}
	var out, errs bytes.Buffer
	if _, err := stdcopy.StdCopy(&out, &errs, answer.Body); err != nil || answer.StatusCode != http.StatusOK {
		t.Errorf("%s: %v", answer.Status, err)
	}
	return append(out.Bytes(), errs.Bytes()...)
}

// deleted is how many files of the engine the daemon has open that nobody can find.
func deleted(e *engine.Engine) int { return opened(e, "(deleted)") }

// opened is how many files of the engine the daemon has open whose names end so.
func opened(e *engine.Engine, suffix string) (n int) {
	fds, _ := filepath.Glob("/proc/" + itoa(e.PID()) + "/fd/*")
	for _, fd := range fds {
		if name, _ := os.Readlink(fd); strings.HasPrefix(name, e.Dir) && strings.HasSuffix(name, suffix) {
			n++
		}
	}
	return n
}

// TestSlowBesideStuck has clients that read at once, later and never. The container ends,
// is started anew and removed beside them; each of those that read gets its run once, and
// nothing is kept when they have gone.
func TestSlowBesideStuck(t *testing.T) {
	e := start(t)
	path, data := noise(t, 1<<20)
	twice := append(append([]byte(nil), data...), data...)
	e.Must("create", "--name", "cat", "-v", path+":/noise:ro", image, "sh", "-c", "usleep 300000; cat /noise; cat /noise >&2")
	const query = "/containers/cat/attach?stream=1&stdout=1&stderr=1"
	before := usageOfDaemon(t, e, 1<<20)
	late := unread(t, e, "POST", query, "")
	stuck := make([]*unreadStream, 8)
	for i := range stuck {
		stuck[i] = unread(t, e, "POST", query, "")
	}
	prompt := unread(t, e, "POST", query, "")
	var reading sync.WaitGroup
	reading.Go(func() { same(t, "who reads at once", prompt.all(t), twice) })
	eventually(t, "all wait for the start", func() bool { return strings.Count(actions(t, e, "cat"), "attach") == len(stuck)+2 })
	for range 2 {
		e.Must("start", "cat")
		shim := shimOf(t, e, "cat")
		stuck = append(stuck, unread(t, e, "GET", "/containers/cat/logs?follow=1&stdout=1", ""))
		if code := e.Must("wait", "cat"); code != "0" {
			t.Errorf("exit code %s", code)
		}
		eventually(t, "the shim has gone", func() bool { return ended(shim) })
	}
	reading.Wait()
	if during := usageOfDaemon(t, e, 1<<20); during.heap > before.heap+32<<10 {
		t.Errorf("%d clients that do not read: %v, before %v", len(stuck), during, before)
	}
	e.Must("rm", "cat")
	if deleted(e) == 0 {
		t.Error("nothing is kept for those that have not read")
	}
	same(t, "who reads late", late.all(t), twice)
	for _, s := range stuck {
		s.Close()
	}
	eventually(t, "nothing is kept for those who have gone", func() bool { return deleted(e) == 0 })
	flat(t, "the daemon", len(stuck), before, usageOfDaemon(t, e, before.goroutines))
	e.Clean(t)
}

// TestSlowExec: an exec, and its container, end beside a client of its output that does
// not read, and that then gets all.
func TestSlowExec(t *testing.T) {
	e := start(t)
	path, data := noise(t, 200<<10)
	for _, driver := range []string{"json-file", "none"} {
		e.Must("run", "-d", "--name", "cat", "--log-driver", driver, "-v", path+":/noise:ro", image, "sleep", "1000")
		shim := shimOf(t, e, "cat")
		var late []*unreadStream
		for range 3 {
			x := newExec(t, e, "cat", object{"AttachStdout": true, "AttachStderr": true, "Cmd": []string{"cat", "/noise"}})
			late = append(late, unread(t, e, "POST", "/exec/"+x+"/start", `{"Detach":false}`))
			eventually(t, "the exec ends", func() bool { in := inspectExec(t, e, x); return in.ExitCode != nil && *in.ExitCode == 0 })
		}
		e.Must("rm", "-f", "cat")
		eventually(t, "the shim has gone", func() bool { return ended(shim) })
		for _, l := range late {
			same(t, "exec with log driver "+driver, l.all(t), data)
		}
	}
	e.Clean(t)
}

// TestSlowReplay: a client that is still behind in the replay of the log gets what comes
// after that too, although the container has gone meanwhile.
func TestSlowReplay(t *testing.T) {
	e := start(t)
	path, data := noise(t, 1<<20)
	e.Must("run", "-d", "--name", "cat", "-v", path+":/noise:ro", image, "sh", "-c", "cat /noise; echo; echo half >&2; until [ -e /go ]; do usleep 50000; done; cat /noise")
	eventually(t, "the first half is in the log", func() bool { return strings.Contains(e.Docker("logs", "cat").Stderr, "half") })
	late := unread(t, e, "POST", "/containers/cat/attach?stream=1&logs=1&stdout=1", "")
	follower := unread(t, e, "GET", "/containers/cat/logs?follow=1&stdout=1", "")
	eventually(t, "both have begun", func() bool { return opened(e, "-json.log") > 1 })
	e.Must("exec", "cat", "touch", "/go")
	e.Must("wait", "cat")
	e.Must("start", "cat") // and of this they get nothing
	e.Must("rm", "-f", "cat")
	want := append(append(append([]byte(nil), data...), '\n'), data...)
	same(t, "replay and what followed", late.all(t), want)
	same(t, "log that is followed", follower.all(t), want)
	eventually(t, "no file stays open", func() bool { return opened(e, "-json.log")+deleted(e) == 0 })
	e.Clean(t)
}

// TestSlowForeign: the same under a shim that is not ours.
func TestSlowForeign(t *testing.T) {
	e := foreign(t)
	path, data := noise(t, 2<<20)
	few, little := noise(t, 100<<10)
	for driver, c := range map[string]struct {
		path string
		want []byte
	}{"json-file": {path, data}, "none": {few, little}} {
		e.Must("create", "--rm", "--name", "cat", "--log-driver", driver, "-v", c.path+":/noise:ro", image, "sh", "-c", "usleep 500000; exec cat /noise")
		late := unread(t, e, "POST", "/containers/cat/attach?stream=1&stdout=1&stderr=1", "")
		eventually(t, "it waits for the start", func() bool { return strings.Contains(actions(t, e, "cat"), "attach") })
		e.Must("start", "cat")
		keeper := keeperOf(t, inspect(t, e, "cat").ID)
		eventually(t, "the container has gone", func() bool { return vanished(e, "cat") })
		eventually(t, "the keeper has gone", func() bool { return ended(keeper) })
		same(t, "output with log driver "+driver, late.all(t), c.want)
	}
	e.Clean(t)
}
