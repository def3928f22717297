package forward

import (
	"context"

	"gantry/api/logfile"
	"gantry/daemon/logger"
	"gantry/daemon/logger/target"
)

// read takes what lies after f.at and sends it, until the log's end.
func (f *forwarder) read(ctx context.Context) error {
	src := logger.Source{Path: f.c.Path, Format: f.c.Format, Socket: f.c.Socket}
	err := logger.Entries(ctx, src, f.at.pos, logger.Taker{
		Take: func(e *logfile.Entry, after logfile.Position) error { return f.take(ctx, e, after) },
		Idle: f.idle,
		File: f.cross,
	})
	if err != nil {
		return err
	}
	return f.idle()
}

// take puts an entry, after which the position is pos, into the batch; a full one is
// sent.
func (f *forwarder) take(ctx context.Context, e *logfile.Entry, pos logfile.Position) error {
	if f.batch != nil && !f.batch.room(len(e.Line), f.target.pace.Batch) {
		if err := f.send(); err != nil {
			return err
		}
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if f.batch == nil {
		f.batch = batches.Get().(*batch)
	}
	if f.next != nil {
		f.at.cross(*f.next)
		f.next = nil
	}
	line, whole := e.Line, !e.Partial()
	if whole {
		line = line[:len(line)-1]
	}
	f.batch.add(target.Entry{
		Stream: e.Stream, Time: e.Time, Line: line, Part: f.at.part(f.c.id(), e.Stream, e.Time, whole),
	})
	f.at.pos, f.at.pos.Skip = pos, [2]uint32{}
	f.at.note(e.Time)
	return nil
}
