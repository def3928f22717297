package container

import (
	"testing"

	containertypes "github.com/docker/docker/api/types/container"

	"gantry/api/errdefs"
	"gantry/daemon/spec"
)

// TestReconfigure: new containers take new defaults, those that are there keep theirs
// and find their runtime anew.
func TestReconfigure(t *testing.T) {
	inBubble(t, func(w *world, s *Service) {
		old := w.make(s, "old", nil)
		s.Reconfigure(Config{
			Runtimes:       map[string]Runtime{"other": {Name: "io.containerd.other.v1"}},
			DefaultRuntime: "other",
			Defaults:       spec.Defaults{ShmSize: 1 << 20, IpcMode: containertypes.IPCModeShareable},
		})
		h := s.entry(w.make(s, "fresh", nil)).snapshot().Host
		if h.Runtime != "other" || h.ShmSize != 1<<20 || h.IpcMode != containertypes.IPCModeShareable {
			t.Errorf("a new container has %s, %d, %s", h.Runtime, h.ShmSize, h.IpcMode)
		}
		if h := s.entry(old).snapshot().Host; h.Runtime != "gantry" {
			t.Errorf("an older container has %s", h.Runtime)
		}
		err := s.Start(t.Context(), old, containertypes.StartOptions{})
		if !errdefs.IsInvalidArgument(err) || err.Error() != "unknown or invalid runtime name: gantry" {
			t.Errorf("start with a runtime that has gone: %v", err)
		}
	})
}
