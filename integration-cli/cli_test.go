package integrationcli

import (
	"strings"
	"testing"

	"gantry/internal/testutil/busybox"
	"gantry/internal/testutil/engine"
)

const image = "busybox:test"

// start runs an engine that has the test image.
func start(t *testing.T, args ...string) *engine.Engine {
	t.Helper()
	e := engine.Start(t, args...)
	e.Load(busybox.Archive(t, busybox.Config{}, image))
	return e
}

// row is one docker command and how it must end. Empty texts are not compared but
// for out, where "-" means that there is none; a text that ends or begins with an
// ellipsis is a prefix or suffix, with both a part.
type row struct {
	name  string
	args  []string
	stdin string
	code  int
	out   string
	err   string
}

func run(t *testing.T, e *engine.Engine, rows []row) {
	for _, r := range rows {
		t.Run(r.name, func(t *testing.T) {
			got := e.DockerIn(r.stdin, r.args...)
			if got.Code != r.code {
				t.Errorf("docker %s: exit %d, want %d", strings.Join(r.args, " "), got.Code, r.code)
			}
			compare(t, "stdout", got.Stdout, r.out)
			compare(t, "stderr", got.Stderr, r.err)
			e.Clean(t)
		})
	}
}

func compare(t *testing.T, what, got, want string) {
	t.Helper()
	got = strings.TrimRight(strings.ReplaceAll(got, "\r\n", "\n"), "\n")
	tail, anyHead := strings.CutPrefix(want, "…")
	head, anyTail := strings.CutSuffix(tail, "…")
	var ok bool
	switch {
	case want == "":
		ok = true
	case want == "-":
		ok = got == ""
	case anyHead && anyTail:
		ok = strings.Contains(got, head)
	case anyHead:
		ok = strings.HasSuffix(got, tail)
	case anyTail:
		ok = strings.HasPrefix(got, head)
	default:
		ok = got == want
	}
	if !ok {
		t.Errorf("%s:\n%q\nwant\n%q", what, got, want)
	}
}

func sh(script string, flags ...string) []string {
	return append(append([]string{"run", "--rm"}, flags...), image, "sh", "-c", script)
}
