// Package target is what a forwarder of logs and the places it can send to agree on: the
// entry, the container it is of, and what a target does. Targets are the packages below.
package target

import (
	"context"
	"time"

	"gantry/api/logfile"
)

// Container is what targets tell of the container that an entry is of.
type Container struct {
	ID, Name           string // the name without its slash
	ImageID, ImageName string
	Command            string
	Created            time.Time
	Tag                string
	// Attrs are the labels and variables that the options choose.
	Attrs map[string]string
}

// ShortID is the beginning of the container's id.
func (c *Container) ShortID() string { return c.ID[:min(12, len(c.ID))] }

// Entry is one entry of a log, without its newline.
type Entry struct {
	Stream logfile.Stream
	Time   time.Time
	Line   []byte // valid during the call it is given to
	// Part is nil for a line that is whole.
	Part *Part
}

// Part says which piece of a long line an entry is.
type Part struct {
	ID      string // the same for all pieces of a line, also when one is sent again
	Ordinal int    // from 1
	Last    bool
}

// Target is a place that takes entries. It is used by one goroutine; ctx ends what it
// waits for.
type Target interface {
	// Connect makes a connection where there is none.
	Connect(ctx context.Context) error
	// Send hands entries over, in order. After an error any number of them may have
	// arrived, and of those before back to the last Settle any number may have not: they
	// are to be sent again. The next Send connects anew.
	Send(ctx context.Context, entries []Entry) error
	// Settle waits until all that was sent has arrived, as far as the target's protocol
	// tells. Its errors are as Send's.
	Settle(ctx context.Context) error
	// Close ends the connection; Send makes another.
	Close() error
}

// Pace is what a driver's options say about trying again. The zero value leaves it to
// the forwarder.
type Pace struct {
	First time.Duration // before the first attempt
	Tries int           // so many attempts come First apart; afterwards the waits grow
	// Batch bounds in bytes what is sent at once; 0 is the forwarder's own bound.
	Batch int
	// Lazy says that the target need not be there when the container starts.
	Lazy bool
}

// Refused is an error of Send: what came before the entry of the index has been sent, and
// that one can never be.
type Refused struct {
	Index int
	Err   error
}

func (r *Refused) Error() string { return r.Err.Error() }
func (r *Refused) Unwrap() error { return r.Err }
