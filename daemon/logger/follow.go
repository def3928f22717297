package logger

import (
	"context"
	"encoding/json"
	"errors"
	"io"

	"gantry/api/errdefs"
	"gantry/api/logfile"
	"gantry/api/shimwire"
)

// follow goes on from pos on the shim's stream of entries until the container's output
// has ended.
func follow(ctx context.Context, src Source, o Options, pos logfile.Position, out *output) error {
	conn, err := shimwire.Dial(ctx, src.Socket, shimwire.Hello{Stdout: true, Stderr: true, From: &pos, Lines: true})
	if err != nil {
		if errdefs.IsNotFound(err) || errors.Is(err, errdefs.ErrUnavailable) {
			return nil // ended while the files were read
		}
		return err
	}
	defer conn.Close()
	timer, stop := untilTimer(o.Until)
	defer stop()
	var attrs []byte
	if len(src.Attrs) > 0 {
		attrs, _ = json.Marshal(src.Attrs) // strings always marshal
	}
	result := make(chan error, 1)
	go func() { result <- copyEntries(conn, attrs, out) }() // ends when conn is closed
	select {
	case err = <-result:
		if errors.Is(err, errStop) || errors.Is(err, io.ErrUnexpectedEOF) {
			return nil // too late an entry, or the shim has gone with its container
		}
		return err
	case <-timer:
	case <-ctx.Done():
		err = ctx.Err()
	}
	conn.Close()
	<-result
	return err
}

func copyEntries(conn *shimwire.Conn, attrs []byte, out *output) error {
	for {
		f, err := conn.Read()
		switch {
		case errors.Is(err, io.EOF) || (err == nil && f.Kind == shimwire.End):
			return nil
		case err != nil:
			return err
		case f.Kind != shimwire.Data:
			continue
		}
		e := logfile.Entry{Stream: f.Stream, Time: f.Time, Line: f.Data, Attrs: attrs}
		if err := out.entry(&e); err != nil {
			return err
		}
		if err := out.flush(); err != nil {
			return err
		}
	}
}
