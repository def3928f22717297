package container

import "time"

// record is what state.json keeps of a container.
type record struct {
	ID      string    `json:"id"`
	Pid     int       `json:"init_process_pid"`
	Created time.Time `json:"created"`
}
