package services_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	containersapi "github.com/containerd/containerd/api/services/containers/v1"
	tasksapi "github.com/containerd/containerd/api/services/tasks/v1"
	"github.com/containerd/containerd/api/types"
	runcoptions "github.com/containerd/containerd/api/types/runc/options"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"gantry/internal/testutil/busybox"
	"gantry/internal/testutil/coretest"
	"gantry/internal/testutil/need"
	"gantry/libctr/server"
)

// home is what a side's containers have of their own.
type home struct {
	rootfs  string
	runtime string     // name, or path of the shim
	options *anypb.Any // of the runtime
	cgroup  string     // parent
}

// newHome gives the containers a state of runc and a cgroup of their own.
func newHome(t *testing.T, name, shim, rootfs string) home {
	t.Helper()
	h := home{rootfs: rootfs, runtime: shim, cgroup: fmt.Sprintf("beside-%d-%s", os.Getpid(), name)}
	h.options = protobuf(t, &runcoptions.Options{Root: stateDir(t), BinaryName: need.Command(t, "runc")})
	t.Cleanup(func() {
		parents, _ := filepath.Glob("/sys/fs/cgroup/*/" + h.cgroup)
		for _, dir := range append(parents, "/sys/fs/cgroup/"+h.cgroup) {
			endAll(dir)
			_ = os.Remove(dir)
		}
	})
	return h
}

// endAll kills what a script that was broken off has left.
func endAll(parent string) {
	files, _ := filepath.Glob(parent + "/*/cgroup.procs")
	for _, file := range files {
		text, _ := os.ReadFile(file)
		for _, pid := range strings.Fields(string(text)) {
			if n, err := strconv.Atoi(pid); err == nil {
				_ = unix.Kill(n, unix.SIGKILL)
			}
		}
	}
}

// stateDir is a directory that is masked in answers.
func stateDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "core")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

func asJSON(kind string, v any) *anypb.Any {
	raw, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return &anypb.Any{TypeUrl: "types.containerd.io/opencontainers/runtime-spec/1/" + kind, Value: raw}
}

// container has a root that its task is given, and runs args.
func (h home) container(id string, args ...string) *containersapi.Container {
	return &containersapi.Container{
		ID: id, Runtime: &containersapi.Container_Runtime{Name: h.runtime, Options: h.options},
		Spec: asJSON("Spec", specs.Spec{
			Version: "1.0.2",
			Process: process(args...),
			Root:    &specs.Root{Path: "rootfs"},
			Mounts:  []specs.Mount{{Destination: "/proc", Type: "proc", Source: "proc"}},
			Linux: &specs.Linux{
				CgroupsPath: "/" + h.cgroup + "/" + id,
				Namespaces:  []specs.LinuxNamespace{{Type: specs.PIDNamespace}, {Type: specs.MountNamespace}, {Type: specs.NetworkNamespace}, {Type: specs.IPCNamespace}, {Type: specs.UTSNamespace}},
			},
		}),
	}
}

func process(args ...string) *specs.Process {
	return &specs.Process{Args: args, Cwd: "/", Env: []string{"PATH=/bin"}, NoNewPrivileges: true, Capabilities: &specs.LinuxCapabilities{}}
}

func (h home) mounts() []*types.Mount {
	return []*types.Mount{{Type: "bind", Source: h.rootfs, Options: []string{"rbind", "rw"}}}
}

// Steps of tasks.
func record(c *containersapi.Container) step {
	return step{name: c.ID, method: "containers/Create", req: one(&containersapi.CreateContainerRequest{Container: c})}
}

func tasks(method, name string, m proto.Message) step {
	return step{name: name, method: "tasks/" + method, req: one(m)}
}

func (h home) create(id string) step {
	return tasks("Create", id, &tasksapi.CreateTaskRequest{ContainerID: id, Rootfs: h.mounts()})
}

func startTask(id, exec string) step {
	return tasks("Start", id+" "+exec, &tasksapi.StartRequest{ContainerID: id, ExecID: exec})
}

func getTask(id, exec string) step {
	return tasks("Get", id+" "+exec, &tasksapi.GetRequest{ContainerID: id, ExecID: exec})
}

func waitTask(id, exec string) step {
	return tasks("Wait", id+" "+exec, &tasksapi.WaitRequest{ContainerID: id, ExecID: exec})
}

func killTask(id, exec string, signal uint32, all bool) step {
	return tasks("Kill", fmt.Sprintf("%s %s by %d, all %v", id, exec, signal, all), &tasksapi.KillRequest{ContainerID: id, ExecID: exec, Signal: signal, All: all})
}

func deleteTask(id string) step {
	return tasks("Delete", id, &tasksapi.DeleteTaskRequest{ContainerID: id})
}

func deleteExec(id, exec string) step {
	return tasks("DeleteProcess", id+" "+exec, &tasksapi.DeleteProcessRequest{ContainerID: id, ExecID: exec})
}

func execTask(id, exec string, spec *anypb.Any) step {
	return tasks("Exec", id+" "+exec, &tasksapi.ExecProcessRequest{ContainerID: id, ExecID: exec, Spec: spec})
}

func resize(id, exec string) step {
	return tasks("ResizePty", id+" "+exec, &tasksapi.ResizePtyRequest{ContainerID: id, ExecID: exec, Width: 80, Height: 24})
}

func closeIO(id, exec string, stdin bool) step {
	return tasks("CloseIO", fmt.Sprintf("%s %s stdin %v", id, exec, stdin), &tasksapi.CloseIORequest{ContainerID: id, ExecID: exec, Stdin: stdin})
}

func pause(id string) step { return tasks("Pause", id, &tasksapi.PauseTaskRequest{ContainerID: id}) }

func resume(id string) step {
	return tasks("Resume", id, &tasksapi.ResumeTaskRequest{ContainerID: id})
}

func pidsOf(id string) step {
	return tasks("ListPids", id, &tasksapi.ListPidsRequest{ContainerID: id})
}

func update(name, id string, resources *anypb.Any, notes ...string) step {
	return tasks("Update", id+": "+name, &tasksapi.UpdateTaskRequest{ContainerID: id, Resources: resources, Annotations: labels(notes...)})
}

func metricsOf(filters ...string) step {
	return tasks("Metrics", fmt.Sprint(filters), &tasksapi.MetricsRequest{Filters: filters})
}

func checkpoint(name, id string, options *anypb.Any) step {
	return tasks("Checkpoint", id+": "+name, &tasksapi.CheckpointTaskRequest{ContainerID: id, Options: options})
}

var listTasks = tasks("List", "", &tasksapi.ListTasksRequest{})

func (s step) at(name string) step     { s.later = name; return s }
func (s step) called(name string) step { s.name = name; return s }
func (s step) coded() step             { s.code = true; return s }
func (s step) but(o, why string) step  { s.ours, s.why = o, why; return s }

func awaited(name string) step { return step{name: name, await: name} }

// refused are creates of which nothing comes, each of a container of its own: old containerds
// leave the bundle.
func (h home) refused() []step {
	create := func(id string, changeRecord func(*containersapi.Container), changeTask func(*tasksapi.CreateTaskRequest)) []step {
		c, r := h.container(id, "true"), &tasksapi.CreateTaskRequest{ContainerID: id, Rootfs: h.mounts()}
		if changeRecord != nil {
			changeRecord(c)
		}
		if changeTask != nil {
			changeTask(r)
		}
		return []step{record(c), tasks("Create", id, r), getTask(id, "")}
	}
	type box = *containersapi.Container
	type request = *tasksapi.CreateTaskRequest
	const coded = "containerd gives no code"
	script := slices.Concat(
		create("missing", func(c box) { c.Spec = h.container("missing", "/bin/nope").Spec }, nil),
		create("bad-spec", func(c box) { c.Spec = asJSON("Spec", "text") }, nil),
		create("no-spec", func(c box) { c.Spec = raw("{") }, nil),
		create("empty-spec", func(c box) { c.Spec = asJSON("Spec", map[string]any{}) }, nil),
		create("unknown-runtime", func(c box) { c.Runtime.Name = "io.containerd.none.v2" }, nil),
		create("bad-runtime", func(c box) { c.Runtime.Name = "nonsense" }, nil),
		create("relative-runtime", func(c box) { c.Runtime.Name = "bin/shim" }, nil),
		create("no-shim", func(c box) { c.Runtime.Name = "/no/such/shim" }, nil),
		create("no-other-shim", nil, func(r request) { r.RuntimePath = "/no/such/shim" }),
		create("bad-options", func(c box) {
			c.Runtime.Options = &anypb.Any{TypeUrl: "containerd.runc.v1.Options", Value: []byte("\xff\xff")}
		}, nil),
		create("other-options", nil, func(r request) { r.Options = raw("x") }),
		create("unknown-mount", nil, func(r request) { r.Rootfs = []*types.Mount{{Type: "nosuchfs", Source: "x"}} }),
		create("bad-mount", nil, func(r request) {
			r.Rootfs = []*types.Mount{{Type: "bind", Source: "/no/such/dir", Options: []string{"rbind"}}}
		}),
		create("no-mount", nil, func(r request) { r.Rootfs = nil }),
		create("checkpoint", nil, func(r request) { r.Checkpoint = &types.Descriptor{MediaType: "x/y"} }),
	)
	for n, s := range script {
		switch s.method + " " + s.name {
		case "tasks/Create bad-spec":
			script[n] = s.but("InvalidArgument: spec of container bad-spec: json: cannot unmarshal string into Go value of type task.brief", coded)
		case "tasks/Create no-spec":
			script[n] = s.but("InvalidArgument: spec of container no-spec: unexpected end of JSON input", coded)
		case "tasks/Create checkpoint":
			script[n] = s.but(`InvalidArgument: unsupported checkpoint type "x/y"`, coded)
		case "tasks/Create bad-options", "tasks/Create other-options": // whoever finds out says it in his words
			script[n] = s.coded()
		}
	}
	return append(script, listTasks)
}

// life is a container's, in all its states.
func (h home) life() []step {
	sleep := asJSON("Process", process("sleep", "1000"))
	limits := asJSON("Resources", specs.LinuxResources{CPU: &specs.LinuxCPU{Shares: new(uint64(512))}})
	return []step{
		record(h.container("c", "sleep", "1000")), h.create("c"), h.create("c"), getTask("c", ""), listTasks, waitTask("c", "").at("first"),
		deleteExec("c", "e"), pause("c"), resume("c"), resize("c", ""), closeIO("c", "", true), pidsOf("c"), metricsOf("id==c"),
		startTask("c", ""), startTask("c", ""), getTask("c", ""), listTasks, pidsOf("c"), deleteTask("c"), getTask("c", ""),
		waitTask("c", "").at("second"), waitTask("c", "none"), getTask("c", "none"), startTask("c", "none"), deleteExec("c", "none"), killTask("c", "none", 9, false), resize("c", "none"), closeIO("c", "none", true), closeIO("c", "none", false),
		resize("c", ""), closeIO("c", "", true), closeIO("c", "", false),

		pause("c"), getTask("c", ""), listTasks, pause("c"), execTask("c", "paused", sleep), startTask("c", ""), deleteTask("c"), pidsOf("c"), resume("c"), getTask("c", ""), resume("c"),

		execTask("c", "bad", asJSON("Process", "text")), execTask("c", "", sleep), execTask("c", "a/b", sleep),
		execTask("c", "e", sleep), execTask("c", "e", sleep), getTask("c", "e"), waitTask("c", "e").at("exec"), startTask("c", "e"), getTask("c", "e"), resize("c", "e"), closeIO("c", "e", true), deleteExec("c", "e"),
		execTask("c", "unstarted", sleep), deleteExec("c", "unstarted"), getTask("c", "unstarted"),
		killTask("c", "e", 99, false), killTask("c", "e", 9, false), awaited("exec"), waitTask("c", "e"), getTask("c", "e"), killTask("c", "e", 9, false), resize("c", "e"), execTask("c", "e", sleep), deleteExec("c", "e"), deleteExec("c", "e"), waitTask("c", "e"),

		update("limits", "c", limits), update("annotations", "c", limits, "a=b"), update("another type", "c", asJSON("Process", "x")),
		metricsOf(), metricsOf("id==c"), metricsOf("id==d"), metricsOf("namespace==beside"), metricsOf("namespace==other"), metricsOf("id==d", "id==c"), metricsOf("runtime"),
		checkpoint("options of another type", "c", raw("x")), checkpoint("of runc", "c", asJSON("x", "y")),

		killTask("c", "", 0, false), killTask("c", "", 99, false), killTask("c", "", 15, false), getTask("c", ""),
		execTask("c", "left", sleep), startTask("c", "left"), waitTask("c", "left").at("left"),
		killTask("c", "", 9, true), awaited("first"), awaited("second"), awaited("left"), waitTask("c", ""), getTask("c", ""), getTask("c", "left"), listTasks,
		killTask("c", "", 9, false), killTask("c", "", 9, true), pause("c"), resume("c"), startTask("c", ""), execTask("c", "late", sleep), pidsOf("c").called("after its end"), update("after its end", "c", limits), resize("c", ""), closeIO("c", "", true), metricsOf("id==c"),
		checkpoint("after its end", "c", nil),
		deleteTask("c"), deleteTask("c"), getTask("c", ""), waitTask("c", ""), listTasks,

		h.create("c"), killTask("c", "", 9, false), waitTask("c", ""), getTask("c", ""), startTask("c", ""), deleteTask("c"),
		record(h.container("short", "sh", "-c", "exit 7")), h.create("short"), startTask("short", ""), waitTask("short", ""), getTask("short", ""), deleteTask("short"),
	}
}

// odd has execs whose starts fail, of which the shim of containerd 2.4 loses count: it ends
// in a panic with the container.
func (h home) odd() []step {
	sleep := asJSON("Process", process("sleep", "1000"))
	return []step{
		record(h.container("odd", "sleep", "1000")), h.create("odd"), startTask("odd", ""),
		execTask("odd", "gone", asJSON("Process", process("/bin/nope"))), startTask("odd", "gone"), getTask("odd", "gone"), deleteExec("odd", "gone"),
		execTask("odd", "twice", sleep), startTask("odd", "twice"), startTask("odd", "twice"), killTask("odd", "twice", 9, false), waitTask("odd", "twice"), startTask("odd", "twice"), deleteExec("odd", "twice"),
		execTask("odd", "early", sleep), killTask("odd", "early", 9, false), getTask("odd", "early"), startTask("odd", "early"), deleteExec("odd", "early"),
		killTask("odd", "", 9, true), waitTask("odd", ""), deleteTask("odd"),
	}
}

// runcShim is that of the containerd that GANTRY_CONTAINERD names, or Debian's: they take no
// others.
func runcShim(t *testing.T) string {
	t.Helper()
	if path := os.Getenv("GANTRY_CONTAINERD"); path != "" {
		return filepath.Join(filepath.Dir(path), "containerd-shim-runc-v2")
	}
	return need.Command(t, "containerd-shim-runc-v2")
}

// TestBesideRunning plays the lives of containers, whose shims are runc's on both sides.
func TestBesideRunning(t *testing.T) {
	need.Root(t, "runs containers")
	shim, rootfs := runcShim(t), busybox.Rootfs(t, t.TempDir())
	theirs, ours := dialSide(t, coretest.ServeContainerd(t)), dialSide(t, coretest.Serve(t))
	theirs.settle, ours.settle = time.Second, time.Second
	script := func(name string) []step {
		h := newHome(t, name, shim, rootfs)
		script := slices.Concat(h.refused(), h.life(), []step{h.create("c"), deleteTask("c"), getTask("c", "")})
		if theirs.old {
			script = append(script, h.odd()...)
		}
		return script
	}
	sides(t, theirs, ours, script("theirs"), script("ours"), "/tasks/exit", "/tasks/delete")
}

// others are what our shim answers in another way.
var others = []struct{ method, name, why string }{
	{"tasks/ResizePty", "c e", "without a terminal there is nothing to do, though the process has ended"},
	{"tasks/DeleteProcess", "c unstarted", "an exec that was never started has an end, and a time"},
	{"tasks/ListPids", "after its end", "containerd 2 would take no process for the end of the shim"},
	{"tasks/Get", "odd gone", "one that could not be started too"},
	{"tasks/DeleteProcess", "odd gone", "the same"},
}

// TestBesideOurShim plays the same where the shim on our side is ours: its words are its own,
// and it tells of a task that is deleted before its start that it was killed.
func TestBesideOurShim(t *testing.T) {
	need.Root(t, "runs containers")
	rootfs, dir := busybox.Rootfs(t, t.TempDir()), ourShim(t)
	ours := dialSide(t, coretest.Serve(t, func(c *server.Config) { c.ShimDir = dir }))
	theirs := dialSide(t, coretest.ServeContainerd(t))
	theirs.settle, ours.settle = time.Second, time.Second
	script := func(h home) []step {
		script := slices.Concat(h.refused(), h.life())
		if theirs.old {
			script = append(script, h.odd()...)
		}
		for n := range script {
			script[n].code, script[n].classed = true, true
			for _, o := range others {
				if script[n].method == o.method && script[n].name == o.name {
					script[n].loose = o.why
				}
			}
		}
		return script
	}
	sides(t, theirs, ours, script(newHome(t, "theirs", runcShim(t), rootfs)), script(newHome(t, "ours", "io.containerd.gantry.v2", rootfs)), "/tasks/exit", "/tasks/delete")
}

// ourShim is the directory of the built one.
func ourShim(t *testing.T) string {
	t.Helper()
	dir := os.Getenv("GANTRY_BIN")
	if dir == "" {
		dir = "../../bin"
	}
	dir, err := filepath.Abs(dir)
	if err == nil {
		_, err = os.Stat(filepath.Join(dir, "containerd-shim-gantry-v2"))
	}
	if err != nil {
		t.Skipf("needs the built shim (make build): %v", err)
	}
	return dir
}
