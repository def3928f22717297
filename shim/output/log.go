package output

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"gantry/api/failpoint"
	"gantry/api/logfile"
	"gantry/api/shimwire"
)

// flushAt is how many bytes of entries are collected before they are written.
const flushAt = 256 << 10

// Log is an output kept in files. A file system that refuses a write (full,
// read-only) holds up neither the process nor live readers: Write tells, and the
// entries wait in memory, see backlog.
type Log struct {
	path     string
	format   logfile.Format
	host     Host
	packer   packer
	maxSize  int64 // 0: never rotated
	maxFiles int   // at least 1

	lane sync.Mutex // held across writes and rotation
	file *os.File   // guarded by lane
	enc  *logfile.Encoder
	out  []byte // entries not yet written; guarded by lane
	size int64  // of the file, with held and out; guarded by lane
	held backlog
	// spare is the other buffer for pending.data, by stream; guarded by lane
	spare [3][]byte
	last  int64 // the newest generation ever; guarded by lane
	count index // guarded by lane
	// unborn says that the current file has no generation yet; guarded by lane
	unborn bool

	mu      sync.Mutex
	change  *sync.Cond
	gens    []generation // of the files, oldest first, never empty; guarded by mu
	limit   int64        // whole entries in the current file end here; guarded by mu
	pending [3]pending   // by stream; written under lane and mu
	ending  bool         // End has been called, and may wait for a write; guarded by mu
	ended   bool         // guarded by mu
	done    chan struct{}
	readers map[*logReader]struct{} // guarded by mu
}

// generation is one file; its path follows from its place in the list.
type generation struct {
	num  uint64 // 0: no entry yet
	prev uint64 // the one before, also when that file is gone; 0: none
	// end is where that one ends; -1 when this process has not written it.
	end int64
}

// pending is the part of a line that is not in the file yet.
type pending struct {
	data  []byte
	at    time.Time
	split bool // entries of this line have been written, at the time at
}

// Host is what a log needs of the process that it is in.
type Host struct {
	// Compress compresses the rotated file src into dst; it is called by one goroutine
	// at a time. Nil leaves files as they are.
	Compress func(f logfile.Format, dst, src *os.File) error
	// Warn tells of what goes wrong aside; it may be nil.
	Warn func(msg string, args ...any)
}

func (h Host) warn(msg string, args ...any) {
	if h.Warn != nil {
		h.Warn(msg, args...)
	}
}

// OpenLog opens the log for appending, and finds what earlier runs left of it.
func OpenLog(u shimwire.LogURI, h Host) (*Log, error) {
	if !u.Compress || u.MaxSize == 0 {
		h.Compress = nil
	}
	enc, err := u.Format().NewEncoder(u.Attrs)
	if err != nil {
		return nil, err
	}
	l := &Log{
		path: u.Path, format: u.Format(), host: h, maxSize: u.MaxSize, maxFiles: max(1, u.MaxFile), enc: enc,
		done: make(chan struct{}), readers: map[*logReader]struct{}{},
	}
	l.change = sync.NewCond(&l.mu)
	if err := l.open(); err != nil {
		return nil, fmt.Errorf("open log: %w", err)
	}
	if len(l.gens) > 1 {
		l.lane.Lock()
		l.pack() // what an earlier run has not come to
		l.lane.Unlock()
	}
	return l, nil
}

const logFlags = os.O_WRONLY | os.O_APPEND | os.O_CREATE

// open opens the current file and lists the generations.
func (l *Log) open() (err error) {
	if l.file, err = os.OpenFile(l.path, logFlags, 0o640); err != nil {
		return err
	}
	files, err := l.format.Open(l.path)
	if err != nil {
		l.file.Close()
		return err
	}
	defer logfile.Close(files)
	for _, f := range files {
		l.gens = append(l.gens, generation{num: f.Generation, prev: uint64(l.last), end: -1})
		l.last = max(l.last, int64(f.Generation))
	}
	if l.size, err = l.mendTail(files[len(files)-1]); err != nil {
		l.file.Close()
		return err
	}
	l.limit, l.held.disk, l.count.found = l.size, l.size, l.size
	l.unborn = l.gens[len(l.gens)-1].num == 0
	return nil
}

// mendTail deals with an entry that a power cut has torn, and returns the file's size:
// of lines it ends the last, a message it takes off.
func (l *Log) mendTail(r *logfile.File) (int64, error) {
	size, err := l.file.Seek(0, io.SeekEnd)
	if err != nil || size == 0 {
		return size, err
	}
	if l.format == logfile.Local {
		end, err := l.format.End(r, size)
		if err == nil && end < size {
			err = l.file.Truncate(end)
		}
		return end, err
	}
	var last [1]byte
	if _, err := r.ReadAt(last[:], size-1); err != nil {
		return size, err
	}
	if last[0] == '\n' {
		return size, nil
	}
	n, err := l.file.Write([]byte{'\n'})
	return size + int64(n), err
}

// Write implements Output: whole lines go to the file at once, the beginning of
// one waits in memory, where readers of bytes see it already.
func (l *Log) Write(s logfile.Stream, p []byte) error { return l.write(s, time.Now(), p) }

// write writes what came at the time now.
func (l *Log) write(s logfile.Stream, now time.Time, p []byte) error {
	l.lane.Lock()
	defer l.lane.Unlock()
	if l.file == nil {
		return nil
	}
	defer l.borrow()()
	next := l.pending[s] // a copy of the header; its bytes are only appended to
	var err error
	for len(p) > 0 {
		n := bytes.IndexByte(p, '\n') + 1
		if n == 0 && len(next.data)+len(p) < logfile.MaxLine {
			if len(next.data) == 0 && !next.split {
				next.at = now
			}
			next.data = append(next.data, p...)
			break
		}
		line := p
		if n > 0 {
			line = p[:n]
		}
		whole := n > 0
		if room := logfile.MaxLine - len(next.data); len(line) > room || len(line) == room && !whole {
			line, whole = line[:room], false
		}
		p = p[len(line):]
		if len(next.data) > 0 {
			next.data = append(next.data, line...)
			line = next.data
		}
		at := now
		if next.split {
			at = next.at
		}
		err = errors.Join(err, l.append(s, at, line))
		if len(next.data) > 0 { // readers may still look at these bytes
			next.data, l.spare[s] = l.spare[s], next.data[:0]
		}
		next.at, next.split = at, !whole
	}
	return errors.Join(err, l.publish(s, next))
}

// append encodes one entry, after a rotation if that is due. It is called under lane.
func (l *Log) append(s logfile.Stream, at time.Time, line []byte) error {
	var err error
	switch {
	case l.maxSize > 0 && l.size >= l.maxSize:
		at = l.later(at)
		err = l.rotate(logfile.Generation(at))
	case l.unborn:
		at = l.later(at)
		l.begin(logfile.Generation(at))
	}
	before := len(l.out)
	l.out = l.enc.Append(l.out, s, at, line)
	l.size += int64(len(l.out) - before)
	l.count.added++
	if len(l.out) >= flushAt {
		err = errors.Join(err, l.flush())
	}
	return err
}

// later makes at the time of a file's first entry. It is called under lane.
func (l *Log) later(at time.Time) time.Time {
	if at.UnixNano() <= l.last {
		at = time.Unix(0, l.last+1)
	}
	l.last = at.UnixNano()
	return at
}

// begin names the current file's generation. It is called under lane.
func (l *Log) begin(num uint64) {
	l.unborn = false
	l.mu.Lock()
	l.gens[len(l.gens)-1].num = num
	l.mu.Unlock()
}

// spareOut lends the buffer for entries while there is output, so that a quiet
// process holds none.
var spareOut = sync.Pool{New: func() any { b := make([]byte, 0, flushAt+64<<10); return &b }}

func (l *Log) borrow() func() {
	b := spareOut.Get().(*[]byte)
	l.out = (*b)[:0]
	return func() {
		if cap(l.out) <= 2*flushAt {
			*b = l.out[:0]
		}
		l.out = nil
		spareOut.Put(b)
	}
}

// publish writes what is collected and lets readers see it. It is called under lane.
func (l *Log) publish(s logfile.Stream, next pending) error {
	err := l.flush()
	l.noticeTruncation()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.limit = l.size
	l.pending[s] = next
	l.change.Broadcast()
	return err
}

// noticeTruncation looks whether somebody emptied the file under us; then it is
// a new one. It is called under lane.
func (l *Log) noticeTruncation() {
	st, err := l.file.Stat()
	if err != nil || st.Size() >= l.held.disk {
		return
	}
	l.dropHeld()
	l.size = st.Size()
	num := uint64(0)
	if f, err := os.Open(l.path); err == nil {
		num, _ = l.format.ReadGeneration(f)
		f.Close()
	}
	l.last = max(l.last, int64(num))
	l.unborn = num == 0
	l.mu.Lock()
	l.held.disk = l.size
	l.mu.Unlock()
	l.renew(num)
}

// renew gives the current file, which is as good as new, another generation. It is
// called under lane.
func (l *Log) renew(num uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	old := l.gens[len(l.gens)-1].num
	l.gens[len(l.gens)-1] = generation{num: num, prev: old}
	for r := range l.readers {
		r.cut = r.cut || r.pos.Generation == old
	}
}

// rotate makes the current file path.1 and begins a new one. It is called under
// lane, and first waits for readers of bytes that still need the oldest file.
func (l *Log) rotate(num uint64) error {
	err := l.flush()
	l.dropHeld() // a new file may have room, once the oldest has gone
	l.mu.Lock()
	l.limit = l.size
	l.change.Broadcast()
	l.awaitReaders()
	count := len(l.gens)
	l.mu.Unlock()
	if l.held.disk == 0 {
		l.renew(num)
		return err
	}
	return errors.Join(err, l.shift(count, num))
}

// patience is how long a rotation waits for a reader.
const patience = 2 * time.Second

// awaitReaders lets readers of bytes open the oldest file before it goes. One that
// does not come in time is not waited for again until it does: it gets a gap. It
// is called under mu.
func (l *Log) awaitReaders() {
	if len(l.gens) < l.maxFiles || !l.needed(l.gens[0].num) {
		return
	}
	over := false
	timer := time.AfterFunc(patience, func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		over = true
		l.change.Broadcast()
	})
	defer timer.Stop()
	for l.needed(l.gens[0].num) {
		if over || l.ending {
			for r := range l.readers {
				r.late = r.late || r.needs(l.gens[0].num)
			}
			return
		}
		l.change.Wait()
	}
}

// needed says whether a reader has yet to open generation num. It is called
// under mu.
func (l *Log) needed(num uint64) bool {
	for r := range l.readers {
		if r.needs(num) {
			return true
		}
	}
	return false
}

func (r *logReader) needs(num uint64) bool {
	return !r.lines && !r.late && (r.pos.Generation < num || r.file == nil && r.pos.Generation == num)
}

// shift renames the files, count of them, and opens a new current one, of
// generation num. It is called under lane. When there can be no new file the current one
// simply grows on.
func (l *Log) shift(count int, num uint64) (err error) {
	fresh := l.path + ".new"
	file, err := os.OpenFile(fresh, logFlags, 0o640)
	if err != nil {
		return fmt.Errorf("rotate log: %w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, file.Close(), os.Remove(fresh))
		}
	}()
	for ; count >= l.maxFiles; count-- {
		if err := remove(l.path, count-1); err != nil {
			return fmt.Errorf("rotate log: %w", err)
		}
		if count == 1 {
			count--
			break
		}
	}
	l.number(file)
	failpoint.Hit("shim/output.rotate.removed")
	for i := count - 1; i >= 0; i-- {
		if err := move(l.path, i); err != nil {
			return fmt.Errorf("rotate log: %w", err)
		}
	}
	failpoint.Hit("shim/output.rotate.moved")
	if err := os.Rename(fresh, l.path); err != nil {
		return fmt.Errorf("rotate log: %w", err)
	}
	l.file.Close()
	l.file, l.size = file, 0
	l.mu.Lock()
	defer l.mu.Unlock()
	prev := l.gens[len(l.gens)-1].num
	l.gens = append(l.gens[len(l.gens)-count:], generation{num: num, prev: prev, end: l.held.disk})
	l.limit, l.unborn, l.held.disk = 0, false, 0
	l.pack()
	return nil
}

// names are those that the i-th rotated file may have.
func names(path string, i int) []string {
	if i == 0 {
		return []string{path}
	}
	name := logfile.Name(path, i)
	return []string{name, name + logfile.Suffix}
}

// remove removes the i-th rotated file, compressed or not, if it is there.
func remove(path string, i int) error {
	for _, name := range names(path, i) {
		if err := os.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// move makes the i-th rotated file the next, compressed or not, if it is there.
func move(path string, i int) error {
	to := names(path, i+1)
	for k, name := range names(path, i) {
		if err := unix.Rename(name, to[k]); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return &os.LinkError{Op: "rename", Old: name, New: to[k], Err: err}
		}
	}
	return nil
}

// End implements Output: the beginnings of lines become entries as they are.
func (l *Log) End() {
	l.mu.Lock()
	l.ending = true
	l.change.Broadcast()
	l.mu.Unlock()
	l.lane.Lock()
	defer l.lane.Unlock()
	if l.file == nil {
		return
	}
	l.held.next = time.Time{} // the last attempt; what is still held is for readers only
	giveBack := l.borrow()
	for _, s := range []logfile.Stream{logfile.Stdout, logfile.Stderr} {
		if p := l.pending[s]; len(p.data) > 0 {
			l.append(s, p.at, p.data)
		}
		l.publish(s, pending{})
	}
	giveBack()
	l.file.Close()
	l.file = nil
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ended = true
	close(l.done)
	l.change.Broadcast()
}

// Ended implements Output.
func (l *Log) Ended() <-chan struct{} { return l.done }

// Close implements Output. What is being compressed stays as it is.
func (l *Log) Close() error {
	l.End()
	l.lane.Lock()
	l.packer.closed = true
	l.lane.Unlock()
	return nil
}
