package container

import (
	"time"

	eventsapi "github.com/containerd/containerd/api/events"
	"github.com/containerd/typeurl/v2"
	"github.com/docker/docker/api/types/events"

	"gantry/libctr/core/event"
	"gantry/libctr/core/task"
)

// listen takes the core's hints until the daemon ends. Exits are not among them: Wait
// tells them.
func (s *Service) listen() {
	for s.life.Err() == nil {
		ch, errs := s.CoreEvents.Subscribe(s.life,
			`topic=="/tasks/oom"`, `topic=="/tasks/paused"`, `topic=="/tasks/resumed"`)
		for env := range ch {
			s.hint(env)
		}
		if err := <-errs; err != nil && s.life.Err() == nil {
			s.log.Warn("listen to the core", "err", err)
		}
		select {
		case <-time.After(time.Second):
		case <-s.life.Done():
		}
	}
}

func (s *Service) hint(env *event.Envelope) {
	v, err := typeurl.UnmarshalAny(env.Event)
	if err != nil {
		s.log.Warn("read event of the core", "topic", env.Topic, "err", err)
		return
	}
	switch ev := v.(type) {
	case *eventsapi.TaskOOM:
		s.lacksMemory(ev.ContainerID, env.Timestamp)
	case *eventsapi.TaskPaused:
		s.spawn(func() { s.turned(ev.ContainerID, Running, Paused, events.ActionPause) })
	case *eventsapi.TaskResumed:
		s.spawn(func() { s.turned(ev.ContainerID, Paused, Running, events.ActionUnPause) })
	}
}

// lacksMemory notes that a process of the container was killed at that time. The hint may
// come after the exit, by another way, and is then of the run that has ended last.
func (s *Service) lacksMemory(id string, at time.Time) {
	e := s.entry(id)
	if e == nil {
		return
	}
	var tell bool
	next := s.update(s.life, e, func(n *Snapshot) {
		late := !n.Status.HasTask() || n.Exit != nil
		tell = !late || !n.OOMKilled && !n.StartedAt.IsZero() && !at.Before(n.StartedAt)
		n.OOMKilled = n.OOMKilled || tell
	})
	if tell {
		s.publish(next, events.ActionOOM, nil)
	}
}

// turned notes a pause that did not come through us. The lane keeps it apart from one
// that did and is being committed; a busy lane keeps up no other container's hints.
func (s *Service) turned(id string, from, to Status, action events.Action) {
	e := s.entry(id)
	if e == nil || e.lane.enter(s.life) != nil {
		return
	}
	defer e.lane.leave()
	st, err := s.Tasks.Get(s.life, id, "")
	if err != nil || st.Status == task.StatusUnknown || e.snapshot().Status != from || statusOf(st) != to {
		return
	}
	next := s.update(s.life, e, func(n *Snapshot) { n.Status = to })
	s.publish(next, action, nil)
}
