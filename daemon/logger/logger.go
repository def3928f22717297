// Package logger reads the logs of containers, which their shims write: see
// api/logfile for the files and api/shimwire for the live stream. It also checks the
// log options of a container. Drivers are json-file and none.
package logger

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"time"

	"gantry/api/logfile"
)

// Source is where the log of one container is.
type Source struct {
	// Path of the current file, and its rotated ones beside it.
	Path string
	// Socket is the container's stream socket while it runs, to follow; else "".
	Socket string
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
	pos, err := readFiles(ctx, src.Path, o.Tail, out.entry)
	if err == nil {
		err = out.flush()
	}
	switch {
	case errors.Is(err, errStop):
		return nil
	case err != nil:
		return err
	case o.Follow && src.Socket != "":
		return follow(ctx, src, o, pos, out)
	}
	return nil
}

// Replay writes the whole log as the process wrote it and returns where it ended, for
// a live stream to go on from there.
func Replay(ctx context.Context, path string, stdout, stderr io.Writer) (logfile.Position, error) {
	out := newOutput(Options{Stdout: stdout != nil, Stderr: stderr != nil}, stdout, stderr)
	pos, err := readFiles(ctx, path, -1, out.entry)
	if err == nil {
		err = out.flush()
	}
	return pos, err
}

// errStop ends a reading early: the entry lies after Until.
var errStop = errors.New("stop")

// readFiles gives the last n entries (all when n < 0) of the log at path to each, in
// order, and returns the position after the last.
func readFiles(ctx context.Context, path string, n int, each func(*logfile.Entry) error) (pos logfile.Position, err error) {
	files, err := logfile.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return logfile.Position{}, nil
	}
	if err != nil {
		return logfile.Position{}, err
	}
	defer logfile.Close(files)
	first, offset, err := start(files, n)
	if err != nil {
		return logfile.Position{}, err
	}
	for i := first; i < len(files); i++ {
		if pos, err = readFile(ctx, files[i], offset, each); err != nil {
			return pos, err
		}
		offset = 0
	}
	return pos, nil
}

// readOn gives the entries after pos to each. When the file of pos has been rotated
// away it begins with the oldest that is younger.
func readOn(ctx context.Context, path string, pos logfile.Position, each func(*logfile.Entry) error) error {
	files, err := logfile.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer logfile.Close(files)
	for _, f := range files {
		var offset int64
		switch {
		case f.Generation != 0 && f.Generation < pos.Generation:
			continue
		case f.Generation == pos.Generation:
			offset = pos.Offset
		}
		if _, err := readFile(ctx, f, offset, each); err != nil {
			return err
		}
	}
	return nil
}

// start finds the file and the offset of the nth entry from the end.
func start(files []logfile.File, n int) (index int, offset int64, err error) {
	if n < 0 {
		return 0, 0, nil
	}
	for i := len(files) - 1; i >= 0; i-- {
		info, err := files[i].Stat()
		if err != nil {
			return 0, 0, err
		}
		offset, found, err := logfile.Tail(files[i], info.Size(), n)
		if err != nil || found >= n {
			return i, offset, err
		}
		n -= found
	}
	return 0, 0, nil
}

func readFile(ctx context.Context, f logfile.File, offset int64, each func(*logfile.Entry) error) (logfile.Position, error) {
	d := logfile.NewDecoder(io.NewSectionReader(f, offset, 1<<62), offset)
	var e logfile.Entry
	for n := 0; ; n++ {
		if n%1024 == 0 && ctx.Err() != nil {
			return logfile.Position{}, ctx.Err()
		}
		err := d.Next(&e)
		if errors.Is(err, io.EOF) {
			return position(f, d.Offset(), n > 0), nil
		}
		if err != nil {
			return logfile.Position{}, err
		}
		if err := each(&e); err != nil {
			return logfile.Position{}, err
		}
	}
}

// position names the place after the last entry. A file that was empty when it was
// opened may have got its first entry since.
func position(f logfile.File, offset int64, read bool) logfile.Position {
	if f.Generation == 0 && read {
		if g, err := logfile.ReadGeneration(f); err == nil {
			f.Generation = g
		}
	}
	if f.Generation == 0 {
		return logfile.Position{}
	}
	return logfile.Position{Generation: f.Generation, Offset: offset}
}
