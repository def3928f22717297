package logger

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"time"

	"golang.org/x/sys/unix"

	"gantry/api/errdefs"
	"gantry/api/logfile"
	"gantry/api/shimwire"
)

// Entries gives the entries after from, each with the position after it; valid during
// the call. With a socket it goes on until the container's output has ended, else to the
// end of the files. It returns the position after the last entry, also with an error,
// which is take's, idle's, ctx's or the file system's. What rotation has removed before it
// was read is not given. idle is called when nothing more has come at the moment.
func Entries(ctx context.Context, src Source, from logfile.Position, take func(e *logfile.Entry, after logfile.Position) error, idle func() error) (logfile.Position, error) {
	pos := from
	noted := func(e *logfile.Entry, after logfile.Position) error {
		err := take(e, after)
		if err == nil {
			pos = after
		}
		return err
	}
	_, err := readOn(ctx, src, pos, noted)
	if err != nil || src.Socket == "" {
		return pos, err
	}
	whole, err := listen(ctx, src, pos, noted, idle)
	if err != nil || whole {
		return pos, err
	}
	_, err = readOn(ctx, src, pos, noted)
	return pos, err
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
	whole, err := listen(ctx, src, pos, take, out.flush)
	if err == nil && !whole {
		_, err = readOn(ctx, src, pos, take)
	}
	switch {
	case errors.Is(err, errStop):
		return nil
	case err == nil, caller.Err() == nil && ctx.Err() != nil:
		return out.flush()
	}
	return err
}

// listen follows the shim's stream from pos on; settle is called when there is nothing
// more at the moment. It says whether it has come to the end of the output; what it has
// not told then is in the files.
func listen(ctx context.Context, src Source, pos logfile.Position, take each, settle func() error) (whole bool, err error) {
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
	err = copyEntries(conn, attrsOf(src), take, settle)
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
func copyEntries(conn *shimwire.Conn, attrs []byte, take each, settle func() error) error {
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
		case errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, unix.ECONNRESET):
			return errHungUp
		case err != nil:
			return err
		case f.Kind != shimwire.Data:
			continue
		}
		e := logfile.Entry{Stream: f.Stream, Time: f.Time, Line: f.Data, Attrs: attrs}
		if err := take(&e, f.Pos); err != nil {
			return err
		}
	}
}
