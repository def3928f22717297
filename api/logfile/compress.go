package logfile

import (
	"bufio"
	"compress/gzip"
	"encoding/json"
	"errors"
	"io"
	"os"
	"time"
)

// meta is what the header of a compressed file tells, as JSON in its extra field.
// Docker writes and reads lastTime only.
type meta struct {
	LastTime   time.Time `json:"lastTime"`
	Generation uint64    `json:"generation,omitempty"`
	Size       int64     `json:"size,omitempty"` // of what was compressed
}

// Compress writes the rotated file src to dst, as Docker's gzip files are.
func (f Format) Compress(dst io.Writer, src *os.File) error {
	m, err := f.describe(src)
	if err != nil {
		return err
	}
	zw := gzip.NewWriter(dst)
	if zw.Extra, err = json.Marshal(m); err != nil {
		return err
	}
	if _, err := io.Copy(zw, io.NewSectionReader(src, 0, m.Size)); err != nil {
		return err
	}
	return zw.Close()
}

func (f Format) describe(src *os.File) (m meta, err error) {
	info, err := src.Stat()
	if err != nil {
		return m, err
	}
	m.Size = info.Size()
	if m.Generation, err = f.ReadGeneration(src); err != nil {
		return m, err
	}
	offset, _, err := f.Tail(src, m.Size, 1)
	if err != nil {
		return m, err
	}
	var last Entry
	err = f.NewDecoder(io.NewSectionReader(src, offset, m.Size-offset), offset).Next(&last)
	if err != nil && !errors.Is(err, io.EOF) {
		return m, err
	}
	m.LastTime = last.Time
	return m, nil
}

// maxInflated bounds what is read of a compressed file that does not tell its size.
const maxInflated = 4 << 30

// inflater reads a compressed file at any offset, forwards quickly. It holds some 50 KiB
// whatever the file's size, and reads no further than the header promises. Damage is the
// end of the file.
type inflater struct {
	file *os.File
	meta meta
	r    *gzip.Reader // nil: at the beginning
	off  int64
}

func newInflater(file *os.File) (*inflater, error) {
	z := &inflater{file: file}
	if err := z.rewind(); err != nil {
		if damaged(err) {
			return z, nil
		}
		return nil, err
	}
	_ = json.Unmarshal(z.r.Extra, &z.meta) // somebody else's tells nothing
	if z.meta.Size <= 0 || z.meta.Size > 1<<50 {
		z.meta.Size = maxInflated
	}
	return z, nil
}

func (z *inflater) rewind() (err error) {
	z.off = 0
	src := bufio.NewReaderSize(io.NewSectionReader(z.file, 0, 1<<62), 16<<10)
	if z.r == nil {
		z.r, err = gzip.NewReader(src)
		return err
	}
	return z.r.Reset(src)
}

// ReadAt implements io.ReaderAt.
func (z *inflater) ReadAt(p []byte, off int64) (n int, err error) {
	if z.r == nil || off >= z.meta.Size {
		return 0, io.EOF
	}
	if off < z.off {
		if err := z.rewind(); err != nil {
			return 0, end(err)
		}
	}
	if off > z.off {
		skipped, err := io.CopyN(io.Discard, z.r, off-z.off)
		z.off += skipped
		if err != nil {
			return 0, end(err)
		}
	}
	short := int64(len(p)) > z.meta.Size-off
	if short {
		p = p[:z.meta.Size-off]
	}
	n, err = io.ReadFull(z.r, p)
	z.off += int64(n)
	if err == nil && short {
		err = io.EOF
	}
	return n, end(err)
}

// end makes the end of what can't be read on.
func end(err error) error {
	if err != nil && damaged(err) {
		return io.EOF
	}
	return err
}

// damaged says of an error that it is not the file system's.
func damaged(err error) bool {
	var pe *os.PathError
	return !errors.As(err, &pe)
}
