// Package tasktest is what a manager of tasks must do, in this process or behind gRPC, with
// a real shim under it.
package tasktest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/containerd/typeurl/v2"
	"github.com/opencontainers/runtime-spec/specs-go"
	"google.golang.org/protobuf/types/known/anypb"

	"gantry/api/errdefs"
	"gantry/api/reqctx"
	"gantry/libctr/core/container"
	"gantry/libctr/core/mount"
	"gantry/libctr/core/task"
)

// Core is what the suite holds, and what it needs.
type Core struct {
	Tasks      task.Manager
	Containers container.Store // that Tasks looks its containers up in
	Runtime    string          // name, or path of a shim
	Rootfs     string          // a directory with busybox
}

// Run runs the suite on one core, in a namespace for each test.
func Run(t *testing.T, c Core) {
	for name, test := range map[string]func(*subject){
		"life":        life,
		"never began": neverBegan,
		"exec":        exec,
		"signals":     signals,
		"pause":       pause,
		"update":      update,
		"waiters":     waiters,
		"nothing":     nothing,
		"refused":     refused,
		"apart":       apart,
	} {
		t.Run(name, func(t *testing.T) {
			ns := fmt.Sprintf("tasktest-%d-%d", os.Getpid(), time.Now().UnixNano())
			ctx, cancel := context.WithTimeout(reqctx.WithNamespace(t.Context(), ns), time.Minute)
			defer cancel()
			s := &subject{T: t, Core: c, ctx: ctx, cgroup: ns}
			t.Cleanup(s.clear)
			test(s)
		})
	}
}

type subject struct {
	*testing.T
	Core
	ctx    context.Context
	cgroup string
	made   []string
}

// clear takes away what a test has left.
func (s *subject) clear() {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(s.ctx), 20*time.Second)
	defer cancel()
	for _, id := range s.made {
		if s.Tasks.Kill(ctx, id, "", 9, true) == nil {
			_, _ = s.Tasks.Wait(ctx, id, "")
		}
		if _, err := s.Tasks.Delete(ctx, id, ""); err != nil && !errdefs.IsNotFound(err) {
			s.Errorf("delete %s: %v", id, err)
		}
		if err := s.Containers.Delete(ctx, id); err != nil {
			s.Error(err)
		}
	}
	parents, _ := filepath.Glob("/sys/fs/cgroup/*/" + s.cgroup)
	for _, dir := range append(parents, filepath.Join("/sys/fs/cgroup", s.cgroup)) {
		_ = os.Remove(dir)
	}
	_ = os.Remove(filepath.Join("/run/containerd/runc", s.cgroup)) // where runc's shim keeps its state
}

func (s *subject) must(err error) {
	s.Helper()
	if err != nil {
		s.Fatal(err)
	}
}

func (s *subject) is(what string, err, class error) {
	s.Helper()
	if !errors.Is(err, class) {
		s.Errorf("%s: %v, want class %v", what, err, class)
	}
}

func packed(kind string, v any) typeurl.Any {
	raw, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return &anypb.Any{TypeUrl: "types.containerd.io/opencontainers/runtime-spec/1/" + kind, Value: raw}
}

func process(args ...string) *specs.Process {
	return &specs.Process{Args: args, Cwd: "/", Env: []string{"PATH=/bin"}, NoNewPrivileges: true, Capabilities: &specs.LinuxCapabilities{}}
}

// record makes a container.
func (s *subject) record(id string, args ...string) {
	s.Helper()
	_, err := s.Containers.Create(s.ctx, container.Container{
		ID: id, Runtime: container.Runtime{Name: s.Runtime},
		Spec: packed("Spec", specs.Spec{
			Version: "1.0.2",
			Process: process(args...),
			Root:    &specs.Root{Path: "rootfs"},
			Mounts:  []specs.Mount{{Destination: "/proc", Type: "proc", Source: "proc"}},
			Linux: &specs.Linux{
				CgroupsPath: "/" + s.cgroup + "/" + id,
				Namespaces:  []specs.LinuxNamespace{{Type: specs.PIDNamespace}, {Type: specs.MountNamespace}, {Type: specs.NetworkNamespace}, {Type: specs.IPCNamespace}, {Type: specs.UTSNamespace}},
			},
		}),
	})
	s.must(err)
	s.made = append(s.made, id)
}

func (s *subject) create(id string) (pid uint32, err error) {
	return s.Tasks.Create(s.ctx, task.CreateOptions{ContainerID: id,
		Rootfs: []mount.Mount{{Type: "bind", Source: s.Rootfs, Options: []string{"rbind", "rw"}}}})
}

// run makes a container and starts its task.
func (s *subject) run(id string, args ...string) (pid uint32) {
	s.Helper()
	s.record(id, args...)
	made, err := s.create(id)
	s.must(err)
	pid, err = s.Tasks.Start(s.ctx, id, "")
	s.must(err)
	if pid == 0 || pid != made {
		s.Errorf("pid %d, %d when it was created", pid, made)
	}
	return pid
}

func (s *subject) status(id, exec string, want task.Status) task.State {
	s.Helper()
	st, err := s.Tasks.Get(s.ctx, id, exec)
	s.must(err)
	if st.Status != want || st.ContainerID != id || st.ExecID != exec {
		s.Errorf("state %+v, want status %d of %s %s", st, want, id, exec)
	}
	return st
}

func life(s *subject) {
	s.record("c", "sh", "-c", "exit 7")
	pid, err := s.create("c")
	s.must(err)
	if st := s.status("c", "", task.StatusCreated); st.PID != pid || !st.ExitedAt.IsZero() {
		s.Errorf("created: %+v, pid %d", st, pid)
	}
	_, err = s.create("c")
	s.is("create twice", err, errdefs.ErrAlreadyExists)
	_, err = s.Tasks.Start(s.ctx, "c", "")
	s.must(err)
	e, err := s.Tasks.Wait(s.ctx, "c", "")
	s.must(err)
	if e.Code != 7 || time.Since(e.At).Abs() > time.Minute {
		s.Errorf("exit %+v", e)
	}
	if st := s.status("c", "", task.StatusStopped); st.ExitStatus != 7 || !st.ExitedAt.Equal(e.At) {
		s.Errorf("stopped: %+v, exit %+v", st, e)
	}
	all, err := s.Tasks.List(s.ctx)
	s.must(err)
	if len(all) != 1 || all[0].ContainerID != "c" || all[0].Status != task.StatusStopped {
		s.Errorf("list %+v", all)
	}
	if _, err = s.Tasks.Start(s.ctx, "c", ""); err == nil {
		s.Error("a task that has ended is started")
	}
	d, err := s.Tasks.Delete(s.ctx, "c", "")
	s.must(err)
	if d.PID != pid || d.Code != 7 || !d.At.Equal(e.At) {
		s.Errorf("deleted %+v, exit %+v", d, e)
	}
	_, err = s.Tasks.Delete(s.ctx, "c", "")
	s.is("delete twice", err, errdefs.ErrNotFound)
	_, err = s.create("c") // again
	s.must(err)
}

func neverBegan(s *subject) {
	s.record("c", "sleep", "1000")
	_, err := s.create("c")
	s.must(err)
	_, err = s.Tasks.Delete(s.ctx, "c", "")
	s.must(err)
	_, err = s.Tasks.Get(s.ctx, "c", "")
	s.is("get", err, errdefs.ErrNotFound)
	s.record("lost", "/bin/nope")
	if _, err := s.create("lost"); err == nil { // runc looks for it then, others at the start
		_, err = s.Tasks.Start(s.ctx, "lost", "")
		if err == nil {
			s.Error("what is not there is started")
		}
	} else if _, err := s.Tasks.Get(s.ctx, "lost", ""); !errdefs.IsNotFound(err) {
		s.Errorf("left of a failed create: %v", err)
	}
}

func exec(s *subject) {
	s.run("c", "sleep", "1000")
	do := func(id string, args ...string) error {
		return s.Tasks.Exec(s.ctx, task.ExecOptions{ContainerID: "c", ExecID: id, Spec: packed("Process", process(args...))})
	}
	s.must(do("e", "sh", "-c", "exit 3"))
	s.is("exec twice", do("e", "true"), errdefs.ErrAlreadyExists)
	s.is("no id", do("", "true"), errdefs.ErrInvalidArgument)
	s.is("id is a path", do("a/b", "true"), errdefs.ErrInvalidArgument)
	s.status("c", "e", task.StatusCreated)
	pid, err := s.Tasks.Start(s.ctx, "c", "e")
	s.must(err)
	e, err := s.Tasks.Wait(s.ctx, "c", "e")
	s.must(err)
	if e.Code != 3 || pid == 0 {
		s.Errorf("exit %+v of %d", e, pid)
	}
	s.status("c", "e", task.StatusStopped)
	s.status("c", "", task.StatusRunning)
	d, err := s.Tasks.Delete(s.ctx, "c", "e")
	s.must(err)
	if d.Code != 3 || d.PID != pid {
		s.Errorf("deleted %+v, pid %d", d, pid)
	}
	_, err = s.Tasks.Delete(s.ctx, "c", "e")
	s.is("delete twice", err, errdefs.ErrNotFound)
	s.must(do("gone", "/bin/nope"))
	if _, err := s.Tasks.Start(s.ctx, "c", "gone"); err == nil {
		s.Error("what is not there is started")
	}
	s.must(do("long", "sleep", "1000"))
	_, err = s.Tasks.Start(s.ctx, "c", "long")
	s.must(err)
	if pids, err := s.Tasks.Pids(s.ctx, "c"); err != nil || len(pids) != 2 {
		s.Errorf("pids %v, %v", pids, err)
	}
	s.must(s.Tasks.Kill(s.ctx, "c", "", 9, false)) // ends the exec too
	if e, err := s.Tasks.Wait(s.ctx, "c", "long"); err != nil || e.Code != 137 {
		s.Errorf("exec of a killed task: %+v, %v", e, err)
	}
}

func signals(s *subject) {
	s.run("c", "sh", "-c", "trap 'exit 5' USR1; while :; do sleep 0.05; done")
	if err := s.Tasks.Kill(s.ctx, "c", "", 99, false); err == nil {
		s.Error("signal 99 is sent")
	}
	s.must(s.Tasks.Kill(s.ctx, "c", "", 0, false))
	for { // until the trap is set, it is not heard
		if err := s.Tasks.Kill(s.ctx, "c", "", 10, false); !errdefs.IsNotFound(err) { // it has just ended
			s.must(err)
		}
		st, err := s.Tasks.Get(s.ctx, "c", "")
		s.must(err)
		if st.Status == task.StatusStopped {
			break
		}
		time.Sleep(20 * time.Millisecond)
	}
	if e, err := s.Tasks.Wait(s.ctx, "c", ""); err != nil || e.Code != 5 {
		s.Errorf("exit %+v, %v", e, err)
	}
	s.is("of what has ended", s.Tasks.Kill(s.ctx, "c", "", 15, false), errdefs.ErrNotFound)
}

func pause(s *subject) {
	s.run("c", "sleep", "1000")
	if err := s.Tasks.Resume(s.ctx, "c"); err == nil {
		s.Error("what is not paused is resumed")
	}
	s.must(s.Tasks.Pause(s.ctx, "c"))
	s.status("c", "", task.StatusPaused)
	if err := s.Tasks.Pause(s.ctx, "c"); err == nil {
		s.Error("paused twice")
	}
	if _, err := s.Tasks.Delete(s.ctx, "c", ""); err == nil {
		s.Error("deleted while paused")
	}
	s.must(s.Tasks.Resume(s.ctx, "c"))
	s.status("c", "", task.StatusRunning)
	s.must(s.Tasks.ResizePty(s.ctx, "c", "", 80, 24)) // without a terminal
	s.must(s.Tasks.CloseIO(s.ctx, "c", ""))           // without a stdin
}

func update(s *subject) {
	s.run("c", "sleep", "1000")
	shares := uint64(512)
	s.must(s.Tasks.Update(s.ctx, "c", packed("Resources", specs.LinuxResources{CPU: &specs.LinuxCPU{Shares: &shares}}), nil))
	if err := s.Tasks.Update(s.ctx, "c", packed("Resources", "text"), nil); err == nil {
		s.Error("a text is taken for resources")
	}
	figures, err := s.Tasks.Metrics(s.ctx, "c")
	s.must(err)
	if kinds := []string{"io.containerd.cgroups.v1.Metrics", "io.containerd.cgroups.v2.Metrics"}; !slices.Contains(kinds, figures.GetTypeUrl()) {
		s.Errorf("metrics are %s", figures.GetTypeUrl())
	}
	_, err = s.Tasks.Metrics(s.ctx, "none")
	s.is("metrics of nothing", err, errdefs.ErrNotFound)
}

// waiters wait side by side, and one that goes does not matter to the others.
func waiters(s *subject) {
	s.run("c", "sleep", "1000")
	ends := make(chan task.Exit, 8)
	for range cap(ends) {
		go func() { // ends with the task, or the test's context
			e, err := s.Tasks.Wait(s.ctx, "c", "")
			if err != nil {
				s.Errorf("wait: %v", err)
			}
			ends <- e
		}()
	}
	ctx, cancel := context.WithTimeout(s.ctx, 50*time.Millisecond)
	defer cancel()
	if _, err := s.Tasks.Wait(ctx, "c", ""); err == nil {
		s.Error("it has not ended")
	}
	s.must(s.Tasks.Kill(s.ctx, "c", "", 9, false))
	first := <-ends
	for range cap(ends) - 1 {
		if e := <-ends; e.Code != 137 || !e.At.Equal(first.At) {
			s.Errorf("exit %+v and %+v", first, e)
		}
	}
}

func nothing(s *subject) {
	t := s.Tasks
	s.record("idle", "true")
	for _, id := range []string{"none", "idle"} { // without a record, and without a task
		_, started := t.Start(s.ctx, id, "")
		_, deleted := t.Delete(s.ctx, id, "")
		_, got := t.Get(s.ctx, id, "")
		_, waited := t.Wait(s.ctx, id, "")
		_, pids := t.Pids(s.ctx, id)
		for name, err := range map[string]error{
			"start": started, "delete": deleted, "get": got, "wait": waited, "pids": pids,
			"kill": t.Kill(s.ctx, id, "", 9, false), "pause": t.Pause(s.ctx, id), "resume": t.Resume(s.ctx, id),
			"resize": t.ResizePty(s.ctx, id, "", 1, 1), "close": t.CloseIO(s.ctx, id, ""),
			"exec":   t.Exec(s.ctx, task.ExecOptions{ContainerID: id, ExecID: "e", Spec: packed("Process", process("true"))}),
			"update": t.Update(s.ctx, id, packed("Resources", struct{}{}), nil),
		} {
			s.is(name+" of "+id, err, errdefs.ErrNotFound)
		}
	}
	_, err := s.create("none")
	s.is("create of none", err, errdefs.ErrNotFound)
	if all, err := t.List(s.ctx); err != nil || len(all) > 0 {
		s.Errorf("list %v, %v", all, err)
	}
}

// refused is what a running task does not do, nor an exec that there is not.
func refused(s *subject) {
	t := s.Tasks
	s.run("c", "sleep", "1000")
	if _, err := t.Start(s.ctx, "c", ""); err == nil {
		s.Error("started twice")
	}
	if _, err := t.Delete(s.ctx, "c", ""); err == nil {
		s.Error("deleted while it runs")
	}
	s.status("c", "", task.StatusRunning)
	_, started := t.Start(s.ctx, "c", "none")
	_, deleted := t.Delete(s.ctx, "c", "none")
	_, got := t.Get(s.ctx, "c", "none")
	_, waited := t.Wait(s.ctx, "c", "none")
	for name, err := range map[string]error{
		"start": started, "delete": deleted, "get": got, "wait": waited, "kill": t.Kill(s.ctx, "c", "none", 9, false),
		"resize": t.ResizePty(s.ctx, "c", "none", 1, 1), "close": t.CloseIO(s.ctx, "c", "none"),
	} {
		s.is(name+" of no exec", err, errdefs.ErrNotFound)
	}
}

// apart are tasks of the same name in two namespaces.
func apart(s *subject) {
	other := *s
	other.ctx, other.cgroup, other.made = reqctx.WithNamespace(s.ctx, s.cgroup+"-other"), s.cgroup+"-other", nil
	defer other.clear()
	a, b := s.run("c", "sleep", "1000"), other.run("c", "sleep", "1000")
	if a == b {
		s.Errorf("both have pid %d", a)
	}
	s.must(s.Tasks.Kill(s.ctx, "c", "", 9, false))
	_, err := s.Tasks.Wait(s.ctx, "c", "")
	s.must(err)
	other.status("c", "", task.StatusRunning)
	if all, err := s.Tasks.List(other.ctx); err != nil || len(all) != 1 || all[0].PID != b {
		s.Errorf("list %+v, %v", all, err)
	}
}
