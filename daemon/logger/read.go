package logger

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"math"

	"gantry/api/logfile"
)

// each takes one entry, valid during the call, and the position after it.
type each func(e *logfile.Entry, after logfile.Position) error

// readTail gives the last n entries (all when n < 0) of the log as it is now, in order,
// and returns the position after the last.
func readTail(ctx context.Context, src Source, n int, take each) (pos logfile.Position, err error) {
	files, err := open(src)
	if err != nil || len(files) == 0 {
		return pos, err
	}
	defer logfile.Close(files)
	last, err := files[len(files)-1].Size() // it grows, by the next run too
	if err != nil {
		return pos, err
	}
	first, offset, err := start(files, n)
	if err != nil {
		return pos, err
	}
	for i := first; i < len(files); i++ {
		limit := int64(math.MaxInt64)
		if i == len(files)-1 {
			limit = last
		}
		end, err := readFile(ctx, files[i], offset, limit, take)
		if err != nil {
			return pos, err
		}
		if end.Generation != 0 { // else it had nothing
			pos = end
		}
		offset = 0
	}
	return pos, nil
}

// readOn gives the entries after pos, and returns the position after the last. When the
// file of pos has been rotated away it begins with the oldest that is younger. further,
// which may be nil, is called before each file but that of pos; see Taker.File.
func readOn(ctx context.Context, src Source, pos logfile.Position, take each, further func(first uint64, counted, gap bool)) (logfile.Position, error) {
	files, err := open(src)
	if err != nil {
		return pos, err
	}
	defer logfile.Close(files)
	last := false // the file before this one in the log is the one before in files
	for _, f := range files {
		var offset int64
		switch {
		case f.Generation != 0 && f.Generation < pos.Generation:
			continue
		case f.Generation == pos.Generation:
			offset = pos.Offset
			last = true
		}
		if f.Generation != pos.Generation && f.Generation != 0 && further != nil {
			first, counted := f.First()
			further(first, counted, pos.Generation != 0 && !last)
			last = true
		}
		end, err := readFile(ctx, f, offset, math.MaxInt64, take)
		if err != nil {
			return pos, err
		}
		if end.Generation != 0 {
			pos = end
		}
	}
	return pos, nil
}

// open opens the files of a log; none where there is none.
func open(src Source) ([]*logfile.File, error) {
	files, err := src.Format.Open(src.Path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return files, err
}

// start finds the file and the offset of the nth entry from the end.
func start(files []*logfile.File, n int) (index int, offset int64, err error) {
	if n < 0 {
		return 0, 0, nil
	}
	for i := len(files) - 1; i >= 0; i-- {
		offset, found, err := files[i].Tail(n)
		if err != nil || found >= n {
			return i, offset, err
		}
		n -= found
	}
	return 0, 0, nil
}

// readFile gives the entries of f from offset on, as far as they end before limit.
func readFile(ctx context.Context, f *logfile.File, offset, limit int64, take each) (logfile.Position, error) {
	d := f.DecoderTo(offset, limit)
	var e logfile.Entry
	for n := 0; ; n++ {
		if n%1024 == 0 && ctx.Err() != nil {
			return logfile.Position{}, ctx.Err()
		}
		err := d.Next(&e)
		if errors.Is(err, io.EOF) {
			return position(f, d.Offset()), nil
		}
		if err != nil {
			return logfile.Position{}, err
		}
		if f.Generation == 0 {
			f.Generation = identify(f)
		}
		if err := take(&e, position(f, d.Offset())); err != nil {
			return logfile.Position{}, err
		}
	}
}

// identify tells the generation of a file that was empty when it was opened and has got
// its first entry since.
func identify(f *logfile.File) uint64 {
	if f.Identify() != nil {
		return 0
	}
	return f.Generation
}

// position names a place in a file; where the file has no entry it is the beginning.
func position(f *logfile.File, offset int64) logfile.Position {
	if f.Generation == 0 {
		return logfile.Position{}
	}
	return logfile.Position{Generation: f.Generation, Offset: offset}
}
