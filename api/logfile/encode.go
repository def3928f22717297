package logfile

import (
	"encoding/json"
	"time"
	"unicode/utf8"
)

const hexDigits = "0123456789abcdef"

// plain tells which ASCII bytes stand for themselves in a string, by Docker's
// rules: JSON's own, and those of HTML.
var plain = func() (t [utf8.RuneSelf]bool) {
	for c := 0x20; c < utf8.RuneSelf; c++ {
		t[c] = true
	}
	for _, c := range `\"<>&` {
		t[c] = false
	}
	return t
}()

// Encoder turns pieces of output into entries. The zero value is ready to use
// and writes JSON without attributes. Not safe for concurrent use.
type Encoder struct {
	format Format
	parts  [3]part // of the line that is being written, per Stream; for Local

	mid  [3]string // what follows "log" per Stream, up to the time
	time time.Time
	tail []byte // the formatted time and the end of the entry
}

// NewEncoder returns an encoder that adds attrs to each entry, where the format has
// room for them.
func (f Format) NewEncoder(attrs map[string]string) (*Encoder, error) {
	e := &Encoder{format: f}
	if len(attrs) == 0 || f == Local {
		return e, nil
	}
	raw, err := json.Marshal(attrs)
	if err != nil {
		return nil, err
	}
	for _, s := range []Stream{Stdout, Stderr} {
		e.mid[s] = `,"stream":"` + s.String() + `","attrs":` + string(raw) + `,"time":"`
	}
	return e, nil
}

// Append appends the entry for line to dst. line holds its newline if it has
// one, and at most MaxLine bytes before it; more is written but not what readers
// expect. It allocates only to grow dst, and formats t once for equal times.
func (e *Encoder) Append(dst []byte, s Stream, t time.Time, line []byte) []byte {
	if e.format == Local {
		return e.appendLocal(dst, s, t, line)
	}
	if len(e.tail) == 0 || !t.Equal(e.time) {
		e.time = t
		e.tail = t.UTC().AppendFormat(e.tail[:0], time.RFC3339Nano)
		e.tail = append(e.tail, "\"}\n"...)
	}
	dst = append(dst, `{"log":"`...)
	dst = appendText(dst, line)
	switch {
	case e.mid[s] != "":
		dst = append(append(dst, '"'), e.mid[s]...)
	case s == Stderr:
		dst = append(dst, `","stream":"stderr","time":"`...)
	default:
		dst = append(dst, `","stream":"stdout","time":"`...)
	}
	return append(dst, e.tail...)
}

// appendText appends s as the inside of a JSON string.
func appendText(dst, s []byte) []byte {
	start := 0
	for i := 0; i < len(s); {
		b := s[i]
		if b < utf8.RuneSelf {
			if plain[b] {
				i++
				continue
			}
			dst = appendEscape(append(dst, s[start:i]...), b)
			i++
			start = i
			continue
		}
		r, size := utf8.DecodeRune(s[i:])
		switch {
		case r == utf8.RuneError && size == 1:
			dst = append(append(dst, s[start:i]...), `\udc`...)
			dst = append(dst, hexDigits[b>>4], hexDigits[b&0xf])
		case r == '\u2028' || r == '\u2029':
			dst = append(append(dst, s[start:i]...), `\u202`...)
			dst = append(dst, hexDigits[r&0xf])
		default:
			i += size
			continue
		}
		i += size
		start = i
	}
	return append(dst, s[start:]...)
}

func appendEscape(dst []byte, b byte) []byte {
	switch b {
	case '\\', '"':
		return append(dst, '\\', b)
	case '\n':
		return append(dst, '\\', 'n')
	case '\r':
		return append(dst, '\\', 'r')
	}
	return append(dst, '\\', 'u', '0', '0', hexDigits[b>>4], hexDigits[b&0xf])
}
