package tag

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
	"text/template"
	"unicode"
)

// functions are those that Docker's templates have, and of the language's own those
// whose result can be longer than what they are given.
var functions = template.FuncMap{
	"json":     func(v any) (string, error) { return short(marshal(v)) },
	"split":    split,
	"join":     join,
	"lower":    func(s string) (string, error) { return changed(strings.ToLower, s) },
	"upper":    func(s string) (string, error) { return changed(strings.ToUpper, s) },
	"title":    func(s string) (string, error) { return changed(title, s) },
	"pad":      pad,
	"truncate": func(s string, n int) string { return s[:min(max(n, 0), len(s))] },

	"print":    func(v ...any) (string, error) { return written(fmt.Sprint, v) },
	"println":  func(v ...any) (string, error) { return written(fmt.Sprintln, v) },
	"printf":   printf,
	"html":     func(v ...any) (string, error) { return written(template.HTMLEscaper, v) },
	"js":       func(v ...any) (string, error) { return written(template.JSEscaper, v) },
	"urlquery": func(v ...any) (string, error) { return written(template.URLQueryEscaper, v) },
}

// short refuses what no tag can hold.
func short(s string) (string, error) {
	if len(s) > maxLength {
		return "", errTooLong
	}
	return s, nil
}

// written is what f makes of values that are short themselves.
func written(f func(...any) string, values []any) (string, error) {
	if err := allShort(values); err != nil {
		return "", err
	}
	return short(f(values...))
}

func allShort(values []any) error {
	left := maxLength
	for _, v := range values {
		if left -= len(fmt.Sprint(v)); left < 0 {
			return errTooLong
		}
	}
	return nil
}

// wide is a width or precision that makes much of little.
var wide = regexp.MustCompile(`[0-9]{4}|\*`)

func printf(format string, values ...any) (string, error) {
	if wide.MatchString(format) {
		return "", errTooLong
	}
	return written(func(v ...any) string { return fmt.Sprintf(format, v...) }, values)
}

func marshal(v any) string {
	var b strings.Builder
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	_ = enc.Encode(v) // what cannot be shown is shown as nothing
	return strings.TrimSpace(b.String())
}

// maxInput bounds in bytes what is taken apart or changed.
const maxInput = 64 << 10

func changed(f func(string) string, s string) (string, error) {
	if len(s) > maxInput {
		return "", errTooLong
	}
	return f(s), nil
}

func split(s, sep string) ([]string, error) {
	if len(s) > maxInput {
		return nil, errTooLong
	}
	return strings.Split(s, sep), nil
}

func join(parts []string, sep string) (string, error) {
	left := maxLength
	for _, p := range parts {
		if left -= len(p) + len(sep); left < -len(sep) {
			return "", errTooLong
		}
	}
	return strings.Join(parts, sep), nil
}

func pad(s string, before, after int) (string, error) {
	if s == "" {
		return s, nil
	}
	return short(spaces(before) + s + spaces(after))
}

func spaces(n int) string { return strings.Repeat(" ", min(max(n, 0), maxLength)) }

// title makes the first letter of each word a capital.
func title(s string) string {
	before := ' '
	return strings.Map(func(r rune) rune {
		first := !unicode.IsLetter(before) && !unicode.IsDigit(before) && before != '_' && before != '\''
		before = r
		if first {
			return unicode.ToTitle(r)
		}
		return r
	}, s)
}
