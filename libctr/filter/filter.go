// Package filter reads and applies the filter expressions of containerd's API.
//
//	expression = selector { "," selector }            all must hold
//	selector   = path [ operator value ]              without operator: the field is present
//	path       = field { "." field }
//	field      = [A-Za-z0-9_]+ | quoted
//	operator   = "==" | "!=" | "~="                   ~= is a regular expression (RE2)
//	value      = quoted | printable runes without "," and space
//	quoted     = Go string literal; after ~= also between slashes or bars
//
// Space is skipped before a token, but not after a value. Of several expressions one
// must hold; of none, everything matches, and so does the empty expression, which
// clients send for none. An absent field has the empty value for "!=" and "~=", and is
// unequal to everything for "==". What does not parse is told in containerd's words;
// a regular expression that does not compile matches nothing, as there.
package filter

import (
	"regexp"
	"strings"

	"gantry/api/errdefs"
)

// Bounds of what Parse takes, against hostile clients.
const (
	maxExpressions = 1024
	maxLength      = 64 << 10
)

// Fields looks a field up by its path; ok says whether the object has it.
type Fields func(path []string) (value string, ok bool)

type operator uint8

const (
	present operator = iota
	equal
	notEqual
	matches
)

type selector struct {
	path  []string
	op    operator
	value string
	re    *regexp.Regexp // of matches; nil when the value is none
}

// Filter is a parsed set of expressions; the zero value matches everything.
// Immutable, safe for concurrent use.
type Filter struct {
	any [][]selector
}

// Parse reads the expressions; what does not parse is InvalidArgument.
func Parse(expressions ...string) (Filter, error) {
	if len(expressions) > maxExpressions {
		return Filter{}, errdefs.InvalidArgument("%d filters: at most %d are taken: invalid argument", len(expressions), maxExpressions)
	}
	var f Filter
	for _, e := range expressions {
		if len(e) > maxLength {
			return Filter{}, errdefs.InvalidArgument("filter of %d bytes: at most %d are taken: invalid argument", len(e), maxLength)
		}
		if e == "" {
			f.any = append(f.any, nil)
			continue
		}
		all, err := parse(e)
		if err != nil {
			return Filter{}, errdefs.InvalidArgument("filters: %w: invalid argument", err)
		}
		f.any = append(f.any, all)
	}
	return f, nil
}

// Match says whether an object with these fields passes.
func (f Filter) Match(fields Fields) bool {
	if len(f.any) == 0 {
		return true
	}
	for _, all := range f.any {
		if matchAll(all, fields) {
			return true
		}
	}
	return false
}

func matchAll(all []selector, fields Fields) bool {
	for _, s := range all {
		if !s.match(fields) {
			return false
		}
	}
	return true
}

func (s selector) match(fields Fields) bool {
	value, ok := fields(s.path)
	switch s.op {
	case equal:
		return ok && value == s.value
	case notEqual:
		return value != s.value
	case matches:
		return s.re != nil && s.re.MatchString(value)
	default:
		return ok
	}
}

// Label looks up the rest of a path in labels; a key with dots may be quoted or
// written out, as in labels.com.example.
func Label(labels map[string]string, path []string) (string, bool) {
	value, ok := labels[strings.Join(path, ".")]
	return value, ok
}
