package boot_test

import (
	"fmt"
	"os"
	"os/exec"
	"testing"
	"time"

	taskapi "github.com/containerd/containerd/api/runtime/task/v3"

	"gantry/api/shimwire"
)

// TestZZ keeps 10 shims and dumps the smaps of the last
func TestZZ(t *testing.T) {
	if b := os.Getenv("SHIM_BIN"); b != "" {
		shimBinary = b
	}
	e := newEngine(t, "")
	prog := protected(t)
	var ks []*task
	for range 10 {
		k := e.newBundle(t, nil, "sleep", "1000")
		k.serve(prog, "containerd-shim-gantry-v2")
		k.create(func(r *taskapi.CreateTaskRequest) {
			r.Stdout = shimwire.LogURI{Path: k.log, Socket: k.socket, MaxSize: 50 << 20, MaxFile: 2}.String()
			r.Stderr = r.Stdout
		})
		k.start("")
		ks = append(ks, k)
	}
	time.Sleep(1500 * time.Millisecond)
	for _, f := range []string{"smaps", "smaps_rollup", "status"} {
		b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/%s", ks[9].shimPid(), f))
		os.WriteFile("/tmp/gantry/shim/m/"+f, b, 0o644)
	}
	if s := os.Getenv("ZZ"); s != "" {
		c := exec.Command("sh", "-c", s)
		c.Env = append(os.Environ(), fmt.Sprintf("PID=%d", ks[9].shimPid()))
		out, _ := c.CombinedOutput()
		fmt.Printf("%s\n", out)
	}
	for _, k := range ks {
		k.kill("", 9)
		k.wait("")
		k.remove()
	}
}

func maxprocs() string {
	if s := os.Getenv("MP"); s != "" {
		return s
	}
	return "2"
}
