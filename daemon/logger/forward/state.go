package forward

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"time"

	"gantry/api/failpoint"
	"gantry/api/logfile"
	"gantry/daemon/logger/target"
)

// progress is how far a forwarder has come in a log.
type progress struct {
	pos logfile.Position
	// index is the number of entries before pos, from the log's very beginning.
	index uint64
	lines [2]line // begun and not ended, by stream

	// What follows is not on disk.

	reached uint64    // the highest index that was safe: a target that forgets does not lower it
	lost    losses    // before the entry before pos, and not told yet
	last    time.Time // of the entry before pos
	open    bool      // the loss has no end yet: the time of the next entry
}

// line is a long one, pieces of which have been read.
type line struct {
	at     int64 // its time in Unix nanoseconds
	pieces uint32
}

// part says which piece of a line an entry is, nil for a whole one. Pieces of a line
// have one time.
func (p *progress) part(container string, s logfile.Stream, at time.Time, ends bool) *target.Part {
	l := &p.lines[s-1]
	if l.pieces > 0 && l.at != at.UnixNano() { // the line before never ended
		*l = line{}
	}
	if ends && l.pieces == 0 {
		return nil
	}
	l.at = at.UnixNano()
	l.pieces++
	part := &target.Part{ID: partID(container, s, l.at), Ordinal: int(l.pieces), Last: ends}
	if ends {
		*l = line{}
	}
	return part
}

// note counts an entry of time at.
func (p *progress) note(at time.Time) {
	p.last = at
	p.index++
	if p.open {
		p.lost.to, p.open = at, false
	}
}

// partID is made of what a line is known by, so that a piece that is sent again, or
// after a restart, has the same.
func partID(container string, s logfile.Stream, at int64) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%s/%d/%d", container, s, at))
	return hex.EncodeToString(sum[:])
}

// stateFile is a progress on disk, of a fixed size and overwritten in place, so that a
// full disk does not keep it from being saved:
//
//	0  "gfw1"
//	4  CRC-32 (IEEE) of what follows, this and all below in big endian
//	8  generation
//	16 offset
//	24 index
//	32 of stdout: time of the line begun; 40 its pieces
//	44 of stderr: time of the line begun; 52 its pieces
//
// It is not synced: a power cut may have the last entries sent again, or with a file
// that was never written all that is there.
type stateFile struct {
	file  *os.File
	saved progress
}

const (
	magic     = "gfw1"
	stateSize = 56
)

// openState opens or makes the file and returns what it tells. One that is damaged tells
// nothing: at least once is the promise.
func openState(path string) (*stateFile, progress, error) {
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, progress{}, fmt.Errorf("open position in log: %w", err)
	}
	var b [stateSize]byte
	n, _ := file.ReadAt(b[:], 0)
	s := &stateFile{file: file}
	s.saved, _ = decodeState(b[:n])
	return s, s.saved, nil
}

func (s *stateFile) Close() error { return s.file.Close() }

func (s *stateFile) save(p progress) error {
	p.last, p.reached, p.lost, p.open = time.Time{}, 0, losses{}, false
	if p == s.saved {
		return nil
	}
	if _, err := s.file.WriteAt(p.encode(), 0); err != nil {
		return fmt.Errorf("save position in log: %w", err)
	}
	failpoint.Hit("daemon/logger/forward.save.written")
	s.saved = p
	return nil
}

func (p *progress) encode() []byte {
	b := make([]byte, 8, stateSize)
	copy(b, magic)
	be := binary.BigEndian
	b = be.AppendUint64(b, p.pos.Generation)
	b = be.AppendUint64(b, uint64(p.pos.Offset))
	b = be.AppendUint64(b, p.index)
	for _, l := range p.lines {
		b = be.AppendUint32(be.AppendUint64(b, uint64(l.at)), l.pieces)
	}
	be.PutUint32(b[4:], crc32.ChecksumIEEE(b[8:]))
	return b
}

var errState = errors.New("position in log is damaged")

func decodeState(b []byte) (p progress, err error) {
	be := binary.BigEndian
	if len(b) != stateSize || string(b[:4]) != magic || be.Uint32(b[4:]) != crc32.ChecksumIEEE(b[8:]) {
		return p, errState
	}
	p.pos.Generation, p.pos.Offset, p.index = be.Uint64(b[8:]), int64(be.Uint64(b[16:])), be.Uint64(b[24:])
	for i := range p.lines {
		p.lines[i] = line{at: int64(be.Uint64(b[32+12*i:])), pieces: be.Uint32(b[40+12*i:])}
	}
	return p, nil
}
