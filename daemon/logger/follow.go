package logger

import (
	"context"
	"encoding/json"
	"errors"
	"io"

	"golang.org/x/sys/unix"

	"gantry/api/errdefs"
	"gantry/api/logfile"
	"gantry/api/shimwire"
)

// follow goes on from pos on the shim's stream of entries until the container's output
// has ended. The shim goes with its container and does not wait for who reads slowly:
// what it has not told by then is in the files.
func follow(ctx context.Context, src Source, o Options, pos logfile.Position, out *output) error {
	pos, whole, err := listen(ctx, src, o, pos, out)
	if err != nil || whole {
		return err
	}
	err = readOn(ctx, src.Path, pos, out.entry)
	if err == nil {
		err = out.flush()
	}
	if errors.Is(err, errStop) {
		return nil
	}
	return err
}

// listen follows the shim's stream. It returns the position after what it has read, and
// whether that was all.
func listen(ctx context.Context, src Source, o Options, pos logfile.Position, out *output) (_ logfile.Position, whole bool, err error) {
	conn, err := shimwire.Dial(ctx, src.Socket, shimwire.Hello{Stdout: true, Stderr: true, From: &pos, Lines: true})
	if err != nil {
		if errdefs.IsNotFound(err) || errors.Is(err, errdefs.ErrUnavailable) {
			return pos, false, nil // ended while the files were read
		}
		return pos, false, err
	}
	defer conn.Close()
	timer, stop := untilTimer(o.Until)
	defer stop()
	var attrs []byte
	if len(src.Attrs) > 0 {
		attrs, _ = json.Marshal(src.Attrs) // strings always marshal
	}
	result := make(chan error, 1)
	go func() { result <- copyEntries(conn, attrs, out, &pos) }() // ends when conn is closed
	select {
	case err = <-result:
		if errors.Is(err, errStop) {
			return pos, true, nil
		}
		if errors.Is(err, errHungUp) {
			return pos, false, nil
		}
		return pos, true, err
	case <-timer:
	case <-ctx.Done():
		err = ctx.Err()
	}
	conn.Close()
	<-result
	return pos, true, err
}

// errHungUp says that the shim's stream ended without its last frame.
var errHungUp = errors.New("shim hung up")

// copyEntries passes entries on until the stream's end, those that come together in one
// write; pos is always the position after the last.
func copyEntries(conn *shimwire.Conn, attrs []byte, out *output, pos *logfile.Position) error {
	for {
		if !conn.Ready() {
			if err := out.flush(); err != nil {
				return err
			}
		}
		f, err := conn.Read()
		switch {
		case errors.Is(err, io.EOF) || (err == nil && f.Kind == shimwire.End):
			return out.flush()
		case errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, unix.ECONNRESET):
			return errHungUp
		case err != nil:
			return err
		case f.Kind != shimwire.Data:
			continue
		}
		e := logfile.Entry{Stream: f.Stream, Time: f.Time, Line: f.Data, Attrs: attrs}
		if err := out.entry(&e); err != nil {
			return err
		}
		*pos = f.Pos
	}
}
