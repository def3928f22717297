package swap

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"gantry/internal/testutil/busybox"
	"gantry/internal/testutil/engine"
	"gantry/internal/testutil/need"
)

// legacyCrun runs Debian's crun where it would run: it refuses a hybrid layout whose
// unified hierarchy has a controller, and takes it for legacy when that is unmounted.
const legacyCrun = `#!/bin/sh
grep -q . /sys/fs/cgroup/unified/cgroup.controllers 2>/dev/null || exec crun "$@"
exec unshare --mount --propagation slave sh -c 'umount /sys/fs/cgroup/unified; exec crun "$@"' sh "$@"
`

// gantryd runs an engine that has, beside its own runtime library, runc, crun and grun
// as runtimes by their command line.
func gantryd(t *testing.T) (*engine.Engine, caller) {
	t.Helper()
	need.Root(t, "runs containers")
	need.Command(t, "crun")
	need.Command(t, "script")
	need.Command(t, "unshare")
	crun := filepath.Join(t.TempDir(), "crun")
	if err := os.WriteFile(crun, []byte(legacyCrun), 0o755); err != nil {
		t.Fatal(err)
	}
	p := newPlace(t)
	e := engine.Start(t,
		"--add-runtime", "real="+need.Command(t, "runc"), "--add-runtime", "crun="+crun, "--add-runtime", "grun="+engine.Binary(t, "grun"))
	e.Load(busybox.Archive(t, busybox.Config{}, "busybox:test"))
	return e, caller{name: "gantryd", prelude: dockerPrelude, env: dockerEnv(e.Dir, e.Socket(), p.cgroup)}
}

func TestRuntimesUnderEngine(t *testing.T) {
	_, c := gantryd(t)
	c.compare(t, slices.Concat(runs, failures, lives), "runc", "crun")
	c.compare(t, lives, "runc", "real", "grun")
	if fullLength() {
		c.compare(t, slices.Concat(runs, failures), "runc", "real", "grun")
	}
}
