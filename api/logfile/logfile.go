// Package logfile is the format of a container's log: what the shim appends and
// the daemon reads.
//
// A file holds one entry per line, in the shape of Docker's json-file driver:
//
//	{"log":"text\n","stream":"stdout","attrs":{…},"time":"2006-01-02T15:04:05.999999999Z"}
//
// "log" ends in \n when the process wrote a whole line; a line longer than
// MaxLine bytes is split into entries of MaxLine bytes of which only the last
// ends so, and all bear the time of the first. A process that ends without a
// newline leaves an entry without one. "attrs" is present only when the log has
// attributes. The concatenation of "log" over the entries of one stream is
// exactly what the process wrote: a byte that is not UTF-8 is written as the
// lone surrogate \udc80…\udcff (what Python calls surrogateescape), which other
// JSON readers show as U+FFFD, as Docker would have written it.
//
// The format Local is that of Docker's local driver: each entry is a protobuf message,
// Docker's LogEntry, between two copies of its length (four bytes, big endian):
//
//	length {source=1 "stdout", time_nano=2, line=3, partial=4, partial_log_metadata=5 {last=1, id=2, ordinal=3}} length
//
// The line stands there without its newline; an entry of which more follows is partial,
// and the last piece of such a line is partial and last. It has no attributes, and holds
// any bytes. A torn message is taken off by the next writer; readers find the entry after
// damage by its shape.
//
// Rotated files are path.1 (newest) to path.N (oldest). A file's generation is
// the time of its first entry in Unix nanoseconds; the writer makes it grow from
// file to file, so that a Position can be found again after any number of
// rotations and restarts without anything else on disk. A power cut can leave a
// torn or damaged line; readers skip what they cannot decode, and a line that
// does not yet end in a newline has not been written.
//
// A rotated file may have been compressed, as path.N.gz, a gzip file whose extra field
// is JSON: Docker's {"lastTime":…}, with the generation and the size of what was
// compressed. While both are there they are the same.
package logfile

import "time"

// MaxLine is the size in bytes of the longest piece of a line in one entry.
const MaxLine = 16 << 10

// Stream says where a process wrote something; the values are those of file descriptors.
type Stream uint8

const (
	Stdout Stream = 1
	Stderr Stream = 2
)

// String returns "stdout" or "stderr".
func (s Stream) String() string {
	if s == Stderr {
		return "stderr"
	}
	return "stdout"
}

// Entry is one line of the file.
type Entry struct {
	Stream Stream
	Time   time.Time // UTC
	// Line is the text with its newline, if the entry ends one. Valid until the
	// next call to the decoder.
	Line []byte
	// Attrs is the JSON object of attributes, nil when there is none. Valid as Line is.
	Attrs []byte
}

// Partial says that the line goes on in the stream's next entry.
func (e *Entry) Partial() bool { return len(e.Line) == 0 || e.Line[len(e.Line)-1] != '\n' }

// Position is a place in a log. The zero value is its very beginning, whatever
// of it is still there.
type Position struct {
	// Generation names the file, see the package comment; 0 is the oldest there is.
	Generation uint64
	// Offset is a byte offset in that file, at the start of an entry.
	Offset int64
	// Skip counts the bytes of stdout and of stderr after Offset that belong
	// before the position: parts of lines that were seen before their end was
	// written. Zero for a reader of whole entries.
	Skip [2]uint32
}

// Generation returns the generation of a file whose first entry has time t.
func Generation(t time.Time) uint64 { return uint64(t.UnixNano()) }
