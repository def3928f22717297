package boot_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/containerd/containerd/api/events"
	bootstrapapi "github.com/containerd/containerd/api/runtime/bootstrap/v1"
	taskapi "github.com/containerd/containerd/api/runtime/task/v3"
	eventsapi "github.com/containerd/containerd/api/services/ttrpc/events/v1"
	"github.com/containerd/containerd/api/types/runc/options"
	"github.com/containerd/ttrpc"
	"github.com/opencontainers/runtime-spec/specs-go"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/emptypb"

	"gantry/api/shimwire"
)

var shimBinary, rootfs string

var counter atomic.Int64 // of containers, whose cgroups need names of their own

func TestMain(m *testing.M) { os.Exit(testMain(m)) }

func testMain(m *testing.M) int {
	dir, err := os.MkdirTemp("", "shim-test-")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	defer removeCgroups()
	if os.Getuid() == 0 {
		shimBinary = filepath.Join(dir, "containerd-shim-gantry-v2")
		build := exec.Command("go", "build", "-tags", "no_grpc", "-trimpath", "-ldflags", "-s -w", "-o", shimBinary, "gantry/cmd/containerd-shim-gantry-v2")
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			fmt.Printf("%s\n", out)
			panic(err)
		}
		rootfs = filepath.Join(dir, "rootfs")
		if err := makeRootfs(rootfs); err != nil {
			fmt.Println("no userland to run:", err)
			rootfs = ""
		}
	}
	return m.Run()
}

// removeCgroups removes the parents of the containers' cgroups.
func removeCgroups() {
	parents, _ := filepath.Glob("/sys/fs/cgroup/*/gantry-shim-test")
	for _, dir := range append(parents, "/sys/fs/cgroup/gantry-shim-test") {
		os.Remove(dir)
	}
}

func makeRootfs(dir string) error {
	busybox, err := os.ReadFile("/bin/busybox")
	if err != nil {
		return err
	}
	for _, d := range []string{"bin", "proc", "dev", "sys", "tmp", "etc"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			return err
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "bin/busybox"), busybox, 0o755); err != nil {
		return err
	}
	for _, name := range strings.Fields("sh cat echo sleep head seq true stty tty dd yes ps kill printf tail wc") {
		if err := os.Symlink("busybox", filepath.Join(dir, "bin", name)); err != nil {
			return err
		}
	}
	return nil
}

// engine is what starts shims: it receives their events.
type engine struct {
	dir    string
	binary string // of an OCI runtime; "" is the built-in one
	mu     sync.Mutex
	seen   []string // guarded by mu
	again  string   // guarded by mu: what may come once more, see die
	more   chan struct{}
	srv    *ttrpc.Server
}

func newEngine(t testing.TB, runtime string) *engine {
	t.Helper()
	if rootfs == "" {
		t.Skip("needs root and /bin/busybox: runs containers")
	}
	if runtime != "" {
		if _, err := exec.LookPath(runtime); err != nil {
			t.Skip(err)
		}
	}
	dir, err := os.MkdirTemp("", "eng")
	if err != nil {
		t.Fatal(err)
	}
	e := &engine{dir: dir, binary: runtime, more: make(chan struct{}, 1)}
	e.serve(t)
	t.Cleanup(func() {
		e.srv.Close()
		os.RemoveAll(dir)
	})
	return e
}

func (e *engine) events() string { return filepath.Join(e.dir, "sock.ttrpc") }

func (e *engine) serve(t testing.TB) {
	t.Helper()
	var err error
	if e.srv, err = ttrpc.NewServer(); err != nil {
		t.Fatal(err)
	}
	eventsapi.RegisterTTRPCEventsService(e.srv, e)
	l, err := net.Listen("unix", e.events())
	if err != nil {
		t.Fatal(err)
	}
	go e.srv.Serve(context.Background(), l)
}

// die ends the engine at once. Its last answer may be lost with it, and the shim sends
// that event again to the one that serves next.
func (e *engine) die() {
	e.srv.Close()
	os.Remove(e.events())
	e.mu.Lock()
	defer e.mu.Unlock()
	e.again = e.seen[len(e.seen)-1]
}

// Forward notes an event as "topic exec status".
func (e *engine) Forward(_ context.Context, r *eventsapi.ForwardRequest) (*emptypb.Empty, error) {
	note := r.Envelope.Topic
	switch r.Envelope.Topic {
	case "/tasks/exit":
		var x events.TaskExit
		if err := proto.Unmarshal(r.Envelope.Event.Value, &x); err != nil {
			return nil, err
		}
		id := x.ID
		if id == x.ContainerID {
			id = "init"
		}
		note += fmt.Sprintf(" %s %d", id, x.ExitStatus)
	case "/tasks/exec-added", "/tasks/exec-started":
		var x events.TaskExecStarted
		if err := proto.Unmarshal(r.Envelope.Event.Value, &x); err != nil {
			return nil, err
		}
		note += " " + x.ExecID
	}
	note = strings.TrimPrefix(note, "/tasks/")
	e.mu.Lock()
	if note != e.again {
		e.seen = append(e.seen, note)
	}
	e.again = ""
	e.mu.Unlock()
	select {
	case e.more <- struct{}{}:
	default:
	}
	return &emptypb.Empty{}, nil
}

// await waits until the events are exactly want.
func (e *engine) await(t testing.TB, want ...string) {
	t.Helper()
	late := time.After(15 * time.Second)
	for {
		e.mu.Lock()
		got := strings.Join(e.seen, ", ")
		e.mu.Unlock()
		if got == strings.Join(want, ", ") {
			return
		}
		select {
		case <-e.more:
		case <-late:
			t.Fatalf("events are %q, want %q", got, strings.Join(want, ", "))
		}
	}
}

// task is a shim and its container.
type task struct {
	*engine
	t       testing.TB
	id      string
	bundle  string
	socket  string
	log     string
	api     taskapi.TTRPCTaskService
	client  *ttrpc.Client
	ctx     context.Context
	deleted bool
	joined  bool // the shim is another task's
}

// newBundle makes the bundle of a task that has no shim yet.
func (e *engine) newBundle(t testing.TB, change func(*specs.Spec), argv ...string) *task {
	t.Helper()
	id := fmt.Sprintf("c%d-%d", os.Getpid(), counter.Add(1))
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	k := &task{engine: e, t: t, id: id, ctx: ctx, bundle: filepath.Join(e.dir, "b"+id), socket: filepath.Join(e.dir, id+".sock"), log: filepath.Join(e.dir, id+".log")}
	if err := os.MkdirAll(k.bundle, 0o711); err != nil {
		t.Fatal(err)
	}
	spec := testSpec(id, argv)
	if change != nil {
		change(spec)
	}
	raw, err := json.Marshal(spec)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(k.bundle, "config.json"), raw, 0o644); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cancel)
	t.Cleanup(k.clean)
	return k
}

// newTask makes a bundle and starts its shim.
func (e *engine) newTask(t testing.TB, change func(*specs.Spec), argv ...string) *task {
	t.Helper()
	k := e.newBundle(t, change, argv...)
	params, err := proto.Marshal(&bootstrapapi.BootstrapParams{InstanceID: k.id, Namespace: "test"})
	if err != nil {
		t.Fatal(err)
	}
	out := k.run(params, "start")
	var b struct {
		Version           int
		Address, Protocol string
	}
	if err := json.Unmarshal(out, &b); err != nil || b.Version != 3 || b.Protocol != "ttrpc" {
		t.Fatalf("start answered %q: %v", out, err)
	}
	k.dial(b.Address)
	_, err = os.Stat(filepath.Join(k.bundle, "shim.pid"))
	k.joined = err != nil
	return k
}

func (k *task) dial(address string) {
	conn, err := net.Dial("unix", strings.TrimPrefix(address, "unix://"))
	if err != nil {
		k.t.Fatal(err)
	}
	k.client = ttrpc.NewClient(conn)
	k.api = taskapi.NewTTRPCTaskClient(k.client)
	k.t.Cleanup(func() { k.client.Close() })
}

// run runs the shim's binary as engines do.
func (k *task) run(stdin []byte, args ...string) []byte {
	k.t.Helper()
	all := append([]string{"-namespace", "test", "-address", filepath.Join(k.dir, "sock"), "-publish-binary", "/none", "-id", k.id, "-debug"}, args...)
	cmd := exec.Command(shimBinary, all...)
	cmd.Dir = k.bundle
	cmd.Env = append(os.Environ(), "TTRPC_ADDRESS="+k.events(), "GRPC_ADDRESS="+filepath.Join(k.dir, "sock"), "NAMESPACE=test", "MAX_SHIM_VERSION=2", "GOMAXPROCS=2")
	cmd.Stdin = bytes.NewReader(stdin)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		k.t.Fatalf("%v: %v: %s", args, err, stderr.String())
	}
	return out
}

func (k *task) shimPid() int {
	raw, _ := os.ReadFile(filepath.Join(k.bundle, "shim.pid"))
	pid, err := strconv.Atoi(string(raw))
	if err != nil || pid <= 1 {
		k.t.Errorf("shim.pid says %q", raw)
	}
	return pid
}

// clean ends what a failed test leaves, and always checks that nothing stays.
func (k *task) clean() {
	if k.joined {
		return
	}
	pid := k.shimPid()
	if !k.deleted && pid > 1 {
		p, _ := os.FindProcess(pid)
		p.Kill()
		k.awaitGone(pid)
		k.run(nil, "-bundle", k.bundle, "delete")
	}
	k.awaitGone(pid)
	if left, _ := filepath.Glob(filepath.Join(k.dir, "s", "*")); len(left) > 0 {
		k.t.Errorf("sockets are left: %q", left)
	}
	if _, err := os.Stat(k.socket); err == nil {
		k.t.Error("stream socket is left")
	}
	if mounts, _ := os.ReadFile("/proc/self/mounts"); bytes.Contains(mounts, []byte(k.bundle)) {
		k.t.Errorf("mounts are left below %s", k.bundle)
	}
	if left, _ := filepath.Glob("/sys/fs/cgroup/*/gantry-shim-test/" + k.id); len(left) > 0 {
		k.t.Errorf("cgroups are left: %q", left)
	}
}

func (k *task) awaitGone(pid int) {
	for deadline := time.Now().Add(15 * time.Second); ; time.Sleep(2 * time.Millisecond) {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil || bytes.Contains(stat, []byte(") Z ")) {
			return
		}
		if time.Now().After(deadline) {
			k.t.Errorf("shim %d does not end", pid)
			return
		}
	}
}

func testSpec(id string, argv []string) *specs.Spec {
	caps := []string{"CAP_KILL", "CAP_CHOWN", "CAP_DAC_OVERRIDE"}
	return &specs.Spec{
		Version:  "1.0.2",
		Root:     &specs.Root{Path: rootfs, Readonly: true},
		Hostname: "box",
		Process: &specs.Process{
			Args: argv, Cwd: "/", Env: []string{"PATH=/bin", "TERM=xterm"},
			Capabilities: &specs.LinuxCapabilities{Bounding: caps, Effective: caps, Permitted: caps},
		},
		Mounts: []specs.Mount{
			{Destination: "/proc", Type: "proc", Source: "proc"},
			{Destination: "/dev", Type: "tmpfs", Source: "tmpfs", Options: []string{"nosuid", "mode=755", "size=65536k"}},
			{Destination: "/dev/pts", Type: "devpts", Source: "devpts", Options: []string{"nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"}},
			{Destination: "/tmp", Type: "tmpfs", Source: "tmpfs", Options: []string{"nosuid", "nodev"}},
		},
		Linux: &specs.Linux{
			CgroupsPath: "/gantry-shim-test/" + id,
			Namespaces:  []specs.LinuxNamespace{{Type: "pid"}, {Type: "mount"}, {Type: "ipc"}, {Type: "uts"}},
			Resources:   &specs.LinuxResources{Devices: []specs.LinuxDeviceCgroup{{Allow: true, Access: "rwm"}}},
		},
	}
}

func (k *task) options() *anypb.Any {
	if k.binary == "" {
		return nil
	}
	o := &options.Options{BinaryName: k.binary, Root: filepath.Join(k.dir, "runc")}
	raw, _ := proto.Marshal(o)
	return &anypb.Any{TypeUrl: "containerd.runc.v1.Options", Value: raw}
}

// create creates with our log; change may alter the request.
func (k *task) create(change func(*taskapi.CreateTaskRequest)) {
	k.t.Helper()
	uri := shimwire.LogURI{Path: k.log, Socket: k.socket}.String()
	r := &taskapi.CreateTaskRequest{ID: k.id, Bundle: k.bundle, Stdout: uri, Stderr: uri, Options: k.options()}
	if change != nil {
		change(r)
	}
	if _, err := k.api.Create(k.ctx, r); err != nil {
		k.t.Fatalf("create: %v", err)
	}
}

func (k *task) start(exec string) {
	k.t.Helper()
	r, err := k.api.Start(k.ctx, &taskapi.StartRequest{ID: k.id, ExecID: exec})
	if err != nil {
		k.t.Fatalf("start %q: %v", exec, err)
	}
	if r.Pid == 0 {
		k.t.Error("start answered no pid")
	}
}

func (k *task) exec(id string, io func(*taskapi.ExecProcessRequest), argv ...string) {
	k.t.Helper()
	raw, _ := json.Marshal(&specs.Process{Args: argv, Cwd: "/", Env: []string{"PATH=/bin"}})
	uri := shimwire.StreamURI{Socket: k.socket}.String()
	r := &taskapi.ExecProcessRequest{ID: k.id, ExecID: id, Stdout: uri, Stderr: uri,
		Spec: &anypb.Any{TypeUrl: "types.containerd.io/opencontainers/runtime-spec/1/Process", Value: raw}}
	if io != nil {
		io(r)
	}
	if _, err := k.api.Exec(k.ctx, r); err != nil {
		k.t.Fatalf("exec: %v", err)
	}
}

func (k *task) wait(exec string) uint32 {
	k.t.Helper()
	r, err := k.api.Wait(k.ctx, &taskapi.WaitRequest{ID: k.id, ExecID: exec})
	if err != nil {
		k.t.Fatalf("wait: %v", err)
	}
	return r.ExitStatus
}

func (k *task) kill(exec string, signal uint32) {
	k.t.Helper()
	if _, err := k.api.Kill(k.ctx, &taskapi.KillRequest{ID: k.id, ExecID: exec, Signal: signal}); err != nil {
		k.t.Fatalf("kill: %v", err)
	}
}

// remove deletes the stopped container and ends the shim.
func (k *task) remove() *taskapi.DeleteResponse {
	k.t.Helper()
	r, err := k.api.Delete(k.ctx, &taskapi.DeleteRequest{ID: k.id})
	if err != nil {
		k.t.Fatalf("delete: %v", err)
	}
	if _, err := k.api.Shutdown(k.ctx, &taskapi.ShutdownRequest{ID: k.id}); err != nil && !errors.Is(err, ttrpc.ErrClosed) {
		k.t.Fatalf("shutdown: %v", err)
	}
	k.deleted = true
	pid := k.shimPid()
	k.awaitGone(pid)
	k.run(nil, "-bundle", k.bundle, "delete")
	if _, err := os.Stat(k.socket); !errors.Is(err, os.ErrNotExist) {
		k.t.Errorf("stream socket is left: %v", err)
	}
	return r
}

func (k *task) attach(h shimwire.Hello) *shimwire.Conn {
	k.t.Helper()
	c, err := shimwire.Dial(k.ctx, k.socket, h)
	if err != nil {
		k.t.Fatalf("attach: %v", err)
	}
	k.t.Cleanup(func() { c.Close() })
	return c
}

// all reads a stream to its end.
func (k *task) all(c *shimwire.Conn) (out, errs string) {
	k.t.Helper()
	var text [3]strings.Builder
	for {
		f, err := c.Read()
		if errors.Is(err, io.EOF) {
			return text[1].String(), text[2].String()
		}
		if err != nil {
			k.t.Fatalf("read stream after %q: %v", text[1].String(), err)
		}
		if f.Kind == shimwire.Gap {
			k.t.Error("gap in stream")
		}
		text[f.Stream].Write(f.Data)
	}
}

// until reads a stream until it holds want.
func (k *task) until(c *shimwire.Conn, want string) shimwire.Position {
	k.t.Helper()
	var text strings.Builder
	for {
		f, err := c.Read()
		if err != nil {
			k.t.Fatalf("read stream after %q: %v", text.String(), err)
		}
		text.Write(f.Data)
		if strings.Contains(text.String(), want) {
			return f.Pos
		}
	}
}
