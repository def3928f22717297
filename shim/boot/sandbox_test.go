package boot_test

import (
	"os"
	"strings"
	"testing"
	"time"

	sandboxapi "github.com/containerd/containerd/api/runtime/sandbox/v1"
	taskapi "github.com/containerd/containerd/api/runtime/task/v3"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// TestSandbox has a shim go on for its sandbox, and end with it.
func TestSandbox(t *testing.T) {
	e := newEngine(t, "")
	k := e.newTask(t, nil, "sleep", "1000")
	api := sandboxapi.NewTTRPCSandboxClient(k.client)
	fails := func(what string, err error, code codes.Code) {
		t.Helper()
		if status.Code(err) != code {
			t.Errorf("%s: %v, want %v", what, err, code)
		}
	}
	must := func(what string, err error) {
		t.Helper()
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
	}
	_, err := api.PingSandbox(k.ctx, &sandboxapi.PingRequest{SandboxID: "pod"})
	fails("ping of none", err, codes.NotFound)
	_, err = api.CreateSandbox(k.ctx, &sandboxapi.CreateSandboxRequest{})
	fails("no id", err, codes.InvalidArgument)
	_, err = api.CreateSandbox(k.ctx, &sandboxapi.CreateSandboxRequest{SandboxID: "pod", BundlePath: k.bundle})
	must("create", err)
	_, err = api.CreateSandbox(k.ctx, &sandboxapi.CreateSandboxRequest{SandboxID: "other"})
	fails("a second sandbox", err, codes.AlreadyExists)
	r, err := api.StartSandbox(k.ctx, &sandboxapi.StartSandboxRequest{SandboxID: "pod"})
	must("start", err)
	if int(r.Pid) != k.shimPid() || time.Since(r.CreatedAt.AsTime()) > time.Minute {
		t.Errorf("started: %v, the shim is %d", r, k.shimPid())
	}

	k.create(nil)
	k.start("")
	k.kill("", 9)
	k.wait("")
	_, err = k.api.Delete(k.ctx, &taskapi.DeleteRequest{ID: k.id})
	must("delete", err)
	_, err = k.api.Shutdown(k.ctx, &taskapi.ShutdownRequest{ID: k.id}) // of the last container
	must("shutdown of the task", err)
	must("TERM", unix.Kill(k.shimPid(), unix.SIGTERM))
	time.Sleep(50 * time.Millisecond)
	_, err = api.PingSandbox(k.ctx, &sandboxapi.PingRequest{SandboxID: "pod"})
	must("ping after the last container", err)

	late := e.newBundle(t, func(s *specs.Spec) { s.Process.Args = []string{"true"} }, "true")
	late.joined, late.api = true, k.api
	late.create(nil) // left to the shutdown
	_, err = api.ShutdownSandbox(k.ctx, &sandboxapi.ShutdownSandboxRequest{SandboxID: "pod"})
	must("shutdown", err)
	k.deleted = true // clean checks that the process ends and nothing stays
	deadline := time.Now().Add(10 * time.Second)
	for {
		raw, err := os.ReadFile("/proc/self/mounts")
		if err == nil && !strings.Contains(string(raw), late.bundle) {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the last container's mounts are left")
		}
		time.Sleep(10 * time.Millisecond)
	}
}
