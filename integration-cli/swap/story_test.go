package swap

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// story is a script that is told on several runtimes. In it $N is a name for its
// containers, $I the test image, $T a directory of its own; d is docker, run is
// "docker run" on the runtime, and tty runs a command line on a terminal of 33 lines
// and 91 columns.
type story struct {
	name   string
	script string
	// want is all of stdout; "…" stands for any text. Where it is empty only the other
	// runtimes are compared with.
	want string
	// errs compares stderr, too: what is said of a failure.
	errs bool
	// long stories are told only at full length.
	long bool
	// not are callers that can't tell it, or runtimes that can't run it.
	not []string
}

// caller is a program that runs containers on a runtime.
type caller struct {
	name    string
	prelude string // shell functions d and run
	env     []string
	dir     string
}

// ending is how a story went.
type ending struct {
	stdout, stderr string
}

const common = `
tty() { script -qefc "stty rows 33 cols 91; $*" /dev/null; }
cgroup() { for f in "$@"; do cat /sys/fs/cgroup/$f 2>/dev/null; done; }
until_says() { for i in $(seq 100); do d logs "$1" 2>&1 | grep -q "$2" && return; sleep .05; done; echo "$1 does not say $2"; }
`

// tell runs a story's script.
func (c caller) tell(t *testing.T, s story, runtime string) ending {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	dir := t.TempDir()
	name := nameOf(s, filepath.Base(runtime))
	cmd := exec.CommandContext(ctx, "sh", "-c", c.prelude+common+s.script)
	cmd.Env = append(append(os.Environ(), c.env...), "R="+runtime, "N="+name, "I=busybox:test", "T="+dir)
	cmd.Dir = dir // conmon leaves a file "oom" where it is
	cmd.WaitDelay = 2 * time.Second
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) || ctx.Err() != nil {
		t.Fatalf("%s: %v\n%s%s", s.name, errors.Join(err, ctx.Err()), out.String(), errs.String())
	}
	plain := strings.NewReplacer(name, "NAME", dir, "DIR", "\r", "")
	return ending{same(plain.Replace(out.String())), same(plain.Replace(errs.String()))}
}

func nameOf(s story, runtime string) string {
	return strings.ReplaceAll(s.name, " ", "-") + "-" + strings.ReplaceAll(runtime, ".", "-")
}

// differences are what may differ between two runtimes' texts.
var differences = []struct {
	re *regexp.Regexp
	to string
}{
	{regexp.MustCompile(`\b[0-9a-f]{64}\b`), "ID"},
	{regexp.MustCompile(`\b[0-9a-f]{12}\b`), "ID"},
	{regexp.MustCompile(`\b[cg]run create failed`), "runc create failed"},
	{regexp.MustCompile(`(?m)^Error: [cg]run: `), "Error: runc: "},
	// Of runc since 1.5, where delete --force finds nothing.
	{regexp.MustCompile(`(?m)^container does not exist\n`), ""},
	// Of runc since 1.2.
	{regexp.MustCompile(`container process: error during container init: `), "container process: "},
}

func same(text string) string {
	for _, d := range differences {
		text = d.re.ReplaceAllString(text, d.to)
	}
	return text
}

// compare tells every story on the first runtime, which is to be compared with unless it
// is "", and on each of the others. The first is spared, but at full length, where what it says is
// written down. Stories run side by side, few at a time.
func (c caller) compare(t *testing.T, stories []story, runtimes ...string) {
	turns := make(chan struct{}, 3)
	for _, s := range stories {
		if slices.Contains(s.not, c.name) || s.long && !fullLength() {
			continue
		}
		t.Run(filepath.Base(strings.Join(runtimes[1:], "+"))+"/"+s.name, func(t *testing.T) {
			t.Parallel()
			turns <- struct{}{}
			defer func() { <-turns }()
			var model *ending
			for _, r := range runtimes {
				if r == "" || slices.Contains(s.not, r) || r == runtimes[0] && s.want != "" && !s.errs && !fullLength() {
					continue // what the first says is written down
				}
				got := c.tell(t, s, r)
				if s.want != "" && !matches(got.stdout, s.want) {
					t.Errorf("on %s, stdout:\n%s\nwant\n%s\nstderr:\n%s", r, got.stdout, s.want, got.stderr)
				}
				if model == nil {
					model = &got
					continue
				}
				if got.stdout != model.stdout {
					t.Errorf("on %s, stdout:\n%s\nfirst\n%s\nstderr:\n%s\nfirst\n%s", r, got.stdout, model.stdout, got.stderr, model.stderr)
				}
				if s.errs && r != "crun" && got.stderr != model.stderr {
					t.Errorf("on %s, stderr:\n%s\nfirst\n%s", r, got.stderr, model.stderr)
				}
			}
		})
	}
}

func fullLength() bool { return os.Getenv("GANTRY_SOAK") == "1" }

// matches says whether a text is the pattern, in which "…" is any text.
func matches(text, pattern string) bool {
	parts := strings.Split(pattern, "…")
	for i, p := range parts {
		parts[i] = regexp.QuoteMeta(p)
	}
	return regexp.MustCompile(`(?s)\A` + strings.Join(parts, ".*") + `\s*\z`).MatchString(text)
}

// output is what a process writes while it is read; safe for concurrent use.
type output struct {
	mu  sync.Mutex
	buf bytes.Buffer // guarded by mu
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}
