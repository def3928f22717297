package filter

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"
)

var (
	errField    = errors.New("expected a field or a quoted one")
	errOperator = errors.New(`expected "==", "!=" or "~="`)
	errValue    = errors.New("expected a value or a quoted one")
	errQuote    = errors.New("only ~= takes values between slashes or bars")
	errOpen     = errors.New("quoted text does not end")
)

// parser reads one expression from left to right; rest is what is still to come.
type parser struct {
	rest string
}

func parse(expression string) ([]selector, error) {
	if err := checkText(expression); err != nil {
		return nil, err
	}
	p := parser{rest: expression}
	var all []selector
	for {
		s, err := p.selector()
		if err != nil {
			return nil, fmt.Errorf("at byte %d: %w", len(expression)-len(p.rest), err)
		}
		all = append(all, s)
		p.space()
		if p.rest == "" {
			return all, nil
		}
		if !p.take(',') {
			return nil, fmt.Errorf("at byte %d: expected a comma", len(expression)-len(p.rest))
		}
	}
}

func checkText(s string) error {
	if !utf8.ValidString(s) {
		return errors.New("not UTF-8")
	}
	if strings.IndexByte(s, 0) >= 0 {
		return errors.New("a null byte")
	}
	return nil
}

func (p *parser) selector() (selector, error) {
	path, err := p.path()
	if err != nil {
		return selector{}, err
	}
	p.space()
	if p.rest == "" || p.rest[0] == ',' {
		return selector{path: path}, nil
	}
	op, err := p.operator()
	if err != nil {
		return selector{}, err
	}
	value, err := p.value(op)
	if err != nil {
		return selector{}, err
	}
	s := selector{path: path, op: op, value: value}
	if op == matches {
		s.re, err = regexp.Compile(value)
	}
	return s, err
}

func (p *parser) path() ([]string, error) {
	var path []string
	for {
		field, err := p.field()
		if err != nil {
			return nil, err
		}
		path = append(path, field)
		p.space()
		if !p.take('.') {
			return path, nil
		}
	}
}

func (p *parser) field() (string, error) {
	p.space()
	if p.rest != "" && p.rest[0] == '"' {
		return p.quoted()
	}
	n := 0
	for n < len(p.rest) && isFieldByte(p.rest[n]) {
		n++
	}
	if n == 0 {
		return "", errField
	}
	field := p.rest[:n]
	p.rest = p.rest[n:]
	return field, nil
}

func (p *parser) operator() (operator, error) {
	for text, op := range map[string]operator{"==": equal, "!=": notEqual, "~=": matches} {
		rest, ok := strings.CutPrefix(p.rest, text)
		if ok && (rest == "" || !strings.ContainsRune("=!~", rune(rest[0]))) {
			p.rest = rest
			return op, nil
		}
	}
	return 0, errOperator
}

func (p *parser) value(op operator) (string, error) {
	p.space()
	if p.rest == "" {
		return "", errValue
	}
	switch p.rest[0] {
	case '"':
		return p.quoted()
	case '/', '|':
		if op != matches {
			return "", errQuote
		}
		return p.quoted()
	}
	n := strings.IndexFunc(p.rest, func(r rune) bool { return !isValueRune(r) })
	if n < 0 {
		n = len(p.rest)
	}
	if n == 0 {
		return "", errValue
	}
	value := p.rest[:n]
	p.rest = p.rest[n:]
	return value, nil
}

// space skips space.
func (p *parser) space() { p.rest = strings.TrimLeftFunc(p.rest, unicode.IsSpace) }

// take consumes c if it comes next.
func (p *parser) take(c byte) bool {
	if p.rest == "" || p.rest[0] != c {
		return false
	}
	p.rest = p.rest[1:]
	return true
}

func isFieldByte(c byte) bool {
	return c == '_' || c >= '0' && c <= '9' || c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z'
}

func isValueRune(r rune) bool { return r != ',' && !unicode.IsSpace(r) && unicode.IsGraphic(r) }
