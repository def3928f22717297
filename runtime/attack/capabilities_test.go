package attack_test

import (
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// showCaps prints one set of the process's capabilities as the kernel has it.
const showCaps = "grep -E '^Cap(Inh|Amb)' /proc/self/status"

const none = "CapInh:\t0000000000000000\nCapAmb:\t0000000000000000\n"

// TestInheritable is CVE-2022-29162 and CVE-2022-24769: exec --cap, and engines' default
// specs, left capabilities inheritable, so that a user who is not root got them from any
// file that has them inheritable.
func TestInheritable(t *testing.T) {
	g := newGround(t)
	b := g.box("box", "sh", "-c", showCaps)
	if out := b.mustRun(); out != none {
		t.Errorf("run: %q", out)
	}
	b.spec.Process.User = specs.User{UID: 1000}
	if out := b.mustRun(); out != none {
		t.Errorf("run of a user: %q", out)
	}
	b.spec.Process.User = specs.User{}
	b.spec.Process.Args = []string{"sleep", "1000"}
	b.start()
	for _, flags := range []string{"", "--cap CAP_NET_RAW", "--cap CAP_SYS_ADMIN --cap CAP_SYS_PTRACE", "--user 1000", "--user 1000 --cap CAP_SYS_ADMIN"} {
		out, err := b.exec(append(strings.Fields(flags), b.id, "sh", "-c", showCaps)...)
		if err != nil || !strings.Contains(out, "CapInh:\t0000000000000000") {
			t.Errorf("exec %s: %q, %v", flags, out, err)
		}
	}
}

// TestInheritableAsked: what is asked for is there, and so would be seen.
func TestInheritableAsked(t *testing.T) {
	g := newGround(t)
	b := g.box("box", "sh", "-c", showCaps)
	b.spec.Process.Capabilities.Inheritable = []string{"CAP_KILL"}
	if out := b.mustRun(); !strings.Contains(out, "CapInh:\t0000000000000020") {
		t.Errorf("%q", out)
	}
}
