package container

import (
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// TestEndShim: the parent of the container's process is killed when its arguments say
// that it is the shim of that task.
func TestEndShim(t *testing.T) {
	for _, tc := range []struct {
		name, program string
		args          []string
		ends          bool
	}{
		{"its shim", "/bin/containerd-shim-test-v2", []string{"-namespace", "moby", "-id", "one"}, true},
		{"another's", "/bin/containerd-shim-test-v2", []string{"-namespace", "moby", "-id", "two"}, false},
		{"no shim", "/bin/sh", []string{"-id", "one"}, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			cmd := exec.Command("/bin/sh", append([]string{"-c", "sleep 1000 & echo $!; wait", "sh"}, tc.args...)...)
			cmd.Args[0] = tc.program
			out, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			defer cmd.Wait() //nolint:errcheck // it is killed
			defer cmd.Process.Kill()
			buf := make([]byte, 32)
			n, _ := out.Read(buf)
			pid, err := strconv.Atoi(strings.TrimSpace(string(buf[:n])))
			if err != nil {
				t.Fatal(err)
			}
			defer syscall.Kill(pid, syscall.SIGKILL)
			if err := endShim(&Snapshot{Record: &Record{ID: "one"}, State: State{Pid: pid}}); (err == nil) != tc.ends {
				t.Errorf("%v", err)
			}
		})
	}
}
