// Package logger reads the logs of containers, which their shims write: see
// api/logfile for the files and api/shimwire for the live stream. It also checks the
// log options of a container.
//
// Whatever the driver, the shim keeps a log on disk: with json-file and local it is the
// log itself, in Docker's form and place; with a remote driver a cache in the form of
// local, bounded, from which a forwarder takes entries to where they belong (package
// forward) and which `docker logs` reads. With none there is nothing.
package logger

import (
	"context"
	"errors"
	"io"
	"time"

	"gantry/api/logfile"
)

// Source is where the log of one container is.
type Source struct {
	// Path of the current file, and its rotated ones beside it.
	Path   string
	Format logfile.Format
	// Socket is the container's stream socket while it runs, to follow; else "".
	Socket string
	// Gone, if any, is closed when who serves the socket goes; from then on Rest gives
	// what the run has left, once, and what has been written later is not followed.
	Gone <-chan struct{}
	Rest func() *Rest
	// Attrs are the log's attributes, for Details in what is followed.
	Attrs map[string]string
}

// Options say what to read and how to show it.
type Options struct {
	Stdout, Stderr bool
	Since, Until   time.Time // zero is unbounded
	Tail           int       // the last n entries; negative is all
	Timestamps     bool
	Details        bool
	Follow         bool // go on until the container ends
}

// Read writes the log to stdout and stderr; several entries may come in one write,
// never parts of one. With Follow it returns when the container's output has ended, at
// Until, or with ctx. A log without files is empty.
func Read(ctx context.Context, src Source, o Options, stdout, stderr io.Writer) error {
	out := newOutput(o, stdout, stderr)
	pos, err := readTail(ctx, src, o.Tail, out.entry)
	if err == nil {
		err = out.flush()
	}
	switch {
	case errors.Is(err, errStop):
		return nil
	case err != nil:
		return err
	case o.Follow && src.Socket != "":
		return follow(ctx, src, o.Until, pos, out)
	}
	return nil
}

// Replay writes the whole log as the process wrote it and returns where it ended, for
// a live stream to go on from there.
func Replay(ctx context.Context, src Source, stdout, stderr io.Writer) (logfile.Position, error) {
	out := newOutput(Options{Stdout: stdout != nil, Stderr: stderr != nil}, stdout, stderr)
	pos, err := readTail(ctx, src, -1, out.entry)
	if err == nil {
		err = out.flush()
	}
	return pos, err
}

// errStop ends a reading early: the entry lies after Until.
var errStop = errors.New("stop")
