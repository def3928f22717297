package transcript

import (
	"fmt"
	"os"
	"strings"
)

// Exchange is one request and its answer as a file tells them.
type Exchange struct {
	// Comments are the lines that stand above it, or above the first of the exchanges
	// that follow one another without a gap, without "# ".
	Comments []string
	// Request is the request line, the headers and the body.
	Request string
	// Answer is status, headers, body and raw bytes, as printed.
	Answer string
}

// Read returns the exchanges of a file.
func Read(file string) ([]Exchange, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	parsed, _, err := parse(string(text))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	var out []Exchange
	var comments []string
	for _, e := range parsed {
		if len(e.before) > 0 {
			comments = nil
		}
		for _, line := range e.before {
			if c, ok := strings.CutPrefix(strings.TrimSpace(line), "#"); ok {
				comments = append(comments, strings.TrimSpace(c))
			}
		}
		out = append(out, Exchange{
			Comments: comments,
			Request:  strings.Join(append(e.request, e.sends...), "\n"),
			Answer:   strings.Join(e.told, "\n"),
		})
	}
	return out, nil
}
