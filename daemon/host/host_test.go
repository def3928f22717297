package host_test

import (
	"slices"
	"testing"

	"gantry/daemon/host"
)

// What every machine that can run containers has.
func TestDetect(t *testing.T) {
	f := host.Detect()
	if f.NumCPU < 1 || f.MemoryTotal == 0 {
		t.Errorf("processors %d, memory %d", f.NumCPU, f.MemoryTotal)
	}
	if !slices.Contains(f.KnownCaps, "CAP_SYS_ADMIN") || !slices.Contains(f.KnownCaps, "CAP_CHOWN") {
		t.Errorf("capabilities: %v", f.KnownCaps)
	}
	for _, c := range f.Caps {
		if !slices.Contains(f.KnownCaps, c) {
			t.Errorf("has %s, unknown to the kernel", c)
		}
	}
	t.Logf("%+v", f)
}
