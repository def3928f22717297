package logger

import (
	"context"
	"errors"
	"io"
	"os"

	"gantry/api/logfile"
	"gantry/api/shimwire"
)

// Rest is the log from a position to where it ends when it is opened, in files that stay
// open whatever becomes of their names; what is written later is not part of it. It gives
// frames as the shim would to a reader of bytes. Close may be called at any time; the
// other methods are for one goroutine.
type Rest struct {
	all   []*logfile.File
	files []part // of them what is still to be read, oldest first

	dec   *logfile.Decoder // of files[0]; nil: to be opened
	begin int64            // offset in files[0] where it begins
	skip  [2]uint32        // see logfile.Position
	gap   *shimwire.Position
	entry logfile.Entry
	taken bool // entry is still to be given
	text  []byte
	ended bool
}

// part is one file, as far as it belongs to a Rest.
type part struct {
	*logfile.File
	size int64
}

// OpenRest opens what there is of a log in the file of from and later ones.
func OpenRest(src Source, from logfile.Position) (*Rest, error) {
	files, err := open(src)
	if err != nil {
		return nil, err
	}
	r := new(Rest)
	for _, f := range files {
		size, serr := f.Size()
		if serr != nil {
			err = errors.Join(err, serr)
		}
		if f.Generation == 0 || f.Generation < from.Generation || serr != nil {
			f.Close() // it has nothing, or nothing new
			continue
		}
		r.all = append(r.all, f)
		r.files = append(r.files, part{f, size})
	}
	if err != nil {
		return nil, errors.Join(err, r.Close())
	}
	return r, nil
}

// From implements stream.Rest. Where the file of pos has been rotated away it begins
// with the oldest that is younger, after a gap.
func (r *Rest) From(pos logfile.Position) {
	i := 0
	for i < len(r.files) && r.files[i].Generation < pos.Generation {
		i++
	}
	r.skipTo(i)
	switch {
	case len(r.files) == 0 || pos.Generation == 0:
	case r.files[0].Generation == pos.Generation:
		r.begin, r.skip = min(pos.Offset, r.files[0].size), pos.Skip
	default:
		r.gap = &logfile.Position{Generation: r.files[0].Generation}
	}
}

// Read implements stream.Rest: what follows of one stream, up to some size.
func (r *Rest) Read() (shimwire.Frame, error) {
	if r.gap != nil {
		f := shimwire.Frame{Kind: shimwire.Gap, Pos: *r.gap}
		r.gap = nil
		return f, nil
	}
	f := shimwire.Frame{Kind: shimwire.Data}
	r.text = r.text[:0]
	for len(r.text) < gather {
		err := r.next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return shimwire.Frame{}, err
		}
		if len(r.text) > 0 && r.entry.Stream != f.Stream {
			break
		}
		r.taken = false
		r.text = append(r.text, r.unseen()...)
		f.Stream, f.Time, f.Pos = r.entry.Stream, r.entry.Time, position(r.files[0].File, r.dec.Offset())
	}
	switch {
	case len(r.text) > 0:
		f.Data = r.text
		return f, nil
	case r.ended:
		return shimwire.Frame{}, io.EOF
	}
	r.ended = true
	return shimwire.Frame{Kind: shimwire.End}, nil
}

// each gives the entries after pos.
func (r *Rest) each(ctx context.Context, pos logfile.Position, take each) error {
	r.From(pos)
	for {
		err := r.next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err == nil {
			r.taken = false
			err = take(&r.entry, position(r.files[0].File, r.dec.Offset()))
		}
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return err
		}
	}
}

// next decodes an entry, unless one is still to be given.
func (r *Rest) next() error {
	for !r.taken {
		if len(r.files) == 0 {
			return io.EOF
		}
		if r.dec == nil {
			r.dec = r.files[0].DecoderTo(r.begin, r.files[0].size)
		}
		err := r.dec.Next(&r.entry)
		switch {
		case err == nil:
			r.taken = true
		case errors.Is(err, io.EOF):
			r.skipTo(1)
		default:
			return err
		}
	}
	return nil
}

// skipTo goes to the beginning of the i-th of the files left.
func (r *Rest) skipTo(i int) {
	for _, f := range r.files[:i] {
		f.Close()
	}
	r.files, r.dec, r.begin = r.files[i:], nil, 0
}

// unseen is the entry without what belongs before the position.
func (r *Rest) unseen() []byte {
	skip := &r.skip[r.entry.Stream-1]
	n := min(int(*skip), len(r.entry.Line))
	*skip -= uint32(n)
	return r.entry.Line[n:]
}

// Close closes the files.
func (r *Rest) Close() (err error) {
	for _, f := range r.all {
		if cerr := f.Close(); !errors.Is(cerr, os.ErrClosed) {
			err = errors.Join(err, cerr)
		}
	}
	return err
}
