package sandbox_test

import (
	"context"
	"errors"
	"os"
	"testing"
	"time"

	v1 "github.com/containerd/cgroups/v3/cgroup1/stats"
	v2 "github.com/containerd/cgroups/v3/cgroup2/stats"
	sandboxapi "github.com/containerd/containerd/api/runtime/sandbox/v1"
	taskapi "github.com/containerd/containerd/api/runtime/task/v3"
	"github.com/containerd/containerd/api/types"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"gantry/api/errdefs"
	"gantry/runtime/cgroup"
	"gantry/shim/sandbox"
)

// containers are a shim's as far as a sandbox can see.
type containers struct {
	counters map[string]*cgroup.Stats
	created  *taskapi.CreateTaskRequest
	ended    chan *taskapi.WaitResponse // of the sandbox's own process
	held     bool
	kills    int
	fails    error
}

func (c *containers) Hold() { c.held = true }
func (c *containers) IDs() []string {
	var ids []string
	for _, id := range []string{"a", "b", "c"} {
		if _, ok := c.counters[id]; ok {
			ids = append(ids, id)
		}
	}
	return ids
}

func (c *containers) Counters(id string) (*cgroup.Stats, error) {
	if s := c.counters[id]; s != nil {
		return s, nil
	}
	return nil, errdefs.NotFound("container not created")
}

func (c *containers) KillAll(context.Context) error { c.kills++; return c.fails }
func (c *containers) End(context.Context) error     { c.held = false; return c.fails }

func (c *containers) Create(_ context.Context, r *taskapi.CreateTaskRequest) (*taskapi.CreateTaskResponse, error) {
	c.created = r
	return &taskapi.CreateTaskResponse{}, c.fails
}

func (c *containers) Start(context.Context, *taskapi.StartRequest) (*taskapi.StartResponse, error) {
	return &taskapi.StartResponse{Pid: 77}, c.fails
}

func (c *containers) Wait(context.Context, *taskapi.WaitRequest) (*taskapi.WaitResponse, error) {
	return <-c.ended, nil
}

const id = "pod"

func create(t *testing.T, s *sandbox.Service, rootfs ...*types.Mount) {
	t.Helper()
	if _, err := s.CreateSandbox(t.Context(), &sandboxapi.CreateSandboxRequest{SandboxID: id, BundlePath: "/b", Rootfs: rootfs}); err != nil {
		t.Fatal(err)
	}
}

func state(t *testing.T, s *sandbox.Service) *sandboxapi.SandboxStatusResponse {
	t.Helper()
	r, err := s.SandboxStatus(t.Context(), &sandboxapi.SandboxStatusRequest{SandboxID: id})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// TestProcess has a process of the sandbox's own, which fails to start at first.
func TestProcess(t *testing.T) {
	c := &containers{ended: make(chan *taskapi.WaitResponse)}
	s := sandbox.New(c)
	create(t, s, &types.Mount{Type: "bind", Source: "/x"})
	if !c.held || c.created.GetID() != id || c.created.GetBundle() != "/b" || len(c.created.GetRootfs()) != 1 {
		t.Errorf("created %v, held %v", c.created, c.held)
	}
	c.fails = errors.New("no such program")
	if _, err := s.StartSandbox(t.Context(), &sandboxapi.StartSandboxRequest{SandboxID: id}); !errors.Is(err, c.fails) {
		t.Errorf("start: %v", err)
	}
	if st := state(t, s); st.State != "SANDBOX_NOTREADY" || st.CreatedAt != nil {
		t.Errorf("after a start that failed: %v", st)
	}
	c.fails = nil
	if r, err := s.StartSandbox(t.Context(), &sandboxapi.StartSandboxRequest{SandboxID: id}); err != nil || r.Pid != 77 {
		t.Errorf("start: %v, %v", r, err)
	}
	if st := state(t, s); st.State != "SANDBOX_READY" || st.Pid != 77 {
		t.Errorf("running: %v", st)
	}
	at := time.Now().Add(-time.Minute)
	c.ended <- &taskapi.WaitResponse{ExitStatus: 3, ExitedAt: timestamppb.New(at)}
	r, err := s.WaitSandbox(t.Context(), &sandboxapi.WaitSandboxRequest{SandboxID: id})
	if err != nil || r.ExitStatus != 3 || !r.ExitedAt.AsTime().Equal(at) {
		t.Errorf("exit %v, %v", r, err)
	}
	if st := state(t, s); st.State != "SANDBOX_NOTREADY" || !st.ExitedAt.AsTime().Equal(at) {
		t.Errorf("ended: %v", st)
	}
}

// TestFailedCreation leaves the shim free for another attempt.
func TestFailedCreation(t *testing.T) {
	c := &containers{fails: errors.New("no"), ended: make(chan *taskapi.WaitResponse)}
	s := sandbox.New(c)
	_, err := s.CreateSandbox(t.Context(), &sandboxapi.CreateSandboxRequest{SandboxID: id, Rootfs: []*types.Mount{{}}})
	if !errors.Is(err, c.fails) || c.held {
		t.Errorf("%v, held %v", err, c.held)
	}
	c.fails = nil
	create(t, s)
	if r, err := s.StartSandbox(t.Context(), &sandboxapi.StartSandboxRequest{SandboxID: id}); err != nil || int(r.Pid) != os.Getpid() {
		t.Errorf("start: %v, %v", r, err)
	}
}

// TestStopThatFails leaves the sandbox as it is.
func TestStopThatFails(t *testing.T) {
	c := &containers{fails: errors.New("it does not die")}
	s := sandbox.New(c)
	create(t, s)
	if _, err := s.StartSandbox(t.Context(), &sandboxapi.StartSandboxRequest{SandboxID: id}); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if _, err := s.StopSandbox(t.Context(), &sandboxapi.StopSandboxRequest{SandboxID: id}); !errors.Is(err, c.fails) {
			t.Errorf("stop: %v", err)
		}
		if _, err := s.ShutdownSandbox(t.Context(), &sandboxapi.ShutdownSandboxRequest{SandboxID: id}); !errors.Is(err, c.fails) {
			t.Errorf("shutdown: %v", err)
		}
	}
	if st := state(t, s); st.State != "SANDBOX_READY" || c.kills != 2 {
		t.Errorf("%v after %d attempts", st, c.kills)
	}
}

// TestMetrics adds up what has a sum, over containers that have ended too.
func TestMetrics(t *testing.T) {
	c := &containers{}
	s := sandbox.New(c)
	create(t, s)
	data := func(into proto.Message) {
		t.Helper()
		r, err := s.SandboxMetrics(t.Context(), &sandboxapi.SandboxMetricsRequest{SandboxID: id})
		if err != nil || r.Metrics.GetID() != id || r.Metrics.GetTimestamp() == nil {
			t.Fatalf("%v, %v", r, err)
		}
		if into == nil {
			if r.Metrics.Data != nil {
				t.Errorf("metrics of nothing: %v", r.Metrics.Data)
			}
			return
		}
		if err := proto.Unmarshal(r.Metrics.GetData().GetValue(), into); err != nil {
			t.Fatal(err)
		}
	}
	data(nil)
	two := func(cpu, mem, pids uint64) *cgroup.Stats {
		return &cgroup.Stats{V2: &cgroup.StatsV2{CPU: cgroup.CPUV2{UsageUsec: cpu}, Memory: &cgroup.MemoryV2{Usage: mem}, Pids: &cgroup.Pids{Current: pids, Limit: 9}}}
	}
	c.counters = map[string]*cgroup.Stats{"a": two(1, 10, 100), "b": nil, "c": two(2, 20, 200)}
	var m2 v2.Metrics
	if data(&m2); m2.CPU.UsageUsec != 3 || m2.Memory.Usage != 30 || m2.Pids.Current != 300 || m2.Pids.Limit != 0 {
		t.Errorf("v2: %v", &m2)
	}
	one := &cgroup.Stats{V1: &cgroup.StatsV1{Memory: &cgroup.MemoryV1{Usage: &cgroup.MemoryEntry{Usage: 5, Limit: 50}}}}
	one.V1.CPU.Usage.Total = 7
	c.counters = map[string]*cgroup.Stats{"a": one, "b": one, "c": {V1: &cgroup.StatsV1{}}}
	var m1 v1.Metrics
	if data(&m1); m1.CPU.Usage.Total != 14 || m1.Memory.Usage.Usage != 10 || m1.Memory.Usage.Limit != 0 {
		t.Errorf("v1: %v", &m1)
	}
	if c.counters["a"].V1.CPU.Usage.Total != 7 {
		t.Error("a container's own counters were changed")
	}
}
