package logfile

import (
	"bytes"
	"encoding/binary"
	"io"
	"strconv"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
)

// Sizes of what stands around a message in a file of the format Local.
const (
	localHead  = 4
	localFrame = 2 * localHead
)

// The numbers of the fields of Docker's LogEntry, and of its partial metadata.
const (
	fieldSource = 1 + iota
	fieldTime
	fieldLine
	fieldPartial
	fieldMeta

	metaLast    = 1
	metaID      = 2
	metaOrdinal = 3
)

// localMagic begins the message of every entry: a source of six bytes, "std…".
var localMagic = []byte{fieldSource<<3 | 2, 6, 's', 't', 'd'}

// part is what Local tells of a line that takes several entries.
type part struct {
	ordinal int
	id      [16]byte
}

// appendLocal appends the entry for line in the format Local.
func (e *Encoder) appendLocal(dst []byte, s Stream, t time.Time, line []byte) []byte {
	text, whole := bytes.CutSuffix(line, []byte{'\n'})
	p := &e.parts[s]
	start := len(dst)
	dst = append(dst, 0, 0, 0, 0, fieldSource<<3|2, 6)
	dst = append(dst, s.String()...)
	dst = binary.AppendUvarint(append(dst, fieldTime<<3), uint64(t.UnixNano()))
	if len(text) > 0 {
		dst = binary.AppendUvarint(append(dst, fieldLine<<3|2), uint64(len(text)))
		dst = append(dst, text...)
	}
	if !whole || p.ordinal > 0 {
		dst = p.append(dst, t, whole)
	}
	n := uint32(len(dst) - start - localHead)
	binary.BigEndian.PutUint32(dst[start:], n)
	return binary.BigEndian.AppendUint32(dst, n)
}

// append appends the fields of a part of a line.
func (p *part) append(dst []byte, t time.Time, last bool) []byte {
	if p.ordinal++; p.ordinal == 1 {
		hex := strconv.AppendUint(make([]byte, 0, 16), uint64(t.UnixNano())|1<<63, 16)
		copy(p.id[:], hex)
	}
	meta := make([]byte, 0, 32)
	if last {
		meta = append(meta, metaLast<<3, 1)
	}
	meta = append(append(meta, metaID<<3|2, byte(len(p.id))), p.id[:]...)
	meta = binary.AppendUvarint(append(meta, metaOrdinal<<3), uint64(p.ordinal))
	if last {
		p.ordinal = 0
	}
	dst = append(dst, fieldPartial<<3, 1, fieldMeta<<3|2, byte(len(meta)))
	return append(dst, meta...)
}

// localSize is the size of the message that begins an entry at b, which has at least
// localHead+len(localMagic) bytes; 0 when that is none.
func localSize(b []byte) int {
	n := binary.BigEndian.Uint32(b)
	if n < uint32(len(localMagic)) || n > maxEntry || !bytes.HasPrefix(b[localHead:], localMagic) {
		return 0
	}
	return int(n)
}

// message consumes one entry of the format Local and returns its message; what is
// none is passed over. The slice is valid until the next call.
func (d *Decoder) message() ([]byte, error) {
	for {
		if err := d.need(localHead + len(localMagic)); err != nil {
			return nil, err
		}
		n := localSize(d.buf[d.lo:d.hi])
		if n == 0 {
			d.seek()
			continue
		}
		if err := d.need(n + localFrame); err != nil {
			return nil, err
		}
		b := d.buf[d.lo : d.lo+n+localFrame]
		if int(binary.BigEndian.Uint32(b[localHead+n:])) != n {
			d.seek()
			continue
		}
		d.drop(len(b))
		return b[localHead : localHead+n], nil
	}
}

// seek goes on, by one byte at least, to where the next entry may begin.
func (d *Decoder) seek() {
	rest := d.buf[d.lo+localHead+1 : d.hi]
	i := bytes.Index(rest, localMagic)
	if i < 0 {
		i = len(rest) - len(localMagic) + 1 // its end may not have come
	}
	d.drop(1 + max(i, 0))
}

// need reads on until n bytes are there.
func (d *Decoder) need(n int) error {
	for d.hi-d.lo < n {
		if err := d.fill(); err != nil {
			return err
		}
	}
	return nil
}

func (d *Decoder) drop(n int) {
	d.lo += n
	d.off += int64(n)
}

// parseLocal decodes one message.
func (d *Decoder) parseLocal(msg []byte, e *Entry) bool {
	*e = Entry{Stream: Stdout}
	partial, last := false, false
	d.text = d.text[:0]
	for len(msg) > 0 {
		num, typ, n := protowire.ConsumeTag(msg)
		if n < 0 {
			return false
		}
		msg = msg[n:]
		switch {
		case typ == protowire.BytesType:
			v, size := protowire.ConsumeBytes(msg)
			if size < 0 {
				return false
			}
			msg = msg[size:]
			switch num {
			case fieldSource:
				if string(v) == "stderr" {
					e.Stream = Stderr
				}
			case fieldLine:
				d.text = append(d.text[:0], v...)
			case fieldMeta:
				last = isLast(v)
			}
		case typ == protowire.VarintType:
			v, size := protowire.ConsumeVarint(msg)
			if size < 0 {
				return false
			}
			msg = msg[size:]
			switch num {
			case fieldTime:
				e.Time = time.Unix(0, int64(v)).UTC()
			case fieldPartial:
				partial = v != 0
			}
		default:
			size := protowire.ConsumeFieldValue(num, typ, msg)
			if size < 0 {
				return false
			}
			msg = msg[size:]
		}
	}
	if !partial || last {
		d.text = append(d.text, '\n')
	}
	e.Line = d.text
	return !e.Time.IsZero()
}

func isLast(meta []byte) (last bool) {
	for len(meta) > 0 {
		num, typ, n := protowire.ConsumeTag(meta)
		if n < 0 {
			return last
		}
		size := protowire.ConsumeFieldValue(num, typ, meta[n:])
		if size < 0 {
			return last
		}
		if num == metaLast && typ == protowire.VarintType {
			last = meta[n] != 0
		}
		meta = meta[n+size:]
	}
	return last
}

// wholeLocal is Whole for the format Local.
func wholeLocal(b []byte) (n int) {
	for {
		rest := b[n:]
		if len(rest) < localHead {
			return n
		}
		size := int64(binary.BigEndian.Uint32(rest)) + localFrame
		if size > int64(len(rest)) {
			return n
		}
		n += int(size)
	}
}

// tailLocal is Tail for the format Local, by the sizes at the entries' ends; false
// when they lead nowhere.
func tailLocal(r io.ReaderAt, size int64, n int) (offset int64, found int, ok bool) {
	w := window{r: r}
	for at := size; at > 0 && found < n; found++ {
		foot, ok := w.number(at - localHead)
		if !ok || foot < int64(len(localMagic)) || foot > maxEntry || at-foot-localFrame < 0 {
			return 0, 0, false
		}
		at -= foot + localFrame
		if head, ok := w.number(at); !ok || head != foot {
			return 0, 0, false
		}
		offset = at
	}
	if found == 0 {
		offset = size
	}
	return offset, found, true
}

// window reads numbers backwards, many at a time.
type window struct {
	r   io.ReaderAt
	buf []byte
	at  int64 // offset of buf
}

func (w *window) number(off int64) (int64, bool) {
	if off < 0 {
		return 0, false
	}
	if off < w.at || off+localHead > w.at+int64(len(w.buf)) {
		end := off + localHead
		w.at = max(0, end-64<<10)
		w.buf = append(w.buf[:0], make([]byte, end-w.at)...)
		if _, err := w.r.ReadAt(w.buf, w.at); err != nil && err != io.EOF {
			w.buf = w.buf[:0]
			return 0, false
		}
	}
	return int64(binary.BigEndian.Uint32(w.buf[off-w.at:])), true
}
