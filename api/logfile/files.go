package logfile

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"slices"
	"strconv"
)

// maxFiles bounds the search for rotated files.
const maxFiles = 10000

// File is one file of a log, open for reading.
type File struct {
	*os.File
	// Generation is 0 while the file has no entry.
	Generation uint64
}

// Name returns the path of the i-th rotated file of the log at path; 0 is the current one.
func Name(path string, i int) string {
	if i == 0 {
		return path
	}
	return path + "." + strconv.Itoa(i)
}

// Open opens what there is of the log at path, oldest first. Rotation may go on
// meanwhile: no file that stays within the kept number is missed or given twice.
// The caller closes the files. A log that does not exist is an error that
// errors.Is fs.ErrNotExist.
func Open(path string) ([]File, error) {
	var files []File
	// Files move from i to i+1 and we look in the same order. One hole is a
	// rotation at work; two are the end.
	for i, holes := 0, 0; i < maxFiles && holes < 2; i++ {
		f, err := os.Open(Name(path, i))
		if errors.Is(err, fs.ErrNotExist) {
			holes++
			continue
		}
		if err != nil {
			return nil, errors.Join(err, Close(files))
		}
		holes = 0
		file := File{File: f}
		if file.Generation, err = ReadGeneration(f); err != nil {
			return nil, errors.Join(err, f.Close(), Close(files))
		}
		if sameAsLast(files, file) {
			f.Close()
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

// Close closes files and returns the first error.
func Close(files []File) (err error) {
	for _, f := range files {
		err = errors.Join(err, f.File.Close())
	}
	return err
}

func sameAsLast(files []File, f File) bool {
	if len(files) == 0 {
		return false
	}
	a, errA := files[len(files)-1].Stat()
	b, errB := f.Stat()
	return errA == nil && errB == nil && os.SameFile(a, b)
}

// ReadGeneration returns the generation of the file r, 0 when it has no entry.
func ReadGeneration(r io.ReaderAt) (uint64, error) {
	var e Entry
	err := NewDecoder(io.NewSectionReader(r, 0, 1<<62), 0).Next(&e)
	if errors.Is(err, io.EOF) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	return Generation(e.Time), nil
}

// Tail returns the offset of the last n lines among the first size bytes of r,
// and how many there are if fewer. Lines are counted, not decoded; a line
// without a newline at the end is not counted.
func Tail(r io.ReaderAt, size int64, n int) (offset int64, found int, err error) {
	if n <= 0 {
		return size, 0, nil
	}
	buf := make([]byte, 64<<10)
	end := int64(-1) // after the newline that ends the earliest line seen
	for at := size; at > 0; {
		part := buf[:min(int64(len(buf)), at)]
		at -= int64(len(part))
		if _, err := r.ReadAt(part, at); err != nil {
			return 0, 0, err
		}
		for i := len(part); ; {
			if i = bytes.LastIndexByte(part[:i], '\n'); i < 0 {
				break
			}
			if end >= 0 {
				if found++; found == n {
					return at + int64(i) + 1, found, nil
				}
			}
			end = at + int64(i) + 1
		}
	}
	if end >= 0 {
		return 0, found + 1, nil
	}
	return 0, 0, nil
}
