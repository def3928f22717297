package task

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"time"

	eventtypes "github.com/containerd/containerd/api/events"
	"github.com/containerd/typeurl/v2"
	"golang.org/x/sys/unix"

	"gantry/api/failpoint"
	"gantry/api/reqctx"
	"gantry/api/shimwire"
	"gantry/libctr/core/event"
	"gantry/libctr/core/task"
	"gantry/libctr/core/wire"
)

// Topics of what the manager itself publishes.
const (
	topicExit   = "/tasks/exit"
	topicDelete = "/tasks/delete"
)

// redialEvery is the pause between attempts to reach a shim that lives but takes
// no connection.
const redialEvery = 250 * time.Millisecond

// Forward passes on a shim's event, having noted whether it is the exit of a
// task's init: that is then not published a second time should the shim die.
// Hops go no further.
func (m *Manager) Forward(ctx context.Context, e *event.Envelope) error {
	if e.Topic == shimwire.TopicHops {
		m.noteHops(ctx, e)
		return nil
	}
	if err := m.cfg.Events.Forward(ctx, e); err != nil {
		return err
	}
	if e.Topic == topicExit {
		m.noteExit(e)
	}
	return nil
}

func (m *Manager) noteExit(e *event.Envelope) {
	v, err := typeurl.UnmarshalAny(e.Event)
	if err != nil {
		return
	}
	exit, ok := v.(*eventtypes.TaskExit)
	if !ok || exit.GetID() != exit.GetContainerID() {
		return
	}
	if s := m.find(key{e.Namespace, exit.GetContainerID()}); s != nil {
		s.ended(exitFromProto(exit.GetPid(), exit.GetExitStatus(), exit.GetExitedAt()))
	}
}

// lost runs when the connection to a shim has ended: the shim is dialled again,
// or buried when nothing listens any more.
func (m *Manager) lost(s *shim) {
	if !s.noteLost() {
		return
	}
	m.background(func() {
		if m.redial(s) {
			return
		}
		if m.life.Err() == nil {
			m.bury(s)
		}
	})
}

// redial tries until the shim is connected again (true) or known to be dead.
func (m *Manager) redial(s *shim) bool {
	s.dialling.Lock()
	defer s.dialling.Unlock()
	if time.Since(s.redialed) < time.Second && !m.pause(redialEvery) { // lost as soon as it stood
		return false
	}
	for {
		ctx, cancel := context.WithTimeout(m.life, answerTimeout)
		err := s.attach(ctx, m.lost)
		cancel()
		if err == nil {
			s.redialed = time.Now()
			s.log.Warn("connection to shim was lost and is back")
			return true
		}
		if dead(err) || m.life.Err() != nil {
			return false
		}
		s.log.Warn("shim takes no connection", "err", err)
		if !m.pause(redialEvery) {
			return false
		}
	}
}

// pause returns false when the manager closes first.
func (m *Manager) pause(d time.Duration) bool {
	select {
	case <-time.After(d):
		return true
	case <-m.life.Done():
		return false
	}
}

// dead says whether a failed dial means that nobody listens.
func dead(err error) bool {
	return errors.Is(err, unix.ECONNREFUSED) || errors.Is(err, unix.ENOENT)
}

// bury cleans up after a shim that died with its task: the binary's delete call,
// the exit event if the shim did not get to send it, the delete event, the bundle.
// The exit is published in time even when the delete call is not done.
func (m *Manager) bury(s *shim) {
	if !s.claim() {
		return
	}
	ctx := reqctx.WithNamespace(m.life, s.ns)
	s.log.WarnContext(ctx, "shim is dead, cleaning up", "pid", s.initPID())

	told := make(chan task.Exit, 1)
	go func() { // ends with the delete call, which has a deadline
		told <- m.exitByBinary(ctx, s)
	}()
	var e task.Exit
	waiting := false
	select {
	case e = <-told:
	case <-time.After(exitWithin):
		e, waiting = task.Exit{Code: killedStatus, At: time.Now().UTC()}, true // that is what the call is about to do
	}
	if m.life.Err() != nil {
		return // the next start finds the bundle
	}
	failpoint.Hit("libctr/task.bury.cleaned")
	e, known := s.ended(e)
	close(s.gone)
	if !known && !s.boot.Sandbox {
		m.publish(ctx, s, topicExit, &eventtypes.TaskExit{
			ContainerID: s.id, ID: s.id, Pid: e.PID, ExitStatus: e.Code, ExitedAt: wire.Timestamp(e.At)})
	}
	if waiting {
		<-told
	}
	if !s.boot.Sandbox {
		m.publish(ctx, s, topicDelete, &eventtypes.TaskDelete{
			ContainerID: s.id, Pid: e.PID, ExitStatus: e.Code, ExitedAt: wire.Timestamp(e.At)})
	}
	m.homes.died(s)
	s.leave()
	removeSocket(ctx, s.boot.Address)
	failpoint.Hit("libctr/task.bury.told")
	m.warnIf(m.deactivate(ctx, s.bundle), "deactivate mounts of a dead shim's task", s.bundle)
	if err := s.bundle.remove(ctx); err != nil {
		s.log.ErrorContext(ctx, "remove bundle of a dead shim", "err", err)
	}
	m.drop(s.key)
	close(s.buried)
}

// removeSocket removes the socket file that a dead shim could not. Nobody must
// listen there: a shim is launched again at the same address when it serves a group.
func removeSocket(ctx context.Context, address string) {
	path, ok := strings.CutPrefix(address, "unix://")
	if !ok || !filepath.IsAbs(path) {
		return
	}
	if served(ctx, address) {
		return
	}
	if st, err := os.Lstat(path); err == nil && st.Mode().Type() == os.ModeSocket {
		_ = os.Remove(path) // what stays is an empty file in the sockets' directory
	}
}

// dyingTimeout is how long the last threads of a killed shim may hold its socket.
const dyingTimeout = 300 * time.Millisecond

// served says whether a shim lives behind the socket. One that is being killed still
// takes connections, and then drops them; a living one waits for a request.
func served(ctx context.Context, address string) bool {
	c, err := dialShim(ctx, address)
	if err != nil {
		return !errors.Is(err, unix.ECONNREFUSED)
	}
	defer c.Close()
	if err := c.SetReadDeadline(time.Now().Add(dyingTimeout)); err != nil {
		return true
	}
	_, err = c.Read(make([]byte, 1))
	return err == nil || errors.Is(err, os.ErrDeadlineExceeded)
}

// deleteAttempts is how often the delete call is made: when it dies itself, there is
// nothing else that would know of what is left.
const deleteAttempts = 3

// exitByBinary runs the delete call; how the init ended is a guess when it fails.
func (m *Manager) exitByBinary(ctx context.Context, s *shim) task.Exit {
	ctx, cancel := context.WithTimeout(ctx, binaryTimeout)
	defer cancel()
	e, err := m.runDelete(ctx, s.bundle, s.binary)
	for n := 1; n < deleteAttempts && err != nil && ctx.Err() == nil; n++ {
		s.log.WarnContext(ctx, "clean up after dead shim, once more", "err", err)
		e, err = m.runDelete(ctx, s.bundle, s.binary)
	}
	if err != nil {
		s.log.ErrorContext(ctx, "clean up after dead shim", "err", err)
		e = task.Exit{Code: s.guess()}
	}
	if e.At.IsZero() || e.At.Unix() <= 0 {
		e.At = time.Now().UTC()
	}
	return e
}

// guess is how the init of a dead shim ended when nobody tells. Our own delete call
// kills it.
func (s *shim) guess() uint32 {
	if s.boot.OneTask || s.boot.Group != "" {
		return killedStatus
	}
	return unknownStatus
}

func (m *Manager) publish(ctx context.Context, s *shim, topic string, ev any) {
	if err := m.cfg.Events.Publish(ctx, topic, ev); err != nil {
		s.log.ErrorContext(ctx, "publish event", "topic", topic, "err", err)
	}
}
