package container

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	statsv1 "github.com/containerd/cgroups/v3/cgroup1/stats"
	"github.com/containerd/typeurl/v2"
	containertypes "github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/events"
	volumetypes "github.com/docker/docker/api/types/volume"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	bolt "go.etcd.io/bbolt"

	apicontainer "gantry/api/container"
	"gantry/api/errdefs"
	"gantry/api/shimwire"
	"gantry/daemon/host"
	"gantry/daemon/image"
	"gantry/daemon/network"
	"gantry/daemon/stream"
	corecontainer "gantry/libctr/core/container"
	"gantry/libctr/core/mount"
	"gantry/libctr/core/snapshot"
	"gantry/libctr/core/task"
)

// world is everything that containers stand on, in memory. fail makes the step of that
// name fail; what each step has made and not given back is in held.
type world struct {
	t       *testing.T
	dir     string
	durable *bolt.DB
	runtime *bolt.DB

	mu     sync.Mutex
	fail   map[string]error
	at     map[string]func() // run when a step of that name begins
	held   map[string]bool
	tasks  map[string]*fakeTask
	events []string
	dialed []shimwire.Hello
	conns  map[string]*fakeConn // by container, what Dial gives
	froms  map[string]string    // by container, the checkpoint that its task is of
	pid    uint32

	metrics *statsv1.Metrics // of every task; nil where there are none
	limits  string           // of the last update
}

type fakeTask struct {
	pid    uint32
	status task.Status
	exit   task.Exit
	ended  chan struct{}
	term   bool // TERM ends it
}

func newWorld(t *testing.T) *world {
	w := &world{
		t: t, dir: t.TempDir(), fail: map[string]error{}, at: map[string]func(){}, held: map[string]bool{},
		tasks: map[string]*fakeTask{}, conns: map[string]*fakeConn{}, froms: map[string]string{}, pid: 100,
	}
	open := func(name string) *bolt.DB {
		db, err := bolt.Open(filepath.Join(w.dir, name), 0o600, &bolt.Options{NoSync: true})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { db.Close() })
		return db
	}
	w.durable, w.runtime = open("durable.db"), open("run.db")
	return w
}

// service starts a daemon's service on the world.
func (w *world) service() *Service {
	w.t.Helper()
	s, err := New(Config{
		Root: filepath.Join(w.dir, "containers"), IORoot: filepath.Join(w.dir, "io"), BootID: "boot",
		Runtimes: map[string]Runtime{"gantry": {Name: "io.containerd.gantry.v2"}}, DefaultRuntime: "gantry",
		Host: host.Features{
			MemoryLimit: true, SwapLimit: true, PidsLimit: true, CPUShares: true, CPUCfs: true, NumCPU: 2,
			IPv4Forwarding: true, Caps: []string{"CAP_CHOWN", "CAP_SYS_ADMIN"}, KnownCaps: []string{"CAP_CHOWN", "CAP_SYS_ADMIN", "CAP_SYS_RESOURCE"},
		},
	}, Deps{
		Containers: fakeContainers{w}, Tasks: fakeTasks{w}, Images: fakeImages{w}, Volumes: fakeVolumes{w},
		Networks: fakeNetworks{w}, Events: w, Dial: w.dial, Hold: w.hold,
		OpenRoot: func([]mount.Mount) (Root, error) { return fakeRoot{w}, w.step("open root", "") },
		UserIn: func(_ []mount.Mount, spec string, groups []string) (specs.User, string, error) {
			return fakeRoot{w}.LookupUser(spec, groups)
		},
	}, w.durable, w.runtime, slog.New(slog.DiscardHandler))
	if err != nil {
		w.t.Fatal(err)
	}
	if err := s.Restore(w.t.Context()); err != nil {
		w.t.Fatal(err)
	}
	return s
}

// step fails when told to, else notes thing as held.
func (w *world) step(name, thing string) error {
	w.mu.Lock()
	at := w.at[name]
	w.mu.Unlock()
	if at != nil {
		at()
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := w.fail[name]; err != nil {
		return err
	}
	if thing != "" {
		w.held[thing] = true
	}
	return nil
}

func (w *world) drop(thing string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.held, thing)
}

// holding lists what has not been given back, sorted, ids left out.
func (w *world) holding() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var out []string
	for h := range maps.Keys(w.held) {
		word, _, _ := strings.Cut(h, " ")
		out = append(out, word)
	}
	slices.Sort(out)
	return strings.Join(out, " ")
}

func (w *world) Publish(typ events.Type, action events.Action, a events.Actor) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if typ == events.ContainerEventType {
		w.events = append(w.events, string(action))
	}
}

func (w *world) PublishFleeting(typ events.Type, action events.Action, a events.Actor) {
	w.Publish(typ, action, a)
}

// told returns the container events so far.
func (w *world) told() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return strings.Join(w.events, " ")
}

func (w *world) hold(context.Context, string, []shimwire.Port) error { return w.step("hold", "") }

func (w *world) dial(_ context.Context, socket string, h shimwire.Hello) (stream.Process, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.dialed = append(w.dialed, h)
	id := strings.TrimSuffix(filepath.Base(socket), ".sock")
	if c := w.conns[id]; c != nil {
		return c, nil
	}
	return nil, errdefs.Unavailable("no shim")
}

type fakeContainers struct{ w *world }

func (f fakeContainers) Create(_ context.Context, c corecontainer.Container) (corecontainer.Container, error) {
	return c, f.w.step("core create", "core "+c.ID)
}

func (f fakeContainers) Delete(_ context.Context, id string) error {
	f.w.drop("core " + id)
	return nil
}

func (f fakeContainers) List(context.Context, ...string) (all []corecontainer.Container, _ error) {
	f.w.mu.Lock()
	defer f.w.mu.Unlock()
	for h := range f.w.held {
		if id, ok := strings.CutPrefix(h, "core "); ok {
			all = append(all, corecontainer.Container{ID: id})
		}
	}
	return all, nil
}

type fakeTasks struct{ w *world }

func (f fakeTasks) Create(_ context.Context, o task.CreateOptions) (uint32, error) {
	if err := f.w.step("task create", "task "+o.ContainerID); err != nil {
		return 0, err
	}
	f.w.mu.Lock()
	defer f.w.mu.Unlock()
	f.w.pid++
	f.w.froms[o.ContainerID] = o.Checkpoint
	f.w.tasks[o.ContainerID] = &fakeTask{pid: f.w.pid, status: task.StatusCreated, ended: make(chan struct{}), term: true}
	return f.w.pid, nil
}

func (f fakeTasks) get(id string) (*fakeTask, error) {
	f.w.mu.Lock()
	defer f.w.mu.Unlock()
	if t := f.w.tasks[id]; t != nil {
		return t, nil
	}
	return nil, errdefs.NotFound("task %s: not found", id)
}

func (f fakeTasks) Start(_ context.Context, id, _ string) (uint32, error) {
	if err := f.w.step("task start", ""); err != nil {
		return 0, err
	}
	t, err := f.get(id)
	if err != nil {
		return 0, err
	}
	t.status = task.StatusRunning
	return t.pid, nil
}

func (f fakeTasks) Delete(_ context.Context, id, _ string) (task.Exit, error) {
	if err := f.w.step("task delete", ""); err != nil {
		return task.Exit{}, err
	}
	t, err := f.get(id)
	if err != nil {
		return task.Exit{}, err
	}
	f.w.mu.Lock()
	defer f.w.mu.Unlock()
	if t.status != task.StatusStopped {
		return task.Exit{}, errdefs.FailedPrecondition("task %s is running", id)
	}
	delete(f.w.tasks, id)
	delete(f.w.held, "task "+id)
	return t.exit, nil
}

func (f fakeTasks) Get(_ context.Context, id, _ string) (task.State, error) {
	t, err := f.get(id)
	if err != nil {
		return task.State{}, err
	}
	f.w.mu.Lock()
	defer f.w.mu.Unlock()
	return task.State{ContainerID: id, PID: t.pid, Status: t.status, ExitStatus: t.exit.Code, ExitedAt: t.exit.At}, nil
}

func (f fakeTasks) Kill(_ context.Context, id, _ string, sig uint32, _ bool) error {
	t, err := f.get(id)
	if err != nil {
		return err
	}
	if sig == 9 || sig == 15 && t.term {
		f.w.end(id, 128+sig)
	}
	return nil
}

func (f fakeTasks) Wait(ctx context.Context, id, _ string) (task.Exit, error) {
	t, err := f.get(id)
	if err != nil {
		return task.Exit{}, err
	}
	select {
	case <-t.ended:
		return t.exit, nil
	case <-ctx.Done():
		return task.Exit{}, ctx.Err()
	}
}

func (f fakeTasks) Pause(_ context.Context, id string) error  { return f.set(id, task.StatusPaused) }
func (f fakeTasks) Resume(_ context.Context, id string) error { return f.set(id, task.StatusRunning) }

func (f fakeTasks) set(id string, st task.Status) error {
	t, err := f.get(id)
	if err != nil {
		return err
	}
	f.w.mu.Lock()
	defer f.w.mu.Unlock()
	if t.status != task.StatusStopped {
		t.status = st
	}
	return nil
}

func (f fakeTasks) ResizePty(context.Context, string, string, uint32, uint32) error { return nil }
func (f fakeTasks) CloseIO(context.Context, string, string) error                   { return nil }
func (f fakeTasks) Pids(context.Context, string) ([]task.Process, error)            { return nil, nil }
func (f fakeTasks) Update(_ context.Context, _ string, limits typeurl.Any, _ map[string]string) error {
	if err := f.w.step("task update", ""); err != nil {
		return err
	}
	f.w.limits = string(limits.GetValue())
	return nil
}
func (f fakeTasks) Metrics(context.Context, string) (typeurl.Any, error) {
	if f.w.metrics != nil {
		return typeurl.MarshalAny(f.w.metrics)
	}
	return nil, errdefs.NotFound("no counters")
}

// end makes a container's process end.
func (w *world) end(id string, code uint32) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if t := w.tasks[id]; t != nil && t.status != task.StatusStopped {
		t.status, t.exit = task.StatusStopped, task.Exit{PID: t.pid, Code: code, At: time.Now()}
		close(t.ended)
	}
}

type fakeImages struct{ w *world }

const imageID = digest.Digest("sha256:0000000000000000000000000000000000000000000000000000000000000001")

func (f fakeImages) Resolve(_ context.Context, ref string, _ *ocispec.Platform) (*image.Image, error) {
	if ref == "nope" {
		return nil, errdefs.NotFound("No such image: nope:latest")
	}
	img := &image.Image{ID: imageID, Name: ref}
	img.Config.Platform = ocispec.Platform{OS: "linux", Architecture: "amd64"}
	img.Config.Config.Cmd = []string{"/bin/app"}
	img.Config.Config.Env = []string{"A=1"}
	if ref == "with-volume" {
		img.Config.Config.Volumes = map[string]struct{}{"/data": {}}
	}
	return img, nil
}

func (f fakeImages) Prepare(_ context.Context, _ *image.Image, key string, _ map[string]string) error {
	return f.w.step("prepare", "snapshot "+key)
}

func (f fakeImages) View(_ context.Context, _ *image.Image, key string) error {
	return f.w.step("view", "view "+key)
}

func (f fakeImages) Mounts(context.Context, string) ([]mount.Mount, error) {
	return []mount.Mount{{Type: "bind", Source: "/"}}, f.w.step("mounts", "")
}

func (f fakeImages) RemoveSnapshot(ctx context.Context, key string) error {
	if err := f.w.step("remove snapshot", ""); err != nil {
		return err
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	f.w.drop("snapshot " + key)
	f.w.drop("view " + key)
	return nil
}

func (f fakeImages) Parent(context.Context, string) ([]mount.Mount, func(), error) {
	return nil, func() {}, nil
}

func (f fakeImages) Commit(context.Context, image.Commit) (digest.Digest, error) { return "", nil }

func (f fakeImages) ParentUsage(context.Context, string) (int64, error) { return 1 << 20, nil }

func (f fakeImages) Usage(context.Context, string) (snapshot.Usage, error) {
	return snapshot.Usage{Size: 7}, nil
}

type fakeVolumes struct{ w *world }

func (f fakeVolumes) Ensure(_ context.Context, o volumetypes.CreateOptions, user string) (*volumetypes.Volume, error) {
	name := o.Name
	if name == "" {
		name = "anon"
	}
	return &volumetypes.Volume{Name: name, Driver: "local", Mountpoint: "/volumes/" + name}, f.w.step("ensure", "reference "+name+user)
}

func (f fakeVolumes) Mount(_ context.Context, name, user string) (string, error) {
	return "/volumes/" + name, f.w.step("mount", "mount "+name+user)
}

func (f fakeVolumes) Unmount(_ context.Context, name, user string) error {
	f.w.drop("mount " + name + user)
	return nil
}

func (f fakeVolumes) Release(_ context.Context, name, user string) error {
	f.w.drop("reference " + name + user)
	return nil
}

func (f fakeVolumes) Remove(context.Context, string, bool) error          { return nil }
func (f fakeVolumes) Restore(context.Context, string, string, bool) error { return nil }

type fakeNetworks struct{ w *world }

func (f fakeNetworks) Validate(network.Request) error { return f.w.step("validate", "") }

func (f fakeNetworks) Allocate(_ context.Context, r network.Request) (*network.Sandbox, error) {
	if err := f.w.step("allocate", "network "+r.ContainerID); err != nil {
		return nil, err
	}
	return &network.Sandbox{NetnsPath: "/netns/" + r.ContainerID, Held: []shimwire.Port{{Proto: "tcp"}}}, nil
}

func (f fakeNetworks) Release(_ context.Context, id string) error {
	f.w.drop("network " + id)
	return nil
}

func (f fakeNetworks) Restore(context.Context, map[string]bool) error { return nil }

type fakeRoot struct{ w *world }

func (r fakeRoot) LookupUser(spec string, _ []string) (specs.User, string, error) {
	if spec == "nope" {
		return specs.User{}, "", errdefs.InvalidArgument("unable to find user nope: no matching entries in passwd file")
	}
	return specs.User{}, "/root", r.w.step("lookup", "")
}

func (r fakeRoot) IsDir(path string) (dir, found bool) { return path == "/data", path == "/data" }
func (r fakeRoot) CopyUp(context.Context, string, string) error {
	return r.w.step("copy up", "")
}
func (r fakeRoot) Close() error { return nil }

// fakeConn is a shim's stream.
type fakeConn struct {
	frames chan shimwire.Frame
	closed chan struct{}
	once   sync.Once
}

func newFakeConn() *fakeConn {
	return &fakeConn{frames: make(chan shimwire.Frame, 8), closed: make(chan struct{})}
}

func (c *fakeConn) Read() (shimwire.Frame, error) {
	select {
	case f := <-c.frames:
		return f, nil
	case <-c.closed:
		return shimwire.Frame{}, io.ErrUnexpectedEOF
	}
}
func (c *fakeConn) Write(p []byte) (int, error) { return len(p), nil }
func (c *fakeConn) CloseStdin() error           { return nil }
func (c *fakeConn) Close() error                { c.once.Do(func() { close(c.closed) }); return nil }

var errBroken = errors.New("broken")

// make creates a container of the image with the host configuration.
func (w *world) make(s *Service, name string, change func(*apicontainer.CreateOptions)) string {
	w.t.Helper()
	o := apicontainer.CreateOptions{
		Name: name, Config: &containertypes.Config{Image: "app"}, HostConfig: &containertypes.HostConfig{},
	}
	if change != nil {
		change(&o)
	}
	r, err := s.Create(w.t.Context(), o)
	if err != nil {
		w.t.Fatal(err)
	}
	return r.ID
}

// shutDown ends the service within the test.
func (w *world) shutDown(s *Service) {
	w.t.Helper()
	if err := s.Close(); err != nil {
		w.t.Error(err)
	}
}

func text(err error) string {
	if err == nil {
		return ""
	}
	return fmt.Sprint(err)
}
