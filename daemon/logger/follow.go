package logger

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"time"

	"golang.org/x/sys/unix"

	"gantry/api/errdefs"
	"gantry/api/logfile"
	"gantry/api/shimwire"
)

// Taker is what Entries gives a log to.
type Taker struct {
	// Take takes an entry, valid during the call, and the position after it.
	Take func(e *logfile.Entry, after logfile.Position) error
	// Idle is called when nothing more has come at the moment.
	Idle func() error
	// File is called before what is given of a further file is: first is the number of the
	// log's entries before it, if they have been counted. Where it is not, the file that
	// was read follows the one before; where gap is set it perhaps does not.
	File func(first uint64, counted, gap bool)
}

// Entries gives the entries after from. With a socket it goes on until the container's
// output has ended, else to the end of the files. Its error is Take's, Idle's, ctx's or
// the file system's. What rotation has removed before it was read is not given.
func Entries(ctx context.Context, src Source, from logfile.Position, to Taker) error {
	pos := from
	noted := func(e *logfile.Entry, after logfile.Position) error {
		err := to.Take(e, after)
		if err == nil {
			pos = after
		}
		return err
	}
	_, err := readOn(ctx, src, pos, noted, to.File)
	if err != nil || src.Socket == "" {
		return err
	}
	gap := func(f shimwire.Frame) {
		first, counted := f.First()
		to.File(first, counted, true)
	}
	whole, err := listen(ctx, src, pos, noted, to.Idle, gap)
	if err != nil || whole {
		return err
	}
	_, err = readOn(ctx, src, pos, noted, to.File)
	return err
}

// follow goes on from pos on the shim's stream of entries until the container's output
// has ended, or until has come. The shim goes with its container and does not wait for
// who reads slowly: what it has not told by then is in the files.
func follow(ctx context.Context, src Source, until time.Time, pos logfile.Position, out *output) error {
	caller := ctx
	if !until.IsZero() {
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, until)
		defer cancel()
	}
	take := func(e *logfile.Entry, after logfile.Position) error {
		err := out.entry(e, after)
		pos = after
		return err
	}
	whole, err := listen(ctx, src, pos, take, out.flush, nil)
	if err == nil && !whole {
		err = readRest(ctx, src, pos, take)
	}
	switch {
	case errors.Is(err, errStop):
		return nil
	case err == nil, caller.Err() == nil && ctx.Err() != nil:
		return out.flush()
	}
	return err
}

// gone says whether who serves the socket has gone.
func (s Source) gone() bool {
	select {
	case <-s.Gone: // never where there is none
		return true
	default:
		return false
	}
}

// readRest gives what the shim has not told of the run that was followed. The files of
// the path are its as long as it has not been said that the shim goes.
func readRest(ctx context.Context, src Source, pos logfile.Position, take each) error {
	rest, err := OpenRest(src, pos)
	if src.gone() {
		if rest != nil {
			rest.Close()
		}
		rest, err = src.Rest(), nil
	}
	if err != nil || rest == nil {
		return err
	}
	defer rest.Close()
	return rest.each(ctx, pos, take)
}

// listen follows the shim's stream from pos on; settle is called when there is nothing
// more at the moment, gap, which may be nil, when something has gone. It says whether it
// has come to the end of the output; what it has not told then is in the files.
func listen(ctx context.Context, src Source, pos logfile.Position, take each, settle func() error, gap func(shimwire.Frame)) (whole bool, err error) {
	if src.gone() {
		return false, nil // another may serve there now
	}
	conn, err := shimwire.Dial(ctx, src.Socket, shimwire.Hello{Stdout: true, Stderr: true, From: &pos, Lines: true})
	if err != nil {
		if errdefs.IsNotFound(err) || errors.Is(err, errdefs.ErrUnavailable) {
			return false, nil // ended while the files were read
		}
		return false, err
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	if src.Gone != nil {
		over := make(chan struct{})
		defer close(over)
		go func() { // ends with this function
			select {
			case <-src.Gone:
				conn.Close() // it waits for nobody
			case <-over:
			}
		}()
	}
	err = copyEntries(conn, attrsOf(src), take, settle, gap)
	switch {
	case ctx.Err() != nil:
		return false, ctx.Err()
	case errors.Is(err, errHungUp):
		return false, nil
	}
	return err == nil, err
}

// attrsOf are the attributes of the log as they stand in an entry.
func attrsOf(src Source) []byte {
	if len(src.Attrs) == 0 {
		return nil
	}
	attrs, _ := json.Marshal(src.Attrs) // strings always marshal
	return attrs
}

// errHungUp says that the shim's stream ended without its last frame.
var errHungUp = errors.New("shim hung up")

// copyEntries passes entries on until the stream's end.
func copyEntries(conn *shimwire.Conn, attrs []byte, take each, settle func() error, gap func(shimwire.Frame)) error {
	for {
		if !conn.Ready() {
			if err := settle(); err != nil {
				return err
			}
		}
		f, err := conn.Read()
		switch {
		case errors.Is(err, io.EOF) || (err == nil && f.Kind == shimwire.End):
			return settle()
		case errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, unix.ECONNRESET), errors.Is(err, net.ErrClosed):
			return errHungUp
		case err != nil:
			return err
		case f.Kind == shimwire.Gap && gap != nil:
			gap(f)
			continue
		case f.Kind != shimwire.Data:
			continue
		}
		e := logfile.Entry{Stream: f.Stream, Time: f.Time, Line: f.Data, Attrs: attrs}
		if err := take(&e, f.Pos); err != nil {
			return err
		}
	}
}
