package filter

import (
	"strconv"
	"strings"
)

// quoted reads a literal that starts with its quote: escapes are those of a Go
// string, and the quote itself may be escaped.
func (p *parser) quoted() (string, error) {
	quote := p.rest[0]
	s := p.rest[1:]
	var out strings.Builder
	for {
		if s == "" || s[0] == '\n' {
			return "", errOpen
		}
		if s[0] == quote {
			p.rest = s[1:]
			return out.String(), nil
		}
		if s[0] == '\\' && len(s) > 1 && s[1] == quote {
			out.WriteByte(quote)
			s = s[2:]
			continue
		}
		r, multibyte, tail, err := strconv.UnquoteChar(s, 0)
		if err != nil {
			return "", err
		}
		if multibyte {
			out.WriteRune(r)
		} else {
			out.WriteByte(byte(r))
		}
		s = tail
	}
}
