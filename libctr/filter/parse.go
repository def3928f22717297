package filter

import (
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"
)

// parser puts selectors together from tokens. An error says where by the token's place.
type parser struct{ scanner }

func parse(expression string) ([]selector, error) {
	p := parser{scanner{input: expression}}
	var all []selector
	for {
		s, err := p.selector()
		if err != nil {
			return nil, err
		}
		all = append(all, s)
		switch next := p.peek(); next {
		case ',':
			p.scan()
		case end:
			return all, nil
		default:
			return nil, p.failed(p.next, "unexpected input: "+string(next))
		}
	}
}

func (p *parser) selector() (selector, error) {
	path, err := p.path()
	if err != nil {
		return selector{}, err
	}
	if next := p.peek(); next == ',' || next == end {
		return selector{path: path}, nil
	}
	op, err := p.operator()
	if err != nil {
		return selector{}, err
	}
	value, err := p.value(op)
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	s := selector{path: path, op: op, value: value}
	if op == matches {
		s.re, _ = regexp.Compile(value) // nil matches nothing
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
		if p.peek() != '.' {
			return path, nil
		}
		p.scan()
	}
}

func (p *parser) field() (string, error) {
	switch t := p.scan(); t.kind {
	case word:
		return t.text, nil
	case literal:
		return p.unquoted(t, false)
	case illegal:
		return "", p.failed(t.at, p.fault)
	default:
		return "", p.failed(t.at, "expected field or quoted")
	}
}

var operators = map[string]operator{"==": equal, "!=": notEqual, "~=": matches}

func (p *parser) operator() (operator, error) {
	t := p.scan()
	switch t.kind {
	case operatorSign:
		op, ok := operators[t.text]
		if !ok {
			return 0, p.failed(t.at, "unsupported operator "+strconv.Quote(t.text))
		}
		return op, nil
	case illegal:
		return 0, p.failed(t.at, p.fault)
	default:
		return 0, p.failed(t.at, `expected an operator ("=="|"!="|"~=")`)
	}
}

func (p *parser) value(op operator) (string, error) {
	switch t := p.scan(); t.kind {
	case word, plain:
		return t.text, nil
	case literal:
		return p.unquoted(t, op == matches)
	case illegal:
		return "", p.failed(t.at, p.fault)
	default:
		return "", p.failed(t.at, "expected value or quoted")
	}
}

// unquoted reads a literal; those between slashes and bars are for regular expressions.
func (p *parser) unquoted(t token, anyQuote bool) (string, error) {
	if !anyQuote && t.text[0] != '"' {
		return "", p.failed(t.at, "invalid quote encountered")
	}
	s, err := unquote(t.text)
	if err != nil {
		return "", p.failed(t.at, "unquoting failed: "+err.Error())
	}
	return s, nil
}

// failed marks the byte at which the expression went wrong.
func (p *parser) failed(at int, what string) error {
	if at < len(p.input) {
		return fmt.Errorf("parse error: [%s >|%s|< %s]: %s", p.input[:at], p.input[at:at+1], p.input[at+1:], what)
	}
	return fmt.Errorf("parse error: [%s]: %s", p.input, what)
}
