package plan

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"gantry/runtime/program"
)

// timeNamespace makes the time namespace and enters it once its offsets are written, for
// which nobody may be in it yet. (execve would enter it too, but not before Linux 6.3.) The
// child of a user namespace can't open the file of the offsets, which is the host's root's.
func (b *builder) timeNamespace() {
	if b.ns.fresh&unix.CLONE_NEWTIME == 0 {
		return
	}
	b.Label("make time namespace")
	b.Unshare(unix.CLONE_NEWTIME)
	if offsets := TimeOffsets(b.spec); offsets != "" {
		b.Label("set time offsets")
		if b.ns.user() {
			b.Ask(AskOffsets)
		} else {
			b.WriteFile(program.Cwd, "/proc/self/timens_offsets", offsets)
		}
	}
	b.Label("enter time namespace")
	ns, _ := b.Open("time", program.Cwd, "/proc/self/ns/time_for_children", unix.O_RDONLY)
	b.SetNS(ns, unix.CLONE_NEWTIME)
	b.Close(ns)
}

// TimeOffsets is what goes into /proc/<pid>/timens_offsets, for time_namespaces(7).
func TimeOffsets(s *specs.Spec) string {
	var text strings.Builder
	for _, clock := range slices.Sorted(maps.Keys(s.Linux.TimeOffsets)) {
		o := s.Linux.TimeOffsets[clock]
		fmt.Fprintf(&text, "%s %d %d\n", clock, o.Secs, o.Nanosecs)
	}
	return text.String()
}
