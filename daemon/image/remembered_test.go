package image

import (
	"testing"

	"gantry/libctr/core/snapshot"
)

// What is remembered of snapshots does not outlive them.
func TestForgetGone(t *testing.T) {
	s := &Service{}
	for _, name := range []string{"layer", "gone"} {
		s.usages.Store(name, snapshot.Usage{Size: 1})
		s.parents.Store(name, "")
	}
	s.forgetGone(map[string]bool{"layer": true})
	for _, name := range []string{"layer", "gone"} {
		_, usage := s.usages.Load(name)
		_, parent := s.parents.Load(name)
		if want := name == "layer"; usage != want || parent != want {
			t.Errorf("%s: usage %v, parent %v", name, usage, parent)
		}
	}
}
