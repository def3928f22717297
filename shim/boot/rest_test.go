package boot

import (
	"slices"
	"testing"
)

func TestConstants(t *testing.T) {
	const smaps = `00400000-00754000 r-xp 00000000 00:2f 1234                               /
Size:               3408 kB
Anonymous:             0 kB
VmFlags: rd ex mr mw me 
00754000-00b3d000 r--p 00354000 00:2f 1234                               /usr/bin/a shim
Anonymous:             0 kB
00b3d000-00b40000 r--p 0073d000 00:2f 1234                               /usr/bin/a shim
Anonymous:             4 kB
00b40000-00b77000 rw-p 00740000 00:2f 1234                               /usr/bin/a shim
Anonymous:             0 kB
277c18000000-277c18800000 r--p 00000000 00:00 0 
Anonymous:             0 kB
`
	want := []mapping{{0x400000, 0x754000}, {0x754000, 0xb3d000}}
	if got := constants([]byte(smaps)); !slices.Equal(got, want) {
		t.Errorf("%x, want %x", got, want)
	}
}

// TestUnmapProgram: the program goes on, whatever links it.
func TestUnmapProgram(t *testing.T) {
	for range 10 {
		unmapProgram()
	}
}
