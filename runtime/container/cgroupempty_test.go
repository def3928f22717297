package container_test

import (
	"os/exec"
	"strings"
	"testing"

	"github.com/containerd/errdefs"

	"gantry/runtime/cgroup"
	"gantry/runtime/container"
)

// TestCgroupOfOthers: a container is not made in a cgroup that holds processes, here one level
// below, and they outlive the attempt.
func TestCgroupOfOthers(t *testing.T) {
	b := newBed(t)
	cmd := exec.Command("/bin/busybox", "sleep", "100")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	above, below := must(cgroup.New(b.cgroup, cgroup.Options{})), must(cgroup.New(b.cgroup+"/other", cgroup.Options{}))
	if err := below.Create(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
		above.Delete(t.Context())
	})
	if err := below.AddPid(cmd.Process.Pid); err != nil {
		t.Fatal(err)
	}
	_, err := b.create(b.spec("true"), nil)
	if err == nil || !strings.Contains(err.Error(), "container's cgroup is not empty: 1 process(es) found") || !errdefs.IsFailedPrecondition(err) {
		t.Errorf("error %v", err)
	}
	if pids, err := below.Pids(); err != nil || len(pids) != 1 {
		t.Errorf("processes %v, %v: want the one that was there", pids, err)
	}
	if list, err := container.List(b.root); err != nil || len(list) != 0 {
		t.Errorf("left behind: %v, %v", list, err)
	}
}
