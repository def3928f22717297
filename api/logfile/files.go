package logfile

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"slices"
	"strconv"
)

// maxFiles bounds the search for rotated files.
const maxFiles = 10000

// Name returns the path of the i-th rotated file of the log at path; 0 is the current one.
func Name(path string, i int) string {
	if i == 0 {
		return path
	}
	return path + "." + strconv.Itoa(i)
}

// Suffix ends the name of a rotated file that has been compressed.
const Suffix = ".gz"

// File is one file of a log, open for reading. Offsets are those of what was written,
// also in one that has been compressed. Not safe for concurrent use.
type File struct {
	// Generation is 0 while the file has no entry.
	Generation uint64

	format   Format
	file     *os.File
	inflated *inflater // nil unless compressed
}

// OpenFile opens the i-th rotated file of the log at path, compressed or not. Where
// there is none the error is fs.ErrNotExist.
func (f Format) OpenFile(path string, i int) (*File, error) {
	name := Name(path, i)
	file, err := os.Open(name)
	packed := false
	if errors.Is(err, fs.ErrNotExist) && i > 0 {
		// The one is removed after the other has come.
		file, err = os.Open(name + Suffix)
		packed = true
	}
	if err != nil {
		return nil, err
	}
	out := &File{format: f, file: file}
	if packed {
		if out.inflated, err = newInflater(file); err == nil {
			out.Generation = out.inflated.meta.Generation
		}
	}
	if err == nil && out.Generation == 0 {
		err = out.Identify()
	}
	if err != nil {
		file.Close()
		return nil, err
	}
	return out, nil
}

// Identify reads the generation of a file that had none yet.
func (f *File) Identify() (err error) {
	f.Generation, err = f.format.ReadGeneration(f)
	return err
}

// First is the number of the log's entries before those of this file; false where that
// is not known.
func (f *File) First() (uint64, bool) { return First(f.file) }

// Open opens what there is of the log at path, oldest first. Rotation may go on
// meanwhile: no file that stays within the kept number is missed or given twice.
// The caller closes the files. A log that does not exist is an error that
// errors.Is fs.ErrNotExist.
func (f Format) Open(path string) ([]*File, error) {
	var files []*File
	// Files move from i to i+1 and we look in the same order. One hole is a
	// rotation at work; two are the end.
	for i, holes := 0, 0; i < maxFiles && holes < 2; i++ {
		file, err := f.OpenFile(path, i)
		if errors.Is(err, fs.ErrNotExist) {
			holes++
			continue
		}
		if err != nil {
			return nil, errors.Join(err, Close(files))
		}
		holes = 0
		if len(files) > 0 && !file.before(files[len(files)-1]) {
			file.Close()
			continue
		}
		files = append(files, file)
	}
	if len(files) == 0 {
		return nil, &fs.PathError{Op: "open", Path: path, Err: fs.ErrNotExist}
	}
	slices.Reverse(files)
	return files, nil
}

// before says whether f is older than g; else it is g, moved meanwhile, or one that came
// when g had been opened.
func (f *File) before(g *File) bool {
	if f.Generation != 0 && g.Generation != 0 {
		return f.Generation < g.Generation
	}
	a, errA := f.file.Stat()
	b, errB := g.file.Stat()
	return errA != nil || errB != nil || !os.SameFile(a, b)
}

// Close closes files and returns the first error.
func Close(files []*File) (err error) {
	for _, f := range files {
		err = errors.Join(err, f.Close())
	}
	return err
}

// Close closes the file.
func (f *File) Close() error { return f.file.Close() }

// ReadAt reads what was written at off. In a compressed file it is quick only where the
// call before has ended.
func (f *File) ReadAt(p []byte, off int64) (int, error) {
	if f.inflated != nil {
		return f.inflated.ReadAt(p, off)
	}
	return f.file.ReadAt(p, off)
}

// Decoder returns a decoder of the entries from offset on.
func (f *File) Decoder(offset int64) *Decoder {
	return f.format.NewDecoder(io.NewSectionReader(f, offset, 1<<62), offset)
}

// Size is how many bytes have been written to it so far, at most.
func (f *File) Size() (int64, error) {
	if f.inflated != nil {
		return f.inflated.meta.Size, nil
	}
	info, err := f.file.Stat()
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

// DecoderTo returns a decoder of the entries from offset on that ends at end, whatever is
// written there later.
func (f *File) DecoderTo(offset, end int64) *Decoder {
	return f.format.NewDecoder(io.NewSectionReader(f, offset, max(0, end-offset)), offset)
}

// Tail returns the offset of the last n entries, and how many there are if fewer.
func (f *File) Tail(n int) (offset int64, found int, err error) {
	if f.inflated != nil {
		return f.format.tailForward(io.NewSectionReader(f, 0, 1<<62), n)
	}
	info, err := f.file.Stat()
	if err != nil {
		return 0, 0, err
	}
	return f.format.Tail(f.file, info.Size(), n)
}
