package task

import (
	"os/exec"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestEndsWithin(t *testing.T) {
	cmd := exec.Command("sleep", "1000")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Wait() //nolint:errcheck // it was killed
	fd, err := unix.PidfdOpen(cmd.Process.Pid, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if endsWithin(fd, 10*time.Millisecond) {
		t.Error("a process that sleeps has ended")
	}
	time.AfterFunc(20*time.Millisecond, func() { cmd.Process.Kill() })
	if !endsWithin(fd, time.Minute) {
		t.Error("a process that was killed has not ended")
	}
}
