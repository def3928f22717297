package boot_test

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	taskapi "github.com/containerd/containerd/api/runtime/task/v3"
	"github.com/containerd/containerd/api/types"
	"github.com/containerd/containerd/api/types/runc/options"
	"github.com/opencontainers/runtime-spec/specs-go/features"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
)

// TestInfo asks the shim as containerd does.
func TestInfo(t *testing.T) {
	if shimBinary == "" {
		t.Skip("needs root: the shim is not built")
	}
	ask := func(stdin []byte) (*types.RuntimeInfo, *features.Features) {
		t.Helper()
		cmd := exec.Command(shimBinary, "-info")
		cmd.Stdin = bytes.NewReader(stdin)
		out, err := cmd.Output()
		if err != nil {
			t.Fatal(err)
		}
		info, f := new(types.RuntimeInfo), new(features.Features)
		if err := proto.Unmarshal(out, info); err != nil {
			t.Fatal(err)
		}
		if info.GetFeatures() != nil {
			if err := json.Unmarshal(info.GetFeatures().GetValue(), f); err != nil {
				t.Fatal(err)
			}
		}
		return info, f
	}
	info, f := ask(nil)
	if info.GetName() != "io.containerd.gantry.v2" || info.GetOptions() != nil {
		t.Errorf("info %v", info)
	}
	if f.Linux == nil || f.Linux.MountExtensions == nil || !*f.Linux.MountExtensions.IDMap.Enabled {
		t.Errorf("containerd refuses id-mapped mounts: %+v", f.Linux)
	}
	// Another runtime is asked by its command line; one that does not know the question has none.
	for answer, want := range map[string]string{`echo '{"ociVersionMax":"9.9.9"}'`: "9.9.9", "exit 1": ""} {
		runtime := filepath.Join(t.TempDir(), "runtime")
		script := "#!/bin/sh\n[ \"$1\" = features ] || exit 2\n" + answer + "\n"
		if err := os.WriteFile(runtime, []byte(script), 0o755); err != nil {
			t.Fatal(err)
		}
		o, err := proto.Marshal(&options.Options{BinaryName: runtime})
		if err != nil {
			t.Fatal(err)
		}
		stdin, err := proto.Marshal(&anypb.Any{TypeUrl: "containerd.runc.v1.Options", Value: o})
		if err != nil {
			t.Fatal(err)
		}
		if info, f := ask(stdin); f.OCIVersionMax != want || !bytes.Equal(info.GetOptions().GetValue(), o) {
			t.Errorf("%s: %v", answer, info)
		}
	}
}

// TestExitIsKept kills the shim of a container that has ended: what cleans up still knows
// how.
func TestExitIsKept(t *testing.T) {
	e := newEngine(t, anyRuntime(t))
	k := e.newTask(t, nil, "sh", "-c", "exit 3")
	k.create(nil)
	k.start("")
	k.wait("")
	pid := k.shimPid()
	p, err := os.FindProcess(pid)
	if err != nil {
		t.Fatal(err)
	}
	p.Kill()
	k.awaitGone(pid)
	var r taskapi.DeleteResponse
	if err := proto.Unmarshal(k.run(nil, "-bundle", k.bundle, "delete"), &r); err != nil {
		t.Fatal(err)
	}
	k.deleted = true
	if r.GetExitStatus() != 3 || r.GetPid() == 0 || r.GetExitedAt().AsTime().IsZero() {
		t.Errorf("delete tells %v", &r)
	}
}

// TestPublishBinary has the shim tell its events to a program, as engines without a ttrpc
// socket want it.
func TestPublishBinary(t *testing.T) {
	e := newEngine(t, anyRuntime(t))
	k := e.newBundle(t, nil, "sh", "-c", "exit 3")
	told := filepath.Join(k.dir, "told")
	program := filepath.Join(k.dir, "engine")
	script := "#!/bin/sh\n[ \"$1 $2 $3\" = \"--address " + k.dir + "/sock publish\" ] || exit 1\n" +
		"echo \"$5 $7 $(grep -c " + k.id + ")\" >>" + told + "\n"
	if err := os.WriteFile(program, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(shimBinary, "-namespace", "test", "-address", k.dir+"/sock", "-publish-binary", program, "-id", k.id, "start")
	cmd.Dir, cmd.Env = k.bundle, append(os.Environ(), "SCHED_CORE=1") // which most kernels here can't do
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	k.dial(string(out))
	k.create(nil)
	k.start("")
	if status := k.wait(""); status != 3 {
		t.Errorf("status %d", status)
	}
	k.remove()
	raw, err := os.ReadFile(told)
	want := "/tasks/create test 1\n/tasks/start test 1\n/tasks/exit test 1\n/tasks/delete test 1\n"
	if err != nil || strings.ReplaceAll(string(raw), " 2\n", " 1\n") != want {
		t.Errorf("told %q, %v", raw, err)
	}
}
