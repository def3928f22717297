package logfile

import (
	"bytes"
	"errors"
	"io"
)

// Format is how entries stand in a file; see the package comment.
type Format uint8

const (
	JSON  Format = iota // Docker's json-file
	Local               // Docker's local
)

// String returns the name of Docker's driver.
func (f Format) String() string {
	if f == Local {
		return "local"
	}
	return "json-file"
}

// NewDecoder returns a decoder of r, whose first byte has the given offset in the file.
func (f Format) NewDecoder(r io.Reader, offset int64) *Decoder {
	return &Decoder{format: f, r: r, off: offset}
}

// Whole returns how many of the bytes of b, which begins with an entry, are whole entries.
func (f Format) Whole(b []byte) int {
	if f == Local {
		return wholeLocal(b)
	}
	return bytes.LastIndexByte(b, '\n') + 1
}

// ReadGeneration returns the generation of the file r, 0 when it has no entry.
func (f Format) ReadGeneration(r io.ReaderAt) (uint64, error) {
	var e Entry
	err := f.NewDecoder(io.NewSectionReader(r, 0, 1<<62), 0).Next(&e)
	if errors.Is(err, io.EOF) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	return Generation(e.Time), nil
}

// Tail returns the offset of the last n entries among the first size bytes of r,
// and how many there are if fewer. Entries are counted, not decoded; one that is torn at
// the end is not counted.
func (f Format) Tail(r io.ReaderAt, size int64, n int) (offset int64, found int, err error) {
	switch {
	case n <= 0:
		return size, 0, nil
	case f == JSON:
		return tailLines(r, size, n)
	}
	if offset, found, ok := tailLocal(r, size, n); ok {
		return offset, found, nil
	}
	return f.tailForward(io.NewSectionReader(r, 0, size), n)
}

// End is where the last whole entry ends among the first size bytes of r.
func (f Format) End(r io.ReaderAt, size int64) (int64, error) {
	if f == Local {
		if _, _, ok := tailLocal(r, size, 1); ok {
			return size, nil
		}
	}
	_, end, err := f.count(io.NewSectionReader(r, 0, size), -1)
	return end, err
}

// Count returns how many entries there are among the first size bytes of r.
func (f Format) Count(r io.ReaderAt, size int64) (int, error) {
	n, _, err := f.count(io.NewSectionReader(r, 0, size), -1)
	return n, err
}

// tailForward is Tail for what can't be read backwards: it reads twice.
func (f Format) tailForward(r io.ReadSeeker, n int) (offset int64, found int, err error) {
	total, _, err := f.count(r, -1)
	if err != nil || total <= n {
		return 0, total, err
	}
	if _, err := r.Seek(0, io.SeekStart); err != nil {
		return 0, 0, err
	}
	_, offset, err = f.count(r, total-n)
	return offset, n, err
}

// count passes over limit entries, all when limit < 0, and says how many there were and
// where they end.
func (f Format) count(r io.Reader, limit int) (n int, end int64, err error) {
	d := f.NewDecoder(r, 0)
	for ; limit < 0 || n < limit; n++ {
		if _, err := d.raw(); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return 0, 0, err
		}
		end = d.Offset()
	}
	return n, end, nil
}

// tailLines is Tail for the format JSON.
func tailLines(r io.ReaderAt, size int64, n int) (offset int64, found int, err error) {
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
