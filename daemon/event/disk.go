package event

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"github.com/docker/docker/api/types/events"

	"gantry/api/errdefs"
)

const (
	// maxLog bounds one file of the log in bytes; there are two.
	maxLog = 4 << 20
	// maxLine bounds one event; what is longer is neither written nor read.
	maxLine = 1 << 20
)

// diskLog is the log on disk. It is safe for concurrent use.
type diskLog struct {
	path string

	mu   sync.Mutex
	file *os.File // guarded by mu
	size int64    // guarded by mu
	torn bool     // guarded by mu; the file does not end with a line's end

	newest, older, gone int64 // guarded by mu; last time stamps: of the file, of the one before, of all that are no more
}

func openDisk(dir string) (*diskLog, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make event log: %w", err)
	}
	d := &diskLog{path: filepath.Join(dir, "events.jsonl")}
	return d, d.openFile()
}

// moveAside renames what is in the place of the log's files and cannot be used.
func moveAside(dir string) error {
	var errs []error
	for _, name := range []string{"events.jsonl", "events.jsonl.1"} {
		path := filepath.Join(dir, name)
		errs = append(errs, os.RemoveAll(path+".damaged"))
		if err := os.Rename(path, path+".damaged"); !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// openFile is called before d is shared, or with mu held.
func (d *diskLog) openFile() error {
	f, err := os.OpenFile(d.path, os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("open event log: %w", err)
	}
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		_ = f.Close()
		return fmt.Errorf("open event log: %w", err)
	}
	d.file, d.size = f, size
	d.torn, err = isTorn(f, size)
	if err != nil {
		_ = f.Close()
		return fmt.Errorf("read event log: %w", err)
	}
	return nil
}

// isTorn tells of a last line that a crash, or a full disk, has not let end.
func isTorn(f *os.File, size int64) (bool, error) {
	var end [1]byte
	if size == 0 {
		return false, nil
	}
	_, err := f.ReadAt(end[:], size-1)
	return end[0] != '\n', err
}

// append writes events, as many in one go as fit the file, and tells how many are
// written: those that come after may be given again.
func (d *diskLog) append(msgs []events.Message) (written int, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	var buf []byte
	for i, m := range msgs {
		if len(m.Action) > maxLine {
			continue
		}
		line, err := json.Marshal(m)
		if err != nil {
			return written, err
		}
		if len(line) > maxLine {
			continue
		}
		if d.size+int64(len(buf)+len(line)) >= maxLog {
			if err := d.write(buf); err != nil {
				return written, err
			}
			buf, written = buf[:0], i
			if err := d.rotate(); err != nil {
				return written, err
			}
		}
		buf = append(append(buf, line...), '\n')
		d.newest = m.TimeNano
	}
	if err := d.write(buf); err != nil {
		return written, err
	}
	return len(msgs), nil
}

// write writes all of b, or takes back the part that was written. It is called with mu
// held.
func (d *diskLog) write(b []byte) error {
	if len(b) == 0 {
		return nil
	}
	if d.torn {
		b = append([]byte{'\n'}, b...)
	}
	n, err := d.file.Write(b)
	if err != nil && n > 0 {
		terr := d.file.Truncate(d.size)
		if terr == nil {
			n = 0
		}
		d.torn = d.torn || terr != nil
	} else if err == nil {
		d.torn = false
	}
	d.size += int64(n)
	return err
}

// rotate is called with mu held. The old file stays in use when a step fails.
func (d *diskLog) rotate() error {
	if d.size == 0 {
		return nil
	}
	if err := os.Rename(d.path, d.path+".1"); err != nil {
		return fmt.Errorf("rotate event log: %w", err)
	}
	d.gone, d.older = max(d.gone, d.older), d.newest
	old := d.file
	if err := d.openFile(); err != nil {
		return err
	}
	return old.Close()
}

// errBehind ends a subscription: its reader would miss events and not know.
var errBehind = errdefs.ResourceExhausted("events: the reader is so far behind that the next events are no more")

// read calls fn for each event of the log as it is now, oldest first, until fn fails.
func (d *diskLog) read(fn func(events.Message) error) error {
	files, _, err := d.readers()
	if err != nil {
		return err
	}
	return readFiles(files, fn)
}

// readAfter is read for somebody who has seen the event of a time stamp: an error, and
// nothing read, when events after it are no more.
func (d *diskLog) readAfter(last int64, fn func(events.Message) error) error {
	files, gone, err := d.readers()
	if err != nil {
		return err
	}
	if last < gone {
		closeFiles(files)
		return errBehind
	}
	return readFiles(files, fn)
}

func readFiles(files []*os.File, fn func(events.Message) error) error {
	defer closeFiles(files)
	for _, f := range files {
		if err := readLines(f, fn); err != nil {
			return err
		}
	}
	return nil
}

func closeFiles(files []*os.File) {
	for _, f := range files {
		_ = f.Close()
	}
}

// readers opens both files between two rotations, and tells the time stamp of the last
// event that is in neither.
func (d *diskLog) readers() (files []*os.File, gone int64, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, p := range []string{d.path + ".1", d.path} {
		f, err := os.Open(p)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			closeFiles(files)
			return nil, 0, fmt.Errorf("read event log: %w", err)
		}
		files = append(files, f)
	}
	return files, d.gone, nil
}

// readLines skips lines that are no event: torn or too long ones.
func readLines(r io.Reader, fn func(events.Message) error) error {
	br := bufio.NewReaderSize(r, 64<<10)
	for {
		line, err := readLine(br)
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read event log: %w", err)
		}
		var m events.Message
		if json.Unmarshal(line, &m) != nil || m.TimeNano == 0 {
			continue
		}
		if err := fn(m); err != nil {
			return err
		}
	}
}

// readLine returns one whole line without its end, nothing for one that is too long.
func readLine(br *bufio.Reader) ([]byte, error) {
	var line []byte
	for tooLong := false; ; {
		part, err := br.ReadSlice('\n')
		tooLong = tooLong || len(line)+len(part) > maxLine
		if !tooLong {
			line = append(line, part...)
		}
		switch {
		case err == bufio.ErrBufferFull:
		case err != nil:
			return nil, err // a torn last line is dropped
		case tooLong:
			return nil, nil
		default:
			return line[:len(line)-1], nil
		}
	}
}

// tail returns the newest n events.
func (d *diskLog) tail(n int) ([]events.Message, error) {
	var all []events.Message
	err := d.read(func(m events.Message) error {
		if len(all) >= 2*n {
			all = append(all[:0], all[len(all)-n:]...)
		}
		all = append(all, m)
		return nil
	})
	return all[max(0, len(all)-n):], err
}

func (d *diskLog) close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.file.Close()
}
