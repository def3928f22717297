package container

import (
	"gantry/api/errdefs"
)

// Status is where a container is in its life; the values are Docker's words.
type Status string

const (
	Created    Status = "created"
	Running    Status = "running"
	Paused     Status = "paused"
	Restarting Status = "restarting"
	Exited     Status = "exited"
	Removing   Status = "removing"
	Dead       Status = "dead"
)

// Move is what can happen to a container.
type Move string

const (
	Start     Move = "start"      // its task runs
	Pause     Move = "pause"      // frozen
	Resume    Move = "unpause"    // thawed
	Exit      Move = "exit"       // its task has ended and it stays down
	ExitAgain Move = "exit-again" // its task has ended and the policy will start it
	GiveUp    Move = "give-up"    // the wait for a restart was called off, or the restart failed
	Remove    Move = "remove"     // its parts are being taken away
	Stick     Move = "stick"      // that failed
)

var moves = map[Status]map[Move]Status{
	Created:    {Start: Running, Remove: Removing},
	Running:    {Pause: Paused, Exit: Exited, ExitAgain: Restarting},
	Paused:     {Resume: Running, Exit: Exited, ExitAgain: Restarting},
	Restarting: {Start: Running, GiveUp: Exited},
	Exited:     {Start: Running, Remove: Removing},
	Removing:   {Stick: Dead},
	Dead:       {Remove: Removing},
}

// After returns where m leads from s. Starting what runs and stopping what is down is
// NotModified; any other illegal move is Conflict. The texts are Docker's where
// clients see them.
func (s Status) After(m Move) (Status, error) {
	if next, ok := moves[s][m]; ok {
		return next, nil
	}
	switch {
	case m == Start && s == Paused:
		return s, errdefs.Conflict("cannot start a paused container, try unpause instead")
	case m == Start && s == Running:
		return s, errdefs.NotModified("container is already running")
	case m == Start:
		return s, errdefs.Conflict("container is marked for removal and cannot be started")
	case m == Exit && !s.Up():
		return s, errdefs.NotModified("container is already stopped")
	}
	return s, errdefs.Conflict("container is %s: cannot %s", s, m)
}

// Up says that Docker counts the container as running: it has a task, or is about to
// have one again.
func (s Status) Up() bool { return s == Running || s == Paused || s == Restarting }

// HasTask says that a process is there.
func (s Status) HasTask() bool { return s == Running || s == Paused }
