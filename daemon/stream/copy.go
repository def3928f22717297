package stream

import (
	"context"
	"errors"
	"io"
	"time"

	"gantry/api/logfile"
	"gantry/api/reqctx"
	"gantry/api/shimwire"
	apistream "gantry/api/stream"
)

// Process is the shim's stream of one process; *shimwire.Conn is one. Close unblocks
// the other methods.
type Process interface {
	Read() (shimwire.Frame, error)
	Write(p []byte) (int, error)
	CloseStdin() error
	Close() error
}

// Options say how the two are joined.
type Options struct {
	Stdin, Stdout, Stderr bool
	// TTY looks for Keys in the input; its end then ends the attachment.
	TTY  bool
	Keys []byte
	// CloseStdin closes the process's stdin at the end of the client's input, however
	// that comes. Without it the end of input ends the attachment.
	CloseStdin bool
	// Reopens: the daemon's end (reqctx.ErrGoingDown) is no end of the input, since others
	// may attach to the next daemon.
	Reopens bool
}

// How a Copy ended.
type How int

const (
	Ended    How = iota // the process's output has ended
	Detached            // by keys
	InputEnd            // by the end of input
	Left                // the client or the daemon has gone
)

// Result of a Copy.
type Result struct {
	How How
	// StdinOpen: CloseStdin was asked for but could not be sent, since the process does
	// not read; the caller may close it by the task API.
	StdinOpen bool
}

// patience is how long the end of a lost client's input may take to reach the shim.
const patience = time.Second

// Copy carries bytes both ways and returns when it is over; it closes both ends. When
// ctx ends the client is dropped.
func Copy(ctx context.Context, p Process, c *apistream.Client, o Options) Result {
	j := &join{p: p, c: c, o: o, input: make(chan error, 1), output: make(chan error, 1)}
	defer p.Close()
	go func() { j.output <- j.copyOut() }() // ends with p or c
	if o.Stdin {
		go func() { j.input <- j.copyIn() }() // ends with p or c
	} else {
		j.input = nil
	}
	how, inputOver := j.run(ctx)
	c.Close()
	r := Result{How: how}
	cut := o.Reopens && errors.Is(context.Cause(ctx), reqctx.ErrGoingDown)
	if o.Stdin && o.CloseStdin && how != Ended && !inputOver && !cut {
		r.StdinOpen = !j.endStdin()
	}
	p.Close()
	if j.input != nil && !inputOver {
		<-j.input
	}
	return r
}

type join struct {
	p             Process
	c             *apistream.Client
	o             Options
	input, output chan error
}

// run waits for an end; inputOver says that copyIn has returned and its result is taken.
func (j *join) run(ctx context.Context) (how How, inputOver bool) {
	input := j.input
	for {
		select {
		case err := <-j.output:
			if err == nil {
				return Ended, inputOver
			}
			return Left, inputOver
		case err := <-input:
			input, inputOver = nil, true
			if how, over := j.inputEnded(err); over {
				return how, true
			}
		case <-ctx.Done():
			return Left, inputOver
		}
	}
}

// inputEnded decides whether the end of the client's input ends the attachment.
func (j *join) inputEnded(err error) (how How, over bool) {
	switch {
	case errors.Is(err, errDetach):
		return Detached, true
	case errors.Is(err, errProcess):
		return 0, false // the process has closed its stdin: output goes on
	case j.o.CloseStdin && !j.o.TTY:
		j.p.CloseStdin()
		if err != nil {
			return Left, true
		}
		return 0, false
	case err != nil:
		return Left, true
	}
	return InputEnd, true
}

// endStdin sends the end of stdin after what copyIn has still to write, if that is
// possible in time.
func (j *join) endStdin() bool {
	done := make(chan struct{})
	go func() { // ends when the process reads or p is closed
		j.input <- <-j.input
		j.p.CloseStdin()
		close(done)
	}()
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-done:
		return true
	case <-timer.C:
		j.p.Close()
		<-done
		return false
	}
}

// errProcess marks a failure on the process's side of the input.
var errProcess = errors.New("stdin of the process is closed")

// copyIn returns nil at the client's half close.
func (j *join) copyIn() error {
	var r io.Reader = j.c.Stdin
	if j.o.TTY && len(j.o.Keys) > 0 {
		r = &watcher{r: r, keys: j.o.Keys}
	}
	buf := make([]byte, 32<<10)
	for {
		n, err := r.Read(buf)
		if n > 0 {
			if _, werr := j.p.Write(buf[:n]); werr != nil {
				return errProcess
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// copyOut returns nil when the process's output has ended.
func (j *join) copyOut() error {
	to := [3]io.Writer{}
	if j.o.Stdout {
		to[logfile.Stdout] = j.c.Stdout
	}
	if j.o.Stderr {
		to[logfile.Stderr] = j.c.Stderr
	}
	for {
		f, err := j.p.Read()
		switch {
		case errors.Is(err, io.EOF) || (err == nil && f.Kind == shimwire.End):
			return nil
		case err != nil:
			return err
		case f.Kind != shimwire.Data || to[f.Stream] == nil:
			continue
		}
		if _, err := to[f.Stream].Write(f.Data); err != nil {
			return err
		}
	}
}
