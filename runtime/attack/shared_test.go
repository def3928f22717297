package attack_test

import (
	"os"
	"strings"
	"testing"
)

// TestSharedRoot: two containers have one root filesystem, and one renames /proc while the
// other is made (a mount goes with its directory), so that masks would be laid on a
// directory of its own that has taken the name, and procfs lie open under another one:
// CVE-2019-19921 and CVE-2023-27561 without any link.
func TestSharedRoot(t *testing.T) {
	g := newGround(t)
	b := g.box("box", "sh", "-c", `for d in /proc /.proc; do cd $d && test -e 1/status && echo $d $(stat -c %t:%T keys timer_list 2>&1); done; true`)
	for _, fake := range []string{"/proc", "/.proc"} {
		os.MkdirAll(b.rootfs()+fake+"/sys", 0o755)
		for _, f := range []string{"/keys", "/timer_list"} {
			os.WriteFile(b.rootfs()+fake+f, nil, 0o644)
		}
	}
	b.spec.Linux.MaskedPaths = append(b.spec.Linux.MaskedPaths, "/proc/timer_list")
	swaps := swapping(t, []swap{{b.rootfs() + "/proc", b.rootfs() + "/.proc"}})
	defer swaps.stop()
	moved, ran, rounds := 0, 0, scale(500, 15)
	for range rounds {
		out, err := b.run()
		if err != nil {
			continue
		}
		for line := range strings.Lines(out) {
			where, masks, _ := strings.Cut(strings.TrimSpace(line), " ")
			if masks != "1:3 1:3" {
				t.Fatalf("procfs lies open: %s", out)
			}
			ran++
			if where == "/.proc" {
				moved++
			}
		}
	}
	t.Logf("in %d of %d rounds procfs was seen, in %d under the other name", ran, rounds, moved)
	if ran < rounds/10 || moved == 0 {
		t.Errorf("in %d of %d rounds procfs was seen, in %d under the other name", ran, rounds, moved)
	}
}
