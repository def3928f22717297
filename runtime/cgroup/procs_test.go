package cgroup

import (
	"os/exec"
	"testing"

	"golang.org/x/sys/unix"
)

// TestSignalSparesStrangers: a number that the cgroup no longer has may be
// somebody else's by now.
func TestSignalSparesStrangers(t *testing.T) {
	var pids []int
	for range 2 {
		cmd := exec.Command("/bin/sleep", "100")
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
		pids = append(pids, cmd.Process.Pid)
	}
	member := func() ([]int, error) { return pids[:1], nil }
	if n, err := signal(pids, member, unix.SIGTERM); n != 1 || err != nil {
		t.Fatalf("%d, %v", n, err)
	}
	var info unix.Siginfo
	if err := unix.Waitid(unix.P_PID, pids[0], &info, unix.WEXITED|unix.WNOWAIT, nil); err != nil {
		t.Error(err)
	}
	info = unix.Siginfo{}
	if err := unix.Waitid(unix.P_PID, pids[1], &info, unix.WEXITED|unix.WNOWAIT|unix.WNOHANG, nil); err != nil || info.Signo != 0 {
		t.Errorf("the stranger has ended: %v", err)
	}
}
