package integrationcli

import (
	"archive/tar"
	"bytes"
	"debug/buildinfo"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"gantry/internal/testutil/engine"
)

// confine puts the daemon, and the shims it starts from then on, into a cgroup of one
// cgroup v1 controller.
func confine(t *testing.T, e *engine.Engine, controller, file, limit string) {
	t.Helper()
	root := filepath.Join("/sys/fs/cgroup", controller)
	dir := filepath.Join(root, fmt.Sprintf("gantry-short-%d", e.PID()))
	if _, err := os.Stat(filepath.Join(root, "cgroup.procs")); err != nil {
		t.Skipf("needs the cgroup v1 controller %s: %v", controller, err)
	}
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Skipf("needs cgroups that can be made: %v", err)
	}
	t.Cleanup(func() {
		e.Clean(t)
		raw, _ := os.ReadFile(filepath.Join(dir, "cgroup.procs"))
		for _, pid := range strings.Fields(string(raw)) {
			os.WriteFile(filepath.Join(root, "cgroup.procs"), []byte(pid), 0)
		}
		eventually(t, "the cgroup goes", func() bool { return unix.Rmdir(dir) == nil })
	})
	for name, value := range map[string]string{file: limit, "cgroup.procs": itoa(e.PID())} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(value), 0); err != nil {
			t.Fatal(err)
		}
	}
}

// endless gives n bytes of a pattern, after head and before tail.
func endless(head string, n int64, pattern, tail string) io.Reader {
	return io.MultiReader(strings.NewReader(head), io.LimitReader(repeat(pattern), n), strings.NewReader(tail))
}

type repeat string

func (r repeat) Read(p []byte) (int, error) {
	n := 0
	for n < len(p) {
		n += copy(p[n:], r)
	}
	return n - n%len(r), nil
}

// packed is a tar of entries that are made while it is read.
func packed(fill func(w *tar.Writer) error) io.Reader {
	r, w := io.Pipe()
	go func() {
		tw := tar.NewWriter(w)
		err := fill(tw)
		if err == nil {
			err = tw.Close()
		}
		w.CloseWithError(err)
	}()
	return r
}

func entry(w *tar.Writer, name string, size int64, body io.Reader) error {
	if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: size}); err != nil {
		return err
	}
	_, err := io.Copy(w, io.LimitReader(body, size))
	return err
}

// TestMemoryShort sends what a small daemon must not keep in memory: it refuses, and
// lives.
func TestMemoryShort(t *testing.T) {
	engine.CoreInside(t, "what the engine lacks it does not")
	e := start(t)
	limit := 320 << 20
	if raced(t) {
		limit *= 4
	}
	confine(t, e, "memory", "memory.limit_in_bytes", itoa(limit))
	size := int64(scale(4<<30, 600<<20))
	for _, tc := range []struct {
		name, path, kind string
		header           http.Header
		body             io.Reader
		want             []int
	}{
		{"JSON of one string", "/containers/create", "application/json", nil, endless(`{"Image":"`, size, "aaaaaaaa", `"}`), []int{400, 413}},
		{"JSON of many values", "/containers/create", "application/json", nil, endless(`{"Env":["a"`, size, `,"aaaaa"`, `]}`), []int{400, 413}},
		{"JSON of nested lists", "/containers/create", "application/json", nil, endless(`{"Cmd":`, size, "[[[[[[[[", ``), []int{400, 413}},
		{"exec", "/containers/x/exec", "application/json", nil, endless(`{"Cmd":["`, size, "aaaaaaaa", `"]}`), []int{400, 404, 413}},
		{"build", "/build", "application/x-tar", nil, endless("", size, "aaaaaaaa", ""), []int{501, 500}},
		{"big header", "/volumes/create", "application/json", http.Header{"X-Registry-Auth": {strings.Repeat("a", 4<<20)}}, strings.NewReader("{}"), []int{431}},
		{"load of a huge manifest", "/images/load?quiet=1", "application/x-tar", nil, packed(func(w *tar.Writer) error {
			return entry(w, "manifest.json", size, endless(`[{"Config":"`, size, "aaaaaaaa", ""))
		}), []int{400, 500, 200}},
		{"load of many entries", "/images/load?quiet=1", "application/x-tar", nil, packed(func(w *tar.Writer) error {
			for i := range scale(1_000_000, 100_000) {
				if err := entry(w, fmt.Sprintf("blobs/sha256/%064x", i), 1, strings.NewReader("x")); err != nil {
					return err
				}
			}
			return nil
		}), []int{400, 500, 200}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			req, err := http.NewRequest("POST", "http://gantry/v1.51"+tc.path, tc.body)
			if err != nil {
				t.Fatal(err)
			}
			for k, v := range tc.header {
				req.Header[k] = v
			}
			req.Header.Set("Content-Type", tc.kind)
			c := e.HTTP()
			c.Timeout = 2 * time.Minute
			resp, err := c.Do(req)
			if err != nil { // refused before all of it was sent
				if !strings.Contains(err.Error(), "broken pipe") && !strings.Contains(err.Error(), "connection reset") {
					t.Error(err)
				}
				return
			}
			defer resp.Body.Close()
			text, _ := io.ReadAll(io.LimitReader(resp.Body, 4096))
			ok := false
			for _, code := range tc.want {
				ok = ok || resp.StatusCode == code
			}
			if !ok || resp.StatusCode == 200 && !bytes.Contains(text, []byte("errorDetail")) {
				t.Errorf("status %d: %.300s", resp.StatusCode, text)
			}
		})
	}
	t.Run("a long line and many readers", func(t *testing.T) { longLine(t, e) })
	if syscall.Kill(e.PID(), 0) != nil {
		t.Fatal("the daemon is gone")
	}
	if peak := statusKB(t, e.PID(), "VmHWM"); peak > limit>>10 {
		t.Errorf("the daemon's memory was %d KiB at its peak", peak)
	} else {
		t.Logf("the daemon's memory was %d KiB at its peak", peak)
	}
	if got := e.Must("run", "--rm", image, "echo", "well"); got != "well" {
		t.Errorf("afterwards %q", got)
	}
}

// raced says whether the daemon has the race detector, which multiplies memory.
func raced(t *testing.T) bool {
	t.Helper()
	info, err := buildinfo.ReadFile(engine.Binary(t, "gantryd"))
	if err != nil {
		t.Fatal(err)
	}
	return slices.Contains(info.Settings, debug.BuildSetting{Key: "-race", Value: "true"})
}

// longLine has a container write one line without an end, to many clients that read
// and some that do not.
func longLine(t *testing.T, e *engine.Engine) {
	mb := scale(1024, 12)
	e.Must("create", "--name", "line", image, "sh", "-c", fmt.Sprintf("sleep 1; dd if=/dev/zero bs=1M count=%d | tr '\\0' a", mb))
	var wg sync.WaitGroup
	for i := range 12 {
		c, err := net.Dial("unix", e.Socket())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if i < 4 { // reads nothing
			fmt.Fprint(c, "GET /v1.51/containers/line/logs?follow=1&stdout=1 HTTP/1.1\r\nHost: x\r\n\r\n")
			continue
		}
		fmt.Fprint(c, "POST /v1.51/containers/line/attach?stream=1&stdout=1 HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n")
		wg.Go(func() {
			n, _ := io.Copy(io.Discard, c)
			if n < int64(mb)<<20 {
				t.Errorf("a reader got %d bytes", n)
			}
		})
	}
	time.Sleep(200 * time.Millisecond)
	e.Must("start", "line")
	wg.Wait()
	if got := e.Must("wait", "line"); got != "0" {
		t.Errorf("exit code %s", got)
	}
	e.Must("rm", "line")
}

func statusKB(t *testing.T, pid int, key string) int {
	t.Helper()
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	for l := range strings.Lines(string(raw)) {
		if f := strings.Fields(l); len(f) > 1 && f[0] == key+":" {
			n, _ := strconv.Atoi(f[1])
			return n
		}
	}
	t.Fatalf("no %s", key)
	return 0
}
