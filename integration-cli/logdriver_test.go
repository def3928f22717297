package integrationcli

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"gantry/internal/testutil/engine"
)

// countLines prints numbered lines from 0 to n-1.
func countLines(n int) string {
	return fmt.Sprintf("i=0; while [ $i -lt %d ]; do echo line $i; i=$((i+1)); done", n)
}

// consecutive checks that lines are numbered one after the other, up to last, and says
// how many there are.
func consecutive(t *testing.T, what, text string, last int) int {
	t.Helper()
	lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
	first := last - len(lines) + 1
	for i, l := range lines {
		if want := fmt.Sprintf("line %d", first+i); l != want {
			t.Errorf("%s: line %d of %d is %q, not %q", what, i, len(lines), l, want)
			return len(lines)
		}
	}
	return len(lines)
}

// inDir lists what is in a container's directory, below a folder.
func inDir(t *testing.T, e *engine.Engine, container, folder string) (names []string) {
	t.Helper()
	id := e.Must("inspect", "-f", "{{.Id}}", container)
	entries, err := os.ReadDir(filepath.Join(e.Dir, "data", "containers", id, folder))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range entries {
		names = append(names, strings.ReplaceAll(f.Name(), id, "ID"))
	}
	return names
}

// logsOf is what `docker logs` gives, both streams in one.
func logsOf(e *engine.Engine, args ...string) string {
	r := e.Docker(append([]string{"logs"}, args...)...)
	return r.Stdout + r.Stderr
}

// TestLogOptions pins what is refused, and in which words.
func TestLogOptions(t *testing.T) {
	e := start(t)
	for _, tt := range []struct {
		name, args, err string
	}{
		{"unknown driver", "--log-driver nope", "logger: no log driver named 'nope' is registered"},
		{"json-file's keys", "--log-opt nope=1", "unknown log opt 'nope' for json-file log driver"},
		{"local's keys", "--log-driver local --log-opt tag=x", "unknown log opt 'tag' for log driver local"},
		{"mode", "--log-opt mode=nope", "logger: logging mode not supported: nope"},
		{"buffer of a blocking log", "--log-opt max-buffer-size=1m", "logger: max-buffer-size option is only supported with 'mode=non-blocking'"},
		{"buffer", "--log-opt mode=non-blocking --log-opt max-buffer-size=x", "error parsing option max-buffer-size: invalid size: 'x'"},
		{"cache", "--log-opt cache-disabled=x", "invalid value for option cache-disabled: x"},
		{"max-size", "--log-opt max-size=x", "failed to initialize logging driver: invalid size: 'x'"},
		{"no max-size", "--log-opt max-size=0", "failed to initialize logging driver: max-size must be a positive number"},
		{"max-file", "--log-opt max-file=0", "failed to initialize logging driver: max-file cannot be less than 1"},
		{"compressing one file", "--log-opt compress=true --log-opt max-file=1", "failed to initialize logging driver: compress cannot be true when max-file is less than 2 or max-size is not set"},
		{"compressing one local file", "--log-driver local --log-opt max-file=1", "failed to initialize logging driver: compression cannot be enabled when max file count is 1"},
		{"local's size", "--log-driver local --log-opt max-size=x", "failed to initialize logging driver: invalid value for max-size: x: invalid size: 'x'"},
		{"tag", "--log-opt tag={{.Nope}}", "can't evaluate field Nope"},
		{"pattern", "--log-opt labels-regex=(", "error parsing regexp: missing closing ): `(`"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := e.Docker(append(append([]string{"create"}, strings.Fields(tt.args)...), image, "true")...)
			if r.Code == 0 || !strings.Contains(r.Stderr, tt.err) {
				t.Errorf("%d %q %q", r.Code, r.Stdout, r.Stderr)
			}
		})
	}
	none := object{"Type": "none", "Config": object{"nope": "1", "mode": "nope"}}
	if status, text, err := ask(e, "POST", "/containers/create", object{"Image": image, "HostConfig": object{"LogConfig": none}}); err != nil || status != 201 {
		t.Errorf("none takes everything, but: %d %s %v", status, text, err)
	}
	if got := e.Must("info", "-f", "{{.LoggingDriver}} {{.Plugins.Log}}"); !strings.HasPrefix(got, "json-file [") || !strings.Contains(got, "json-file local") {
		t.Errorf("info tells %q", got)
	}
}

// TestLogFiles keeps a log in each form, over rotation, compression and a new run, and
// reads it in all ways.
func TestLogFiles(t *testing.T) {
	e := start(t)
	for _, tt := range []struct {
		name, folder string
		args         []string
		files        []string
	}{
		{"json-file", "", nil, []string{"ID-json.log", "ID-json.log.1", "ID-json.log.2", "ID-json.log.3"}},
		{"compressed", "", []string{"--log-opt", "compress=true"}, []string{"ID-json.log", "ID-json.log.1.gz", "ID-json.log.2.gz", "ID-json.log.3.gz"}},
		{"local", "local-logs", []string{"--log-driver", "local"}, []string{"container.log", "container.log.1.gz", "container.log.2.gz", "container.log.3.gz"}},
		{"non-blocking", "", []string{"--log-opt", "mode=non-blocking", "--log-opt", "max-buffer-size=4m"}, []string{"ID-json.log", "ID-json.log.1", "ID-json.log.2", "ID-json.log.3"}},
		{"cache", "", []string{"--log-driver", "gelf", "--log-opt", "gelf-address=udp://127.0.0.1:9", "--log-opt", "cache-max-size=8k", "--log-opt", "cache-max-file=4"}, []string{"container-cached.log", "container-cached.log.1.gz", "container-cached.log.2.gz", "container-cached.log.3.gz"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			args := []string{"run", "-d", "--name", tt.name}
			if tt.name != "cache" {
				args = append(args, "--log-opt", "max-size=8k", "--log-opt", "max-file=4")
			}
			// In the end it waits, so that the compressor may come to its end.
			e.Must(slices.Concat(args, tt.args, []string{image, "sh", "-c", countLines(1500) + "; printf 'no end'; sleep 1000"})...)
			files := func() []string {
				return slices.DeleteFunc(inDir(t, e, tt.name, tt.folder), func(name string) bool {
					return !strings.Contains(name, "log") || name == "local-logs"
				})
			}
			if !becomesTrue(20*time.Second, func() bool {
				return strings.HasSuffix(e.Must("logs", "--tail", "1", tt.name), "line 1499") && slices.Equal(files(), tt.files)
			}) {
				t.Fatalf("files %q, the end %q", files(), e.Must("logs", "--tail", "1", tt.name))
			}
			if n := consecutive(t, "all", e.Must("logs", tt.name), 1499); n < 100 || n > 1400 {
				t.Errorf("%d lines are kept", n)
			}
			for _, n := range []int{1, 50, 300, 700} {
				if got := consecutive(t, "the last", e.Must("logs", "--tail", itoa(n), tt.name), 1499); got > n {
					t.Errorf("--tail %d gives %d lines", n, got)
				}
			}
			e.Must("stop", "-t", "0", tt.name)
			kept := e.Must("logs", tt.name)
			if head, ok := strings.CutSuffix(kept, "\nno end"); !ok {
				t.Errorf("ends in %q", kept[max(0, len(kept)-30):])
			} else {
				consecutive(t, "after the end", head, 1499)
			}
			if got := e.Must("logs", "--tail", "all", "--since", "10m", "--until", "-10m", tt.name); got != kept {
				t.Errorf("between two times there are %d bytes, not %d", len(got), len(kept))
			}
			for _, odd := range []string{"nonsense", "-5"} {
				if got := e.Must("logs", "--tail="+odd, tt.name); got != kept {
					t.Errorf("--tail=%s gives %d bytes", odd, len(got))
				}
			}
			if path := e.Must("inspect", "-f", "{{.LogPath}}", tt.name); (path != "") != strings.HasPrefix(tt.files[0], "ID") {
				t.Errorf("LogPath is %q", path)
			}
			e.Must("start", tt.name)
			if !becomesTrue(10*time.Second, func() bool { return strings.HasSuffix(e.Must("logs", "--tail", "1", tt.name), "line 1499") }) {
				t.Error("the next run's end does not come")
			}
			e.Must("rm", "-f", tt.name)
		})
	}
}

// TestLogHidden pins which logs are not read.
func TestLogHidden(t *testing.T) {
	e := start(t, "--log-opt", "cache-disabled=true", "--log-opt", "max-size=1m")
	const sentence = "configured logging driver does not support reading"
	gelf := []string{"--log-driver", "gelf", "--log-opt", "gelf-address=udp://127.0.0.1:9"}
	e.Must(slices.Concat([]string{"run", "--name", "hidden"}, gelf, []string{image, "echo", "hi"})...) // by the daemon's options
	e.Must(slices.Concat([]string{"run", "--name", "shown"}, gelf, []string{"--log-opt", "cache-disabled=false", image, "echo", "hi"})...)
	e.Must("run", "--name", "own", image, "echo", "hi")
	for name, ok := range map[string]bool{"hidden": false, "shown": true, "own": true} {
		r := e.Docker("logs", name)
		if ok && r.Stdout != "hi\n" || !ok && !strings.Contains(r.Stderr, sentence) {
			t.Errorf("%s: %+v", name, r)
		}
	}
	if r := e.Docker("attach", "--no-stdin", "hidden"); r.Code == 0 {
		t.Errorf("attach to what is down: %+v", r)
	}
}

// TestLogAttributes pins what a log tells of its container.
func TestLogAttributes(t *testing.T) {
	e := start(t)
	e.Must("run", "--name", "attrs", "-l", "team=a b", "-l", "com.example.x=1", "-e", "HOME_OF=x", "-e", "OTHER=y",
		"--log-opt", "labels=team,none", "--log-opt", "labels-regex=^com", "--log-opt", "env=HOME_OF", "--log-opt", "env-regex=^OTH",
		"--log-opt", "tag={{.DaemonName}}/{{.Name}}/{{upper .ImageName}}/{{.Command}}", image, "echo", "hi")
	want := "HOME_OF=x,OTHER=y,com.example.x=1,tag=docker%2Fattrs%2F" + strings.ToUpper(strings.NewReplacer("/", "%2F", ":", "%3A").Replace(image)) + "%2Fecho+hi,team=a+b hi"
	if got := e.Must("logs", "--details", "attrs"); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	e.Must("run", "--name", "plain", image, "echo", "hi")
	if got := e.Docker("logs", "--details", "plain").Stdout; got != " hi\n" {
		t.Errorf("without attributes %q", got)
	}
	id := e.Must("run", "-d", "--name", "ids", "--log-opt", "tag={{.ID}} {{.FullID}} {{.ImageID}} {{.ImageFullID}}", "--log-opt", "max-size=1m", image, "echo", "hi")
	img := e.Must("inspect", "-f", "{{.Image}}", "ids")
	want = "tag=" + strings.ReplaceAll(strings.Join([]string{id[:12], id, img[:12], img}, "+"), ":", "%3A") + " hi"
	e.Must("wait", "ids")
	if got := e.Must("logs", "--details", "ids"); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// TestLogFollowers follow a log that rotates and is compressed under them, from its
// beginning and from the middle, while the engine dies and comes again.
func TestLogFollowers(t *testing.T) {
	t.Parallel()
	e := start(t)
	const n = 6000
	for _, driver := range []string{"json-file", "local"} {
		e.Must("run", "-d", "--name", driver, "--log-driver", driver, "--log-opt", "max-size=20k", "--log-opt", "max-file=200",
			"--log-opt", "compress=true", image, "sh", "-c", "until [ -e /go ]; do sleep 0.05; done; "+countLines(n/2)+"; until [ -e /on ]; do sleep 0.05; done; "+
				strings.Replace(countLines(n), "i=0", "i="+itoa(n/2), 1)+"; sleep 1000")
	}
	both := func(f func(driver string)) {
		for _, driver := range []string{"json-file", "local"} {
			f(driver)
		}
	}
	follow := func() (wait func()) {
		var followers sync.WaitGroup
		both(func(driver string) {
			for range 2 {
				followers.Go(func() {
					consecutive(t, "followed "+driver, e.Docker("logs", "-f", driver).Stdout, n-1)
				})
			}
		})
		return followers.Wait
	}
	both(func(driver string) { e.Must("exec", driver, "touch", "/go") })
	both(func(driver string) {
		if !becomesTrue(30*time.Second, func() bool { return strings.Contains(logsOf(e, "--tail", "1", driver), "line 2999") }) {
			t.Fatal("the first half does not come")
		}
	})
	pids := map[string]int{}
	both(func(driver string) { pids[driver] = inspect(t, e, driver).State.Pid })
	e.Kill() // the second half begins without an engine
	both(func(driver string) {
		if err := os.WriteFile(fmt.Sprintf("/proc/%d/root/on", pids[driver]), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	})
	time.Sleep(100 * time.Millisecond)
	e.Launch()
	wait := follow()
	both(func(driver string) {
		if !becomesTrue(30*time.Second, func() bool { return strings.Contains(logsOf(e, "--tail", "1", driver), "line 5999") }) {
			t.Error("the end does not come")
		}
		e.Must("stop", "-t", "0", driver)
	})
	wait()
	both(func(driver string) {
		if got := consecutive(t, driver, e.Must("logs", driver), n-1); got != n {
			t.Errorf("%s has %d lines", driver, got)
		}
	})
}
