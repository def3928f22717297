package container

import (
	"time"

	eventsapi "github.com/containerd/containerd/api/events"
	"github.com/containerd/typeurl/v2"
	"github.com/docker/docker/api/types/events"

	"gantry/libctr/core/event"
	"gantry/libctr/core/task"
)

// listen takes the core's hints until the daemon ends. Exits are not among them, since
// Wait tells them, but with a core that forgets those of shims that have died. A core of its own may go and come back without us: what it may have told
// meanwhile is asked for.
func (s *Service) listen() {
	for away := false; s.life.Err() == nil; {
		err := s.hear(func() {
			if away {
				s.log.Info("the core is back")
				s.spawn(s.catchUp)
			}
			away = false
		})
		if err != nil && !away && s.life.Err() == nil {
			s.log.Warn("the core is away", "err", err)
			away = true
		}
		select {
		case <-time.After(time.Second):
		case <-s.life.Done():
		}
	}
}

// hear takes hints until the core sends no more, and calls begun once it does.
func (s *Service) hear(begun func()) error {
	topics := []string{`topic=="/tasks/oom"`, `topic=="/tasks/paused"`, `topic=="/tasks/resumed"`}
	if s.cfg.HeedExits {
		topics = append(topics, `topic=="/tasks/exit"`)
	}
	ch, errs := s.CoreEvents.Subscribe(s.life, topics...)
	select {
	case err := <-errs:
		return err
	default:
	}
	begun()
	for env := range ch {
		s.hint(env)
	}
	return <-errs
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
	case *eventsapi.TaskExit:
		if ev.ID == ev.ContainerID {
			s.tellExit(ev)
		}
	case *eventsapi.TaskPaused:
		s.spawn(func() { s.turned(ev.ContainerID, Running, Paused, events.ActionPause) })
	case *eventsapi.TaskResumed:
		s.spawn(func() { s.turned(ev.ContainerID, Paused, Running, events.ActionUnPause) })
	}
}

// tellExit notes how the init of a container's run has ended, for whom Wait does not tell.
func (s *Service) tellExit(ev *eventsapi.TaskExit) {
	e := s.entry(ev.ContainerID)
	if e == nil {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	exit := task.Exit{Code: ev.ExitStatus, At: ev.ExitedAt.AsTime()}
	if e.run == nil || e.run.told == nil || exit.At.Before(e.run.began) {
		return
	}
	select {
	case e.run.told <- exit:
	default: // told before
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

// catchUp notes pauses and resumptions that nobody has told us of. Lack of memory shows
// in the counters when the container ends.
func (s *Service) catchUp() {
	for _, e := range s.all() {
		switch e.snapshot().Status {
		case Running:
			s.turned(e.id, Running, Paused, events.ActionPause)
		case Paused:
			s.turned(e.id, Paused, Running, events.ActionUnPause)
		}
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
