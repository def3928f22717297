package filter

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// What the scanner gives for no rune.
const (
	end rune = -(iota + 1)
	broken
)

type kind uint8

const (
	other        kind = iota // a rune that begins no token, or the end
	word                     // letters, digits, underscores
	literal                  // with its quotes
	plain                    // a value without quotes
	separator                // a dot or a comma
	operatorSign             // a run of =, ! and ~
	illegal                  // scanner.fault says why
)

type token struct {
	kind kind
	at   int // byte of the input where it begins
	text string
}

// scanner cuts an expression into tokens. What a rune begins depends on whether an
// operator came before it: then it is a value up to the next comma or space.
type scanner struct {
	input  string
	last   int // where the rune that was read last begins
	next   int // where the one after it does
	valued bool
	fault  string // of what was illegal first
}

// read takes the next rune.
func (s *scanner) read() rune {
	if s.last >= len(s.input) {
		return end
	}
	s.last = s.next
	r, size := utf8.DecodeRuneInString(s.input[s.next:])
	s.next += size
	switch {
	case size == 0:
		return end
	case r == utf8.RuneError:
		s.blame("rune error")
		return broken
	case r == 0:
		s.blame("unexpected null")
		return broken
	}
	return r
}

func (s *scanner) peek() rune {
	last, next := s.last, s.next
	r := s.read()
	s.last, s.next = last, next
	return r
}

// take reads runes as long as they are of a class.
func (s *scanner) take(class func(rune) bool) {
	for class(s.peek()) {
		s.read()
	}
}

func (s *scanner) blame(what string) {
	if s.fault == "" {
		s.fault = what
	}
}

func (s *scanner) scan() token {
	r := s.read()
	for r >= 0 && unicode.IsSpace(r) {
		r = s.read()
	}
	t := token{at: s.last}
	switch {
	case r == end:
	case r == broken:
		t.kind = illegal
	case r == '/' || r == '|' || r == '"':
		if t.kind = literal; !s.literal(r) {
			t.kind = illegal
		}
	case r == ',' || r == '.':
		t.kind, s.valued = separator, false
	case isOperator(r):
		s.take(isOperator)
		t.kind, s.valued = operatorSign, true
	case s.valued:
		s.take(isValue)
		t.kind, s.valued = plain, false
	case isWord(r):
		s.take(isWord)
		t.kind = word
	}
	t.text = s.input[t.at:s.next]
	return t
}

// literal reads up to the quote that ends it and says whether it has only the escapes of
// a Go string, and that of the quote.
func (s *scanner) literal(quote rune) bool {
	legal := true
	for r := s.read(); r != quote; {
		switch {
		case r == '\n' || r < 0:
			s.blame("quoted literal not terminated")
			return false
		case r == '\\':
			var ok bool
			r, ok = s.escape(quote)
			legal = legal && ok
		default:
			r = s.read()
		}
	}
	return legal
}

// escape reads what follows a backslash, and the rune after it.
func (s *scanner) escape(quote rune) (after rune, legal bool) {
	r := s.read()
	switch {
	case r == quote || r > 0 && strings.ContainsRune(`abfnrtv\`, r):
		return s.read(), true
	case r >= '0' && r <= '7':
		return s.digits(r, 8, 3)
	case r == 'x':
		return s.digits(s.read(), 16, 2)
	case r == 'u':
		return s.digits(s.read(), 16, 4)
	case r == 'U':
		return s.digits(s.read(), 16, 8)
	}
	s.blame("illegal escape sequence")
	return r, false
}

func (s *scanner) digits(r rune, base, n int) (after rune, legal bool) {
	for ; n > 0 && digit(r) < base; n-- {
		r = s.read()
	}
	if n > 0 {
		s.blame("illegal numeric escape sequence")
	}
	return r, n == 0
}

// digit is a hexadecimal digit's value, 16 for what is none.
func digit(r rune) int {
	switch {
	case r >= '0' && r <= '9':
		return int(r - '0')
	case r >= 'a' && r <= 'f':
		return int(r-'a') + 10
	case r >= 'A' && r <= 'F':
		return int(r-'A') + 10
	}
	return 16
}

func isOperator(r rune) bool { return r == '=' || r == '!' || r == '~' }

func isWord(r rune) bool {
	return r == '_' || r >= '0' && r <= '9' || r >= 'A' && r <= 'Z' || r >= 'a' && r <= 'z'
}

func isValue(r rune) bool { return r != ',' && !unicode.IsSpace(r) && unicode.IsGraphic(r) }
