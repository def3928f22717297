package integrationcli

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"gantry/internal/testutil/engine"
)

// The long proofs run at full length with GANTRY_SOAK=1, as make soak does, and
// scaled down otherwise.
func scale(full, small int) int {
	if os.Getenv("GANTRY_SOAK") == "1" {
		return full
	}
	return small
}

// ask makes one request and returns status and body; unlike do it may be used from
// any goroutine, and the daemon may be gone.
func ask(e *engine.Engine, method, path string, body any) (int, string, error) {
	var in io.Reader
	if body != nil {
		raw, err := json.Marshal(body)
		if err != nil {
			return 0, "", err
		}
		in = bytes.NewReader(raw)
	}
	req, err := http.NewRequest(method, "http://gantry/v1.51"+path, in)
	if err != nil {
		return 0, "", err
	}
	req.Header.Set("Content-Type", "application/json")
	r, err := e.HTTP().Do(req)
	if err != nil {
		return 0, "", err
	}
	defer r.Body.Close()
	raw, err := io.ReadAll(r.Body)
	return r.StatusCode, string(raw), err
}

// want is ask that must be answered with the status.
func want(e *engine.Engine, status int, method, path string, body any) (string, error) {
	got, text, err := ask(e, method, path, body)
	if err == nil && got != status {
		err = fmt.Errorf("status %d, want %d: %s", got, status, strings.TrimSpace(text))
	}
	if err != nil {
		return "", fmt.Errorf("%s %s: %w", method, path, err)
	}
	return text, nil
}

// field is a string member of a JSON object.
func field(text, name string) string {
	var m map[string]any
	json.Unmarshal([]byte(text), &m)
	s, _ := m[name].(string)
	return s
}

type object = map[string]any

// sleeper is the create request of a container that does nothing.
func sleeper(mode string) object {
	return object{"Image": image, "Cmd": []string{"sleep", "1000"}, "HostConfig": object{"NetworkMode": mode}}
}

// lanes runs f in n goroutines and reports their errors.
func lanes(t *testing.T, n int, f func(lane int) error) {
	t.Helper()
	var wg sync.WaitGroup
	for lane := range n {
		wg.Go(func() {
			if err := f(lane); err != nil {
				t.Errorf("lane %d: %v", lane, err)
			}
		})
	}
	wg.Wait()
}

// usage is what a process holds; heap and goroutines are known of the daemon only.
type usage struct{ fds, threads, rss, heap, goroutines int }

func (u usage) String() string {
	return fmt.Sprintf("%d fds, %d threads, %d KiB RSS, %d KiB heap, %d goroutines", u.fds, u.threads, u.rss, u.heap, u.goroutines)
}

func usageOf(t *testing.T, pid int) usage {
	t.Helper()
	dir := filepath.Join("/proc", itoa(pid))
	fds, err := os.ReadDir(dir + "/fd")
	if err != nil {
		t.Fatal(err)
	}
	status, err := os.ReadFile(dir + "/status")
	if err != nil {
		t.Fatal(err)
	}
	u := usage{fds: len(fds)}
	for s := bufio.NewScanner(bytes.NewReader(status)); s.Scan(); {
		f := strings.Fields(s.Text())
		if len(f) < 2 {
			continue
		}
		switch n, _ := strconv.Atoi(f[1]); f[0] {
		case "Threads:":
			u.threads = n
		case "VmRSS:":
			u.rss = n
		}
	}
	return u
}

// usageOfDaemon is taken once what runs behind the answers has come to rest: when the
// goroutines are no more than limit, or two seconds have passed.
func usageOfDaemon(t *testing.T, e *engine.Engine, limit int) usage {
	t.Helper()
	var n int
	for deadline := time.Now().Add(2 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		_, stacks := do(t, e, "GET", "/debug/pprof/goroutine?debug=1", "")
		if _, err := fmt.Sscanf(stacks, "goroutine profile: total %d", &n); err != nil {
			t.Fatalf("%v in %.200s", err, stacks)
		}
		if n <= limit || time.Now().After(deadline) {
			break
		}
	}
	do(t, e, "GET", "/debug/pprof/heap?gc=1", "")
	_, vars := do(t, e, "GET", "/debug/vars", "")
	var v struct{ Memstats struct{ HeapAlloc int } }
	if err := json.Unmarshal([]byte(vars), &v); err != nil {
		t.Fatal(err)
	}
	u := usageOf(t, e.PID())
	u.heap, u.goroutines = v.Memstats.HeapAlloc>>10, n
	return u
}

// flat fails when a process holds clearly more than it did: what n repetitions would
// show if each left a descriptor, a goroutine or a KiB or two.
func flat(t *testing.T, who string, n int, before, after usage) {
	t.Helper()
	t.Logf("%s before: %v", who, before)
	t.Logf("%s after %d: %v", who, n, after)
	for _, x := range []struct {
		what        string
		before, now int
		slack       int
	}{
		{"descriptors", before.fds, after.fds, 12},
		{"goroutines", before.goroutines, after.goroutines, 12},
		{"threads", before.threads, after.threads, 24},
		{"KiB heap", before.heap, after.heap, 4<<10 + before.heap/4},
		{"KiB RSS", before.rss, after.rss, 32<<10 + before.rss/4},
	} {
		if x.now > x.before+x.slack {
			t.Errorf("%s has %d %s after %d repetitions, and had %d", who, x.now, x.what, n, x.before)
		}
	}
}

// shimOf is the pid of a container's shim: its init's parent.
func shimOf(t *testing.T, e *engine.Engine, ref string) int {
	t.Helper()
	raw, err := os.ReadFile("/proc/" + itoa(inspect(t, e, ref).State.Pid) + "/stat")
	if err != nil {
		t.Fatal(err)
	}
	f := strings.Fields(string(raw[bytes.LastIndexByte(raw, ')')+1:]))
	pid, err := strconv.Atoi(f[1])
	if err != nil || pid < 2 {
		t.Fatalf("parent of %s's init: %q", ref, raw)
	}
	return pid
}
