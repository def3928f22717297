package swap

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"gantry/internal/testutil/busybox"
	"gantry/internal/testutil/engine"
	"gantry/internal/testutil/need"
)

// Without CAP_SYS_RESOURCE podman's own limits are more than may be given. Its default
// network needs programs that are no part of this.
const podmanPrelude = `
D="podman $P --runtime $R"
d() { case "$1 $2" in "rm -f") shift 2; set -- rm -f -t 0 "$@";; esac; timeout --foreground -k 2 40 podman $P --runtime $R "$@"; }
plain="--ulimit nofile=1024:1024 --ulimit nproc=1024:1024 --cgroup-parent /$G"
RUN="$D run $plain --network none"
run() { case "$*" in *--network*) d run $plain "$@";; *) d run $plain --network none "$@";; esac; }
`

// podman prepares Debian's podman on directories of its own.
func podman(t *testing.T) caller {
	t.Helper()
	need.Root(t, "runs podman")
	need.Command(t, "podman")
	need.Command(t, "conmon")
	need.Command(t, "runc")
	need.Command(t, "script")
	p := newPlace(t)
	conf := filepath.Join(p.dir, "containers.conf")
	text := fmt.Sprintf(`[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
lock_type = "file"
runtime_supports_json = ["grun", "runc", "crun"]
init_path = %q
tmp_dir = %q
static_dir = %q
volume_path = %q
[engine.runtimes]
grun = [%q]
`, engine.Binary(t, "gantry-init"), p.dir+"/tmp", p.dir+"/libpod", p.dir+"/volumes", engine.Binary(t, "grun"))
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	storage := filepath.Join(p.dir, "storage.conf")
	text = fmt.Sprintf("[storage]\ndriver = \"overlay\"\ngraphroot = %q\nrunroot = %q\n", p.dir+"/root", p.dir+"/run")
	if err := os.WriteFile(storage, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	c := caller{name: "podman", prelude: podmanPrelude, dir: p.dir, env: []string{
		"CONTAINERS_CONF=" + conf, "G=" + p.cgroup, "CONTAINERS_STORAGE_CONF=" + storage, "P=" + strings.Join(flags(p), " "),
		"PATH=" + os.Getenv("PATH") + ":/usr/sbin:/sbin",
	}}
	t.Cleanup(func() {
		if out, _ := c.podman("ps", "-aq").Output(); len(out) > 0 {
			t.Errorf("containers are left: %s", out)
			c.podman("rm", "-fa", "-t", "0").Run()
		}
		c.podman("pod", "rm", "-fa").Run()
		p.empty(t, "")
		exec.Command("umount", p.dir+"/root/overlay").Run()
	})
	load := c.podman("load", "-q")
	load.Stdin = bytes.NewReader(busybox.Archive(t, busybox.Config{}, "busybox:test"))
	if out, err := load.CombinedOutput(); err != nil {
		t.Fatalf("podman load: %v: %s", err, out)
	}
	return c
}

// flags are where podman keeps its things: what conmon runs in the end is told by flags
// alone.
func flags(p place) []string {
	return []string{"--root", p.dir + "/root", "--runroot", p.dir + "/run", "--tmpdir", p.dir + "/tmp", "--storage-driver", "overlay"}
}

func (c caller) podman(args ...string) *exec.Cmd {
	cmd := exec.Command("podman", append(flags(place{dir: c.dir}), args...)...)
	cmd.Env = append(os.Environ(), c.env...)
	return cmd
}

func TestPodman(t *testing.T) {
	c := podman(t)
	c.compare(t, slices.Concat(runs, failures, lives), "runc", "grun")
}
