package clients

import (
	"regexp"
	"strings"
	"testing"
)

// step is a command of a story. In its words, and in what is expected of its output,
// $R is the registry's host and $D a directory of the teller.
type step struct {
	args  string // split at spaces; a word in '' is one
	stdin string
	// loose steps need only end alike: what they print is about time, load or the daemon.
	loose bool
	// want is a word that the output must have, on both.
	want string
}

// tell plays a story and returns what each step printed, without what differs between
// two runs of one core.
func (c core) tell(t *testing.T, program string, story []step, replace ...string) []result {
	t.Helper()
	all := make([]result, len(story))
	r := strings.NewReplacer(append(replace, "$D", c.dir)...)
	for i, s := range story {
		args := words(r.Replace(s.args))
		got := c.run(t, s.stdin, program, args...)
		if want := r.Replace(s.want); !strings.Contains(got.out, want) {
			t.Errorf("%s: %s: no %q in %q (exit code %d)", c.name, s.args, want, got.out, got.code)
		}
		got.out = strings.ReplaceAll(plain(got.out), c.dir, "$D")
		all[i] = got
	}
	return all
}

// alike compares two tellings.
func alike(t *testing.T, story []step, a, b core, ra, rb []result) {
	t.Helper()
	for i, s := range story {
		if ra[i].code != rb[i].code || !s.loose && ra[i].out != rb[i].out {
			t.Errorf("%s\n%s: code %d\n%s\n%s: code %d\n%s", s.args, a.name, ra[i].code, ra[i].out, b.name, rb[i].code, rb[i].out)
		}
	}
}

// words splits at spaces; what is between two ' is one word.
func words(line string) (out []string) {
	for i, part := range strings.Split(line, "'") {
		if i%2 == 1 {
			out = append(out, part)
		} else {
			out = append(out, strings.Fields(part)...)
		}
	}
	return out
}

var changing = []struct {
	pattern *regexp.Regexp
	name    string
}{
	{regexp.MustCompile(`\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?( ?[+-]\d\d:?\d\d)?( UTC|Z)?`), "TIME"},
	{regexp.MustCompile(`\b\d+(\.\d+)?(ns|µs|ms|s)\b`), "DURATION"},
	{regexp.MustCompile(`\b\d+(\.\d+)? (s|seconds?|minutes?)( ago)?\b`), "DURATION"},
	{regexp.MustCompile(`\b\d+(\.\d+)? ?([KMG]i)?B(/s)?`), "SIZE"},
	{regexp.MustCompile(`\bextract-\d+-\S+`), "EXTRACT"},
	{regexp.MustCompile(`(?m)^(\S+\s+)\d+(\s+(RUNNING|STOPPED|PAUSED|CREATED))`), "${1}PID$2"},
	{regexp.MustCompile(`(?m)^\d+(\s+)-\s*$`), "PID -"},
	{regexp.MustCompile(`\bpid \d+`), "pid N"},
	{regexp.MustCompile(`[ \t]+(\n|$)`), "$1"},
	{regexp.MustCompile(`[ \t]{2,}`), "  "},
}

func plain(text string) string {
	for _, c := range changing {
		text = c.pattern.ReplaceAllString(text, c.name)
	}
	return text
}
