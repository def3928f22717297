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
	take := func(e *logfile.Entry, after logfile.Position) error { return f.take(ctx, e, after) }
	idle := func() error { return f.idle(ctx) }
	if _, err := logger.Entries(ctx, src, f.at.pos, take, idle); err != nil {
		return err
	}
	return f.idle(ctx)
}

// take puts an entry, after which the position is pos, into the batch; a full one is
// sent.
func (f *forwarder) take(ctx context.Context, e *logfile.Entry, pos logfile.Position) error {
	if f.batch != nil && !f.batch.room(len(e.Line), f.target.pace.Batch) {
		if err := f.send(ctx); err != nil {
			return err
		}
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if f.batch == nil {
		f.batch = batches.Get().(*batch)
	}
	if pos.Generation != f.at.pos.Generation {
		f.cross(pos.Generation, e)
	}
	line, whole := e.Line, !e.Partial()
	if whole {
		line = line[:len(line)-1]
	}
	f.batch.add(target.Entry{
		Stream: e.Stream, Time: e.Time, Line: line, Part: f.at.part(f.c.id(), e.Stream, e.Time, whole),
	})
	f.at.pos, f.at.pos.Skip = pos, [2]uint32{}
	f.at.last = e.Time
	f.at.index++
	return nil
}
