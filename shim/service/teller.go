package service

import (
	"sync"

	"github.com/containerd/containerd/api/events"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"gantry/shim/reaper"
)

// teller makes events of what process tells about one container. What happens
// before the creation has been published waits for that.
type teller struct {
	id      string
	note    func(reaper.Exit) // keeps how the init has ended
	publish func(string, proto.Message)
	once    sync.Once
	begun   chan struct{}
	silent  bool // set before begun is closed
}

// begin lets the events out.
func (t *teller) begin() { t.once.Do(func() { close(t.begun) }) }

// silence drops the events of a container that nobody has heard of.
func (t *teller) silence() { t.once.Do(func() { t.silent = true; close(t.begun) }) }

func (t *teller) tell(topic string, e proto.Message) {
	<-t.begun
	if !t.silent {
		t.publish(topic, e)
	}
}

// Started implements process.Teller.
func (t *teller) Started(exec string, pid int) {
	if exec == "" {
		t.tell("/tasks/start", &events.TaskStart{ContainerID: t.id, Pid: uint32(pid)})
		return
	}
	t.tell("/tasks/exec-started", &events.TaskExecStarted{ContainerID: t.id, ExecID: exec, Pid: uint32(pid)})
}

// OutOfMemory implements process.Teller.
func (t *teller) OutOfMemory() { t.tell("/tasks/oom", &events.TaskOOM{ContainerID: t.id}) }

// Exited implements process.Teller.
func (t *teller) Exited(exec string, e reaper.Exit) {
	id := exec
	if id == "" {
		id = t.id // containerd names the init so
		t.note(e)
	}
	t.tell("/tasks/exit", &events.TaskExit{
		ContainerID: t.id, ID: id, Pid: uint32(e.Pid), ExitStatus: uint32(e.Status), ExitedAt: timestamppb.New(e.At),
	})
}
