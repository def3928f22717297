package client_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	eventtypes "github.com/containerd/containerd/api/events"
	"github.com/containerd/typeurl/v2"
	"github.com/opencontainers/runtime-spec/specs-go"
	"google.golang.org/protobuf/types/known/anypb"

	"gantry/api/errdefs"
	"gantry/api/reqctx"
	"gantry/internal/testutil/coretest"
	"gantry/internal/testutil/need"
	"gantry/libctr/client"
	"gantry/libctr/core/container"
	"gantry/libctr/core/task"
)

// TestTasksOnEitherCore: what an engine relies on holds on our core and on a
// real containerd alike.
func TestTasksOnEitherCore(t *testing.T) {
	need.Root(t, "runs containers")
	need.Command(t, "runc")
	need.Command(t, "containerd-shim-runc-v2")
	t.Run("ours", func(t *testing.T) { taskLife(t, coretest.Start(t)) })
	t.Run("containerd", func(t *testing.T) { taskLife(t, coretest.Containerd(t)) })
}

func taskLife(t *testing.T, c *client.Client) {
	ns := fmt.Sprintf("tasks-%d", os.Getpid())
	defer os.Remove(filepath.Join("/run/containerd/runc", ns))
	ctx, cancel := context.WithTimeout(reqctx.WithNamespace(t.Context(), ns), time.Minute)
	defer cancel()
	tasks := c.Tasks()
	if id, err := c.Introspection().Server(ctx); err != nil || id.GetUUID() == "" {
		t.Errorf("server %v, %v", id, err)
	}
	if _, _, err := c.Introspection().Version(ctx); err != nil {
		t.Error(err)
	}
	if _, err := tasks.Get(ctx, "one", ""); !errdefs.IsNotFound(err) || !strings.HasPrefix(err.Error(), `container "one" in namespace`) {
		t.Errorf("task without a container: %v", err)
	}
	_, err := c.Containers().Create(ctx, container.Container{
		ID: "one", Runtime: container.Runtime{Name: "io.containerd.runc.v2"}, Spec: sleeper(t)})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Containers().Delete(context.WithoutCancel(ctx), "one")
	if _, err := tasks.Get(ctx, "one", ""); !errdefs.IsNotFound(err) || !strings.HasPrefix(err.Error(), "task one not found") {
		t.Errorf("no task yet: %v", err)
	}
	events, _ := c.Events().Subscribe(ctx, `topic=="/tasks/exit"`)
	pid, err := tasks.Create(ctx, task.CreateOptions{ContainerID: "one"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tasks.Create(ctx, task.CreateOptions{ContainerID: "one"}); !errdefs.IsAlreadyExists(err) || !strings.HasPrefix(err.Error(), "task one: already exists") {
		t.Errorf("a second task: %v", err)
	}
	if _, err := tasks.Start(ctx, "one", ""); err != nil {
		t.Error(err)
	}
	for what, call := range map[string]func() (task.State, error){
		"get": func() (task.State, error) { return tasks.Get(ctx, "one", "") },
		"list": func() (task.State, error) {
			all, err := tasks.List(ctx)
			if len(all) != 1 {
				return task.State{}, fmt.Errorf("%d tasks, %w", len(all), err)
			}
			return all[0], err
		},
	} {
		if st, err := call(); err != nil || st.ContainerID != "one" || st.PID != pid || st.Status != task.StatusRunning || !st.ExitedAt.IsZero() {
			t.Errorf("%s: %+v, %v", what, st, err)
		}
	}
	if m, err := tasks.Metrics(ctx, "one"); err != nil || !strings.HasPrefix(m.GetTypeUrl(), "io.containerd.cgroups.v") {
		t.Errorf("metrics %v, %v", m, err)
	}
	if _, err := tasks.Metrics(ctx, "two"); !errdefs.IsNotFound(err) {
		t.Errorf("metrics of nothing: %v", err)
	}
	if procs, err := tasks.Pids(ctx, "one"); err != nil || len(procs) != 1 || procs[0].PID != pid {
		t.Errorf("pids %v, %v", procs, err)
	}
	waited := make(chan error, 1)
	go func() {
		e, err := tasks.Wait(ctx, "one", "")
		if err == nil && e.Code != 137 {
			err = fmt.Errorf("exit %+v", e)
		}
		waited <- err
	}()
	if err := tasks.Kill(ctx, "one", "", uint32(syscall.SIGKILL), false); err != nil {
		t.Error(err)
	}
	if err := <-waited; err != nil {
		t.Errorf("wait: %v", err)
	}
	e := <-events
	v, err := typeurl.UnmarshalAny(e.Event)
	if err != nil {
		t.Fatal(err)
	}
	if x := v.(*eventtypes.TaskExit); x.GetID() != "one" || x.GetPid() != pid || x.GetExitStatus() != 137 {
		t.Errorf("exit event %v", x)
	}
	if err := tasks.Kill(ctx, "one", "", uint32(syscall.SIGKILL), false); !errdefs.IsNotFound(err) {
		t.Errorf("kill of what has ended: %v", err)
	}
	if e, err := tasks.Delete(ctx, "one", ""); err != nil || e.Code != 137 || e.PID != pid {
		t.Errorf("delete %+v, %v", e, err)
	}
	if _, err := tasks.Delete(ctx, "one", ""); !errdefs.IsNotFound(err) {
		t.Errorf("delete again: %v", err)
	}
}

// sleeper is the spec of a container that sleeps on a busybox root.
func sleeper(t *testing.T) typeurl.Any {
	t.Helper()
	root := t.TempDir()
	data, err := os.ReadFile(need.Command(t, "busybox"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(root, "sleep"), data, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(root, "proc"), 0o755); err != nil {
		t.Fatal(err)
	}
	spec, err := json.Marshal(&specs.Spec{
		Version: "1.0.2",
		Process: &specs.Process{Args: []string{"/sleep", "1000"}, Cwd: "/"},
		Root:    &specs.Root{Path: root},
		Mounts:  []specs.Mount{{Destination: "/proc", Type: "proc", Source: "proc"}},
		Linux: &specs.Linux{
			CgroupsPath: fmt.Sprintf("/client-test-%d", os.Getpid()),
			Namespaces:  []specs.LinuxNamespace{{Type: specs.PIDNamespace}, {Type: specs.MountNamespace}},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	return &anypb.Any{TypeUrl: "types.containerd.io/opencontainers/runtime-spec/1/Spec", Value: spec}
}
