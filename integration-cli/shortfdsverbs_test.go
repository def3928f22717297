package integrationcli

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"gantry/internal/testutil/engine"
)

// TestDescriptorsShortVerbs takes the daemon's descriptors away from all that looks into
// a container: each fails or not, in time, and leaves neither a thing nor a descriptor.
func TestDescriptorsShortVerbs(t *testing.T) {
	engine.CoreInside(t, "what the engine lacks it does not")
	e := start(t)
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	e.Must("run", "-d", "--name", "bg", "-v", "/data", image, "sleep", "1000")
	e.Must("create", "--name", "down", "-v", "/data", image, "sleep", "1000")
	few := newCrowd(t, e)
	before := few.used()
	verbs := [][]string{
		{"exec", "bg", "true"}, {"cp", "bg:/etc/passwd", "-"}, {"cp", file, "bg:/file"}, {"cp", "down:/etc/passwd", "-"}, {"cp", file, "down:/data"},
		{"export", "-o", file + ".tar", "bg"}, {"diff", "bg"}, {"commit", "bg", "made:1"}, {"update", "--restart", "no", "bg"}, {"rename", "bg", "bg2"},
	}
	failed := 0
	for more := 0; more < 24; more += scale(1, 8) {
		for _, args := range verbs {
			few.fill()
			few.leave(min(more, len(few.conns)))
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			if err := e.Cmd(ctx, args...).Run(); err != nil {
				failed++
			}
			if ctx.Err() != nil {
				t.Errorf("with %d descriptors more: no answer to %v", more, args)
			}
			cancel()
			few.leave(len(few.conns))
			e.Docker("rename", "bg2", "bg")
		}
	}
	few.goHome()
	if failed == 0 {
		t.Error("nothing failed")
	}
	if s := status(e, "bg"); s != "running" {
		t.Errorf("the container is %s", s)
	}
	e.Must("exec", "bg", "true")
	e.Docker("rmi", "made:1")
	e.Must("image", "prune", "-f")
	eventually(t, "all descriptors are back", func() bool { return few.used() <= before+4 })
	e.Place().Agree(t)
	e.Must("rm", "-fv", "bg", "down")
	e.Clean(t)
}
