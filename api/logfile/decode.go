package logfile

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"strconv"
	"time"
	"unicode/utf16"
	"unicode/utf8"
)

// maxEntry bounds a line of the file in bytes: MaxLine with every byte escaped,
// and room for attributes. What is longer is damage and skipped.
const maxEntry = 1 << 20

// firstBuffer is the decoder's initial buffer; it grows for longer entries.
const firstBuffer = 32 << 10

// Decoder reads entries one after the other. Not safe for concurrent use.
type Decoder struct {
	format Format
	r      io.Reader
	buf    []byte
	lo, hi int   // buf[lo:hi] is read and not yet decoded
	off    int64 // of buf[lo] in the file
	skip   bool  // inside a line that is too long
	text   []byte
	stamp  []byte // the last time's text, and what it means
	at     time.Time
}

// Offset is where the next entry starts.
func (d *Decoder) Offset() int64 { return d.off }

// Next decodes the next entry into e. What cannot be decoded is passed over.
// At the end of the file it returns io.EOF with Offset after the last whole
// line; it may be called again when the file has grown.
func (d *Decoder) Next(e *Entry) error {
	for {
		raw, err := d.raw()
		if err != nil {
			return err
		}
		if raw != nil && d.parse(raw, e) {
			return nil
		}
	}
}

// raw consumes one entry, whatever is in it: a line without its newline or a message;
// nil for one that was too long. The slice is valid until the next call.
func (d *Decoder) raw() ([]byte, error) {
	if d.format == Local {
		return d.message()
	}
	return d.line()
}

// line consumes one line and returns it without its newline; nil for one that
// was too long. The slice is valid until the next call.
func (d *Decoder) line() ([]byte, error) {
	seen := d.lo
	for {
		if i := bytes.IndexByte(d.buf[seen:d.hi], '\n'); i >= 0 {
			line := d.buf[d.lo : seen+i]
			d.off += int64(len(line)) + 1
			d.lo += len(line) + 1
			if d.skip {
				d.skip = false
				return nil, nil
			}
			return line, nil
		}
		if d.hi-d.lo > maxEntry {
			d.off += int64(d.hi - d.lo)
			d.lo, d.hi, d.skip = 0, 0, true
		}
		seen = d.hi - d.lo
		if err := d.fill(); err != nil {
			return nil, err
		}
		seen += d.lo
	}
}

// fill reads once, after making room; the unread part then starts at lo = 0.
func (d *Decoder) fill() error {
	if d.lo > 0 {
		copy(d.buf, d.buf[d.lo:d.hi])
		d.lo, d.hi = 0, d.hi-d.lo
	}
	if d.hi == len(d.buf) {
		grown := make([]byte, max(firstBuffer, 2*len(d.buf)))
		copy(grown, d.buf[:d.hi])
		d.buf = grown
	}
	n, err := d.r.Read(d.buf[d.hi:])
	d.hi += n
	if n > 0 {
		return nil
	}
	if err == nil {
		err = io.ErrNoProgress
	}
	return err
}

// parse decodes one entry; a line quickly when it is as Encoder writes it, else with
// the general decoder.
func (d *Decoder) parse(line []byte, e *Entry) bool {
	if d.format == Local {
		return d.parseLocal(line, e)
	}
	return d.parseOwn(line, e) || d.parseAny(line, e)
}

func (d *Decoder) parseOwn(line []byte, e *Entry) bool {
	rest, ok := bytes.CutPrefix(line, []byte(`{"log":"`))
	if !ok {
		return false
	}
	if rest, ok = d.unquote(rest); !ok {
		return false
	}
	if rest, ok = bytes.CutPrefix(rest, []byte(`,"stream":"std`)); !ok || len(rest) < 4 {
		return false
	}
	switch string(rest[:4]) {
	case `out"`:
		e.Stream = Stdout
	case `err"`:
		e.Stream = Stderr
	default:
		return false
	}
	rest = rest[4:]
	e.Attrs = nil
	if after, has := bytes.CutPrefix(rest, []byte(`,"attrs":`)); has {
		end := bytes.LastIndex(after, []byte(`,"time":"`))
		if end < 0 || !json.Valid(after[:end]) {
			return false
		}
		e.Attrs, rest = after[:end], after[end:]
	}
	if rest, ok = bytes.CutPrefix(rest, []byte(`,"time":"`)); !ok {
		return false
	}
	if rest, ok = bytes.CutSuffix(rest, []byte(`"}`)); !ok {
		return false
	}
	e.Line = d.text
	return d.parseTime(rest, &e.Time)
}

func (d *Decoder) parseTime(text []byte, t *time.Time) bool {
	if !bytes.Equal(text, d.stamp) || len(text) == 0 {
		at, err := time.Parse(time.RFC3339Nano, string(text))
		if err != nil {
			return false
		}
		d.stamp = append(d.stamp[:0], text...)
		d.at = at.UTC()
	}
	*t = d.at
	return true
}

func (d *Decoder) parseAny(line []byte, e *Entry) bool {
	var v struct {
		Log    quoted          `json:"log"`
		Stream string          `json:"stream"`
		Attrs  json.RawMessage `json:"attrs"`
		Time   time.Time       `json:"time"`
	}
	if err := json.Unmarshal(line, &v); err != nil || v.Time.IsZero() {
		return false
	}
	d.text = d.text[:0]
	if len(v.Log) > 0 {
		if rest, ok := d.unquote(v.Log[1:]); !ok || len(rest) != 0 {
			return false
		}
	}
	*e = Entry{Stream: Stdout, Time: v.Time.UTC(), Line: d.text, Attrs: v.Attrs}
	if v.Stream == "stderr" {
		e.Stream = Stderr
	}
	return true
}

// quoted is a JSON string, still quoted and escaped.
type quoted []byte

func (q *quoted) UnmarshalJSON(b []byte) error {
	if len(b) < 2 || b[0] != '"' {
		return errors.New("not a string")
	}
	*q = b
	return nil
}

// unquote decodes the string that begins at s, whose opening quote has been
// taken, into d.text and returns what follows the closing quote.
func (d *Decoder) unquote(s []byte) (rest []byte, ok bool) {
	d.text = d.text[:0]
	start := 0
	for i := 0; i < len(s); {
		switch s[i] {
		case '"':
			d.text = append(d.text, s[start:i]...)
			return s[i+1:], true
		case '\\':
			d.text = append(d.text, s[start:i]...)
			n := d.unescape(s[i:])
			if n == 0 {
				return nil, false
			}
			i += n
			start = i
		default:
			i++
		}
	}
	return nil, false
}

var escapes = [256]byte{'"': '"', '\\': '\\', '/': '/', 'b': '\b', 'f': '\f', 'n': '\n', 'r': '\r', 't': '\t'}

// unescape decodes the escape at the start of s and returns its length, 0 if it is none.
func (d *Decoder) unescape(s []byte) int {
	if len(s) < 2 {
		return 0
	}
	if s[1] != 'u' {
		c := escapes[s[1]]
		if c == 0 {
			return 0
		}
		d.text = append(d.text, c)
		return 2
	}
	r, ok := unhex(s)
	if !ok {
		return 0
	}
	if r >= 0xdc80 && r <= 0xdcff {
		d.text = append(d.text, byte(r))
		return 6
	}
	if utf16.IsSurrogate(r) {
		if low, ok := unhex(s[6:]); ok && utf16.DecodeRune(r, low) != utf8.RuneError {
			d.text = utf8.AppendRune(d.text, utf16.DecodeRune(r, low))
			return 12
		}
		r = utf8.RuneError
	}
	d.text = utf8.AppendRune(d.text, r)
	return 6
}

func unhex(s []byte) (rune, bool) {
	if len(s) < 6 || s[0] != '\\' || s[1] != 'u' {
		return 0, false
	}
	n, err := strconv.ParseUint(string(s[2:6]), 16, 16)
	return rune(n), err == nil
}
