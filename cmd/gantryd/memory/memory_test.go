package memory

import (
	"os"
	"slices"
	"strings"
	"testing"
)

// smaps has the lines that matter of a program's code, its constants, relocations that
// were written, its data, a file of another name and the heap.
const smaps = `00400000-00b00000 r-xp 00000000 fe:00 123                                /usr/bin/x
Rss:                4096 kB
Anonymous:             0 kB
VmFlags: rd ex mr mw me
00b00000-01800000 r--p 00700000 fe:00 123                                /usr/bin/x
Anonymous:             0 kB
01800000-01801000 r--p 01400000 fe:00 123                                /usr/bin/x
Anonymous:             4 kB
01801000-01900000 rw-p 01401000 fe:00 123                                /usr/bin/x
Anonymous:             0 kB
7f0000000000-7f0000001000 r-xp 00000000 fe:00 124                        /usr/lib/y
Anonymous:             0 kB
c000000000-c000400000 rw-p 00000000 00:00 0 
Anonymous:             0 kB
`

func TestUntouched(t *testing.T) {
	got, err := untouched(strings.NewReader(smaps), "/usr/bin/x")
	if want := []region{{0x400000, 0xb00000}, {0xb00000, 0x1800000}}; err != nil || !slices.Equal(got, want) {
		t.Errorf("got %x, %v", got, err)
	}
}

// TestUnmapProgram takes this program's code away under it.
func TestUnmapProgram(t *testing.T) {
	exe, err := os.Readlink("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.Open("/proc/self/smaps")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if found, err := untouched(f, exe); err != nil || len(found) == 0 {
		t.Errorf("no code found: %v, %v", found, err)
	}
	if err := unmapProgram(); err != nil {
		t.Fatal(err)
	}
}
