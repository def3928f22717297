package runc

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"gantry/shim/process"
)

// scripted is a runtime that notes how it is called, in the file calls, and then
// does what the script says.
func scripted(t *testing.T, script string) (r *Runtime, bundle string, calls func() string) {
	t.Helper()
	dir := t.TempDir()
	text := "#!/bin/sh\ndir=" + dir + "\necho \"$@\" >>$dir/calls\n" + script
	if err := os.WriteFile(filepath.Join(dir, "runtime"), []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
	return &Runtime{Binary: filepath.Join(dir, "runtime"), Root: dir}, dir, func() string {
		raw, _ := os.ReadFile(filepath.Join(dir, "calls"))
		return string(raw)
	}
}

// TestTakenBack pins that a container whose process can't be told is deleted.
func TestTakenBack(t *testing.T) {
	r, bundle, calls := scripted(t, "echo nonsense >$dir/init.pid")
	_, _, err := r.Create(t.Context(), process.CreateOptions{ID: "c", Bundle: bundle, Spec: new(specs.Spec)})
	if err == nil {
		t.Error("created")
	}
	if got := calls(); !strings.Contains(got, "delete --force c\n") {
		t.Errorf("calls:\n%s", got)
	}
}

// TestHeldOutput pins that what a hook leaves behind, with the runtime's error
// output, does not hold up the call.
func TestHeldOutput(t *testing.T) {
	r, bundle, _ := scripted(t, "sleep 1000 &\necho $! >$dir/left")
	c, err := r.Load("c", bundle)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(t.Context()); err != nil {
		t.Error(err)
	}
	raw, _ := os.ReadFile(filepath.Join(bundle, "left"))
	if pid, err := strconv.Atoi(strings.TrimSpace(string(raw))); err != nil || unix.Kill(pid, unix.SIGKILL) != nil {
		t.Errorf("what was left is gone: %v", err)
	}
}

func TestCheckpointCall(t *testing.T) {
	r, bundle, calls := scripted(t, "")
	c, err := r.Load("c", bundle)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Checkpoint(t.Context(), process.CheckpointOptions{ImagePath: "/i", OpenTCP: true, FileLocks: true, EmptyNamespaces: []string{"network"}, CgroupsMode: "soft"}); err != nil {
		t.Error(err)
	}
	if err := c.Checkpoint(t.Context(), process.CheckpointOptions{ImagePath: "/i", WorkPath: "/w", ParentPath: "../p", Exit: true}); err != nil {
		t.Error(err)
	}
	for _, want := range []string{
		" checkpoint --image-path /i --work-path " + bundle + "/criu-work --manage-cgroups-mode soft --leave-running --tcp-established --file-locks --empty-ns network c\n",
		" checkpoint --image-path /i --work-path /w --parent-path ../p c\n",
	} {
		if got := calls(); !strings.Contains(got, want) {
			t.Errorf("calls:\n%swant%s", got, want)
		}
	}
}
