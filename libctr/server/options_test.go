package server_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"

	tasksapi "github.com/containerd/containerd/api/services/tasks/v1"
	runcoptions "github.com/containerd/containerd/api/types/runc/options"
	runtimeoptions "github.com/containerd/containerd/api/types/runtimeoptions/v1"
	"github.com/containerd/typeurl/v2"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/types/known/anypb"

	"gantry/api/errdefs"
	"gantry/api/reqctx"
	"gantry/libctr/core/container"
	"gantry/libctr/core/task"
)

// recorder is runc, which notes its command lines, and only notes what CRIU would do.
func recorder(t *testing.T) (binary string, calls func() string) {
	t.Helper()
	dir := t.TempDir()
	binary = filepath.Join(dir, "recorder")
	noted := filepath.Join(dir, "calls")
	runc, err := exec.LookPath("runc")
	if err != nil {
		t.Skip(err)
	}
	script := fmt.Sprintf("#!/bin/sh\necho \"$*\" >>%s\ncase \" $* \" in *' --systemd-cgroup '*|*' checkpoint '*|*' restore '*) exit 0;; esac\nexec %s \"$@\"\n", noted, runc)
	if err := os.WriteFile(binary, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	return binary, func() string {
		raw, err := os.ReadFile(noted)
		if err != nil {
			t.Fatal(err)
		}
		return string(raw)
	}
}

func packed(t *testing.T, m any) typeurl.Any {
	t.Helper()
	a, err := typeurl.MarshalAny(m)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// matches checks that some line of text matches each expression.
func matches(t *testing.T, text string, want ...string) {
	t.Helper()
	for _, w := range want {
		if !regexp.MustCompile(`(?m)` + w).MatchString(text) {
			t.Errorf("nothing matches %q in\n%s", w, text)
		}
	}
}

// TestRuntimeOptions pins what the options of containerd's runtime do, with both shims.
func TestRuntimeOptions(t *testing.T) {
	onEachShim(t, func(t *testing.T, c *core) {
		t.Run("command line", func(t *testing.T) { optionsOfCommandLine(t, c) })
		t.Run("systemd", func(t *testing.T) { optionSystemd(t, c) })
		t.Run("shim cgroup", func(t *testing.T) { optionShimCgroup(t, c) })
		t.Run("io owner", func(t *testing.T) { optionsOfIO(t, c) })
		t.Run("checkpoint", func(t *testing.T) { optionsOfCheckpoint(t, c) })
		t.Run("restore", func(t *testing.T) { optionsOfRestore(t, c) })
	})
}

func optionsOfCommandLine(t *testing.T, c *core) {
	ctx := testNamespace(t)
	binary, calls := recorder(t)
	root := t.TempDir()
	c.options = packed(t, &runcoptions.Options{BinaryName: binary, Root: root, NoPivotRoot: true, NoNewKeyring: true})
	defer func() { c.options = nil }()
	c.run(t, ctx, userland(t), "one", "sleep", "1000")
	if _, err := os.Stat(filepath.Join(root, reqctx.Namespace(ctx), "one")); err != nil {
		t.Errorf("state of the container: %v", err)
	}
	c.remove(t, ctx, "one")
	matches(t, calls(), `^--root `+root+`/\S+ .*create .*--no-pivot`, `^--root `+root+`/\S+ .*create .*--no-new-keyring`)
	c.noneLeft(t)
}

// optionSystemd only sees that it is passed on: few machines of tests run systemd.
func optionSystemd(t *testing.T, c *core) {
	ctx := testNamespace(t)
	binary, calls := recorder(t)
	c.options = packed(t, &runcoptions.Options{BinaryName: binary, SystemdCgroup: true})
	defer func() { c.options = nil }()
	c.record(t, ctx, "one", spec(userland(t), "one", "true"))
	if _, err := c.client.Tasks().Create(ctx, task.CreateOptions{ContainerID: "one"}); err == nil {
		t.Error("created by a runtime that does nothing")
	}
	matches(t, calls(), `--systemd-cgroup .*create`)
	if err := c.client.Containers().Delete(ctx, "one"); err != nil {
		t.Error(err)
	}
	c.noneLeft(t)
}

func optionShimCgroup(t *testing.T, c *core) {
	ctx := testNamespace(t)
	path := fmt.Sprintf("/core-test-shim-%d", os.Getpid())
	dirs, _ := filepath.Glob("/sys/fs/cgroup/*/cgroup.procs")
	if len(dirs) == 0 {
		t.Skip("needs cgroup v1 hierarchies")
	}
	for _, d := range dirs {
		dir := filepath.Join(filepath.Dir(d), path)
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		for _, f := range []string{"cpuset.cpus", "cpuset.mems"} { // empty, it takes nobody
			if all, err := os.ReadFile(filepath.Join(filepath.Dir(d), f)); err == nil {
				_ = os.WriteFile(filepath.Join(dir, f), all, 0o644)
			}
		}
		t.Cleanup(func() {
			eventually(t, "remove shim's cgroup", func() error { return os.Remove(dir) })
		})
	}
	c.options = packed(t, &runcoptions.Options{ShimCgroup: path})
	defer func() { c.options = nil }()
	c.run(t, ctx, userland(t), "one", "sleep", "1000")
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", c.shimOf(t, "one")))
	if err != nil {
		t.Error(err)
	}
	matches(t, string(raw), `:memory:`+path+`$`)
	c.remove(t, ctx, "one")
	c.noneLeft(t)
}

func optionsOfIO(t *testing.T, c *core) {
	ctx := testNamespace(t)
	c.options = packed(t, &runcoptions.Options{IoUid: 1234, IoGid: 2345})
	defer func() { c.options = nil }()
	root := userland(t)
	c.record(t, ctx, "one", spec(root, "one", "sleep", "1000"))
	out := filepath.Join(t.TempDir(), "out")
	tasks := c.client.Tasks()
	if err := syscall.Mkfifo(out, 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(out, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := tasks.Create(ctx, task.CreateOptions{ContainerID: "one", IO: task.IO{Stdout: out, Stderr: out}}); err != nil {
		t.Fatal(err)
	}
	pid, err := tasks.Start(ctx, "one", "")
	if err != nil {
		t.Fatal(err)
	}
	st, err := os.Stat(fmt.Sprintf("/proc/%d/fd/1", pid))
	if err != nil {
		t.Fatal(err)
	}
	if sys := st.Sys().(*syscall.Stat_t); sys.Gid != 2345 { // runtimes give the rest to the process's user
		t.Errorf("stdout is %d:%d's", sys.Uid, sys.Gid)
	}
	c.remove(t, ctx, "one")
	c.noneLeft(t)
}

func optionsOfCheckpoint(t *testing.T, c *core) {
	ctx := testNamespace(t)
	binary, calls := recorder(t)
	images, work, before := t.TempDir(), t.TempDir(), t.TempDir()
	c.options = packed(t, &runcoptions.Options{BinaryName: binary})
	defer func() { c.options = nil }()
	c.run(t, ctx, userland(t), "one", "sleep", "1000")
	err := c.client.Tasks().Checkpoint(ctx, "one", "", packed(t, &runcoptions.CheckpointOptions{
		ImagePath: images, WorkPath: work, ParentPath: before, OpenTcp: true, ExternalUnixSockets: true, Terminal: true, FileLocks: true,
		EmptyNamespaces: []string{"network"}, CgroupsMode: "soft",
	}))
	if err != nil {
		t.Fatal(err)
	}
	c.remove(t, ctx, "one")
	matches(t, calls(), `checkpoint .*--image-path `+images, `checkpoint .*--work-path `+work, `checkpoint .*--tcp-established`,
		`checkpoint .*--ext-unix-sk`, `checkpoint .*--shell-job`, `checkpoint .*--file-locks`, `checkpoint .*--empty-ns network`,
		`checkpoint .*--leave-running`)
	if c.runtime == "io.containerd.gantry.v2" { // runc's own shim forgets these
		matches(t, calls(), `checkpoint .*--parent-path `+before, `checkpoint .*--manage-cgroups-mode soft`)
	}
	c.noneLeft(t)
}

func optionsOfRestore(t *testing.T, c *core) {
	ctx := testNamespace(t)
	binary, calls := recorder(t)
	images, work := t.TempDir(), t.TempDir()
	c.options = packed(t, &runcoptions.Options{BinaryName: binary})
	defer func() { c.options = nil }()
	c.record(t, ctx, "one", spec(userland(t), "one", "sleep", "1000"))
	tasks := c.client.Tasks()
	_, err := tasks.Create(ctx, task.CreateOptions{ContainerID: "one",
		Options: packed(t, &runcoptions.Options{BinaryName: binary, CriuImagePath: images, CriuWorkPath: work})})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tasks.Start(ctx, "one", ""); err == nil {
		t.Error("restored by a runtime that does nothing")
	}
	matches(t, calls(), `restore .*--image-path `+images, `restore .*--work-path `+work)
	if _, err := tasks.Delete(ctx, "one", ""); err != nil {
		t.Error(err)
	}
	if err := c.client.Containers().Delete(ctx, "one"); err != nil {
		t.Error(err)
	}
	c.noneLeft(t)
}

// TestOptionsAsText pins the form in which Kubernetes' interface gives options.
func TestOptionsAsText(t *testing.T) {
	onOurShimWithRunc(t, func(t *testing.T, c *core) {
		ctx := testNamespace(t)
		binary, calls := recorder(t)
		c.options = packed(t, &runtimeoptions.Options{ConfigBody: fmt.Appendf(nil, "BinaryName = %q\nNoPivotRoot = true\n", binary)})
		c.run(t, ctx, userland(t), "one", "sleep", "1000")
		c.remove(t, ctx, "one")
		matches(t, calls(), `create .*--no-pivot`)
		c.noneLeft(t)
	})
}

// TestOptionsOfTaskComeFirst starts a shim with the options of the task, not those of its
// container.
func TestOptionsOfTaskComeFirst(t *testing.T) {
	onEachShim(t, func(t *testing.T, c *core) {
		ctx := testNamespace(t)
		binary, calls := recorder(t)
		c.options = packed(t, &runcoptions.Options{BinaryName: "/no/such/runtime"})
		defer func() { c.options = nil }()
		c.record(t, ctx, "one", spec(userland(t), "one", "true"))
		_, err := c.client.Tasks().Create(ctx, task.CreateOptions{ContainerID: "one", Options: packed(t, &runcoptions.Options{BinaryName: binary})})
		if err != nil {
			t.Fatal(err)
		}
		matches(t, calls(), `create `)
		c.remove(t, ctx, "one")
		c.noneLeft(t)
	})
}

// TestJoin has a task run in the shim of another, named by its address, as a client of
// sandboxes does it: by the request, or by the options.
func TestJoin(t *testing.T) {
	onEachShim(t, func(t *testing.T, c *core) {
		ctx := testNamespace(t)
		s := spec(userland(t), "host", "sleep", "1000")
		s.Annotations = map[string]string{"io.containerd.runc.v2.group": "host"}
		c.runSpec(t, ctx, "host", s)
		bundle := filepath.Join(c.cfg.State, "io.containerd.runtime.v2.task", reqctx.Namespace(ctx), "host")
		raw, err := os.ReadFile(filepath.Join(bundle, "bootstrap.json"))
		if err != nil {
			t.Fatal(err)
		}
		address := regexp.MustCompile(`"address":"([^"]*)"`).FindStringSubmatch(string(raw))[1]
		version, _ := strconv.Atoi(regexp.MustCompile(`"version":(\d)`).FindStringSubmatch(string(raw))[1])

		for id, req := range map[string]*tasksapi.CreateTaskRequest{
			"by-request": {TaskApiAddress: "ttrpc+" + address, TaskApiVersion: uint32(version)},
			"by-options": {Options: &anypb.Any{TypeUrl: "containerd.runc.v1.Options",
				Value: packed(t, &runcoptions.Options{TaskApiAddress: "ttrpc+" + address, TaskApiVersion: uint32(version)}).GetValue()}},
		} {
			req.ContainerID = id
			c.record(t, ctx, id, spec(userland(t), id, "sleep", "1000"))
			if _, err := c.createRaw(t, ctx, req); err != nil {
				t.Fatal(err)
			}
			if _, err := c.client.Tasks().Start(ctx, id, ""); err != nil {
				t.Fatal(err)
			}
			c.haveShims(t, 1)
			c.remove(t, ctx, id)
		}
		for _, bad := range []string{address, "ttrpc+vsock://3:1024", "http+" + address} {
			c.record(t, ctx, "bad", spec(userland(t), "bad", "true"))
			if _, err := c.createRaw(t, ctx, &tasksapi.CreateTaskRequest{ContainerID: "bad", TaskApiAddress: bad, TaskApiVersion: 3}); err == nil {
				t.Errorf("joined %s", bad)
			}
			if err := c.client.Containers().Delete(ctx, "bad"); err != nil {
				t.Error(err)
			}
		}
		if st, err := c.client.Tasks().Get(ctx, "host", ""); err != nil || st.Status != task.StatusRunning {
			t.Errorf("the host of the others: %+v, %v", st, err)
		}
		c.remove(t, ctx, "host")
		c.noneLeft(t)
	})
}

// createRaw makes a call that our own client does not.
func (c *core) createRaw(t *testing.T, ctx context.Context, r *tasksapi.CreateTaskRequest) (uint32, error) {
	t.Helper()
	conn, err := grpc.NewClient("unix://"+c.Address(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	ctx = metadata.AppendToOutgoingContext(ctx, "containerd-namespace", reqctx.Namespace(ctx))
	resp, err := tasksapi.NewTasksClient(conn).Create(ctx, r)
	return resp.GetPid(), err
}

// TestRuncIsOurs is what a client of containerd gets that asks for no runtime of ours.
func TestRuncIsOurs(t *testing.T) {
	needRunc(t)
	cfg := newConfig(t)
	cfg.ShimDir, cfg.Plugins = binaries(t), nil
	c := start(t, cfg)
	ctx := testNamespace(t)
	for name, shim := range map[string]string{
		"io.containerd.runc.v2": "containerd-shim-gantry-v2", "io.containerd.runtime.v1.linux": "containerd-shim-gantry-v2", runcShim: "containerd-shim-runc-v2",
	} {
		c.runtime = name
		c.run(t, ctx, userland(t), "one", "sleep", "1000")
		if p := c.processes(t); len(p) != 1 || !strings.Contains(p[0].cmdline, shim) {
			t.Errorf("%s: %v", name, p)
		}
		got, err := c.client.Containers().Get(ctx, "one")
		if err != nil || got.Runtime.Name != name {
			t.Errorf("%s: the record says %q, %v", name, got.Runtime.Name, err)
		}
		c.remove(t, ctx, "one")
	}
}

// TestRuntimeNames resolves the ways to name a runtime.
func TestRuntimeNames(t *testing.T) {
	needRunc(t)
	c := start(t, newConfig(t))
	ctx := testNamespace(t)
	for i, name := range []string{"io.containerd.runc.v2", runcShim, "io.containerd.runc.v1", "io.containerd.runtime.v1.linux"} {
		c.runtime = name
		id := fmt.Sprint("name-", i)
		c.run(t, ctx, userland(t), id, "sleep", "1000")
		c.haveShims(t, 1)
		if p := c.processes(t); len(p) != 1 || !strings.Contains(p[0].cmdline, "containerd-shim-runc-v2") {
			t.Errorf("%s: %v", name, p)
		}
		c.remove(t, ctx, id)
	}
	// Of no class, as containerd's: what is not found is not the container.
	for name, text := range map[string]string{
		"io.containerd.nope.v2":     "binary not installed",
		"nope":                      "invalid runtime name nope",
		"./containerd-shim-runc-v2": "invalid runtime name",
		"/no/such/shim":             "no such file",
	} {
		_, err := c.client.Containers().Create(ctx, container.Container{ID: "bad", Runtime: container.Runtime{Name: name}, Spec: anyJSON(t, "Spec", spec("/", "bad", "true"))})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.client.Tasks().Create(ctx, task.CreateOptions{ContainerID: "bad"}); err == nil || !strings.Contains(err.Error(), text) || errdefs.IsNotFound(err) {
			t.Errorf("%s: %v", name, err)
		}
		if err := c.client.Containers().Delete(ctx, "bad"); err != nil {
			t.Error(err)
		}
	}
	c.noneLeft(t)
}
