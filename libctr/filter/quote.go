package filter

import (
	"errors"
	"strconv"
	"strings"
)

var errQuote = errors.New("quote syntax error")

// unquote reads a literal with its quotes: escapes are those of a Go string, and the
// quote itself may be escaped.
func unquote(literal string) (string, error) {
	quote, s := literal[0], literal[1:len(literal)-1]
	var out strings.Builder
	for s != "" {
		if s[0] == '\\' && len(s) > 1 && s[1] == quote {
			out.WriteByte(quote)
			s = s[2:]
			continue
		}
		r, multibyte, tail, err := strconv.UnquoteChar(s, 0)
		if err != nil {
			return "", errQuote
		}
		if multibyte {
			out.WriteRune(r)
		} else {
			out.WriteByte(byte(r))
		}
		s = tail
	}
	return out.String(), nil
}
