package process

import "gantry/api/errdefs"

// State is where a process stands.
type State uint8

// The states. Paused is the init's only; its execs are frozen with it.
const (
	Created State = iota
	Running
	Paused
	Stopped
	Deleted
)

func (s State) String() string {
	return [...]string{"created", "running", "paused", "stopped", "deleted"}[s]
}

// Event is what moves a process from state to state.
type Event uint8

const (
	Start Event = iota
	Pause
	Resume
	Exit
	Delete
)

var verbs = [...]string{"start", "pause", "resume", "stop", "delete"}

// moves lists every legal move. A created process may exit: killed before its
// start, or its start failed.
var moves = map[State]map[Event]State{
	Created: {Start: Running, Exit: Stopped},
	Running: {Pause: Paused, Exit: Stopped},
	Paused:  {Resume: Running, Exit: Stopped},
	Stopped: {Delete: Deleted},
}

// next returns the state after e. ErrFailedPrecondition when the move is illegal.
func (s State) next(e Event) (State, error) {
	to, ok := moves[s][e]
	if !ok {
		return s, errdefs.FailedPrecondition("cannot %s a %s process", verbs[e], s)
	}
	return to, nil
}
