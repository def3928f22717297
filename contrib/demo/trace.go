package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"
)

// span is what is used of a span as the trace file holds it.
type span struct {
	Name        string
	SpanContext struct{ TraceID, SpanID string }
	Parent      struct{ SpanID string }
	StartTime   time.Time
	EndTime     time.Time
	Attributes  []struct {
		Key   string
		Value struct{ Value any }
	}
}

func (s span) attribute(key string) string {
	for _, a := range s.Attributes {
		if a.Key == key {
			return fmt.Sprint(a.Value.Value)
		}
	}
	return ""
}

func readSpans(path string) ([]span, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var all []span
	for d := json.NewDecoder(f); ; {
		var s span
		if err := d.Decode(&s); errors.Is(err, io.EOF) {
			return all, nil
		} else if err != nil {
			return nil, fmt.Errorf("trace file: %w", err)
		}
		all = append(all, s)
	}
}

// tell prints the trace that root is in as a tree: when each hop began, counted from
// root's begin, how long it took, in which process, and what it was.
func tell(w io.Writer, all []span, root span) {
	children := map[string][]span{}
	for _, s := range all {
		if s.SpanContext.TraceID == root.SpanContext.TraceID {
			children[s.Parent.SpanID] = append(children[s.Parent.SpanID], s)
		}
	}
	fmt.Fprintf(w, "%9s %9s  %-8s %s\n", "at", "took", "process", "hop")
	var walk func(s span, depth int)
	walk = func(s span, depth int) {
		process := s.attribute("process")
		if process == "" {
			process = "gantryd"
		}
		fmt.Fprintf(w, "%9s %9s  %-8s %s%s\n", ms(s.StartTime.Sub(root.StartTime)), ms(s.EndTime.Sub(s.StartTime)), process, strings.Repeat("  ", depth), s.Name)
		next := children[s.SpanContext.SpanID]
		slices.SortStableFunc(next, func(a, b span) int { return a.StartTime.Compare(b.StartTime) })
		for _, c := range next {
			walk(c, depth+1)
		}
	}
	walk(root, 0)
}

func ms(d time.Duration) string { return fmt.Sprintf("%.2f ms", float64(d.Microseconds())/1000) }
