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
	SpanKind    int
	SpanContext struct{ TraceID, SpanID string }
	Parent      struct{ SpanID string }
	StartTime   time.Time
	EndTime     time.Time
	Attributes  []struct {
		Key   string
		Value struct{ Value any }
	}
}

// Kinds of spans, as OpenTelemetry's Go SDK numbers them.
const (
	kindServer = 2
	kindClient = 3
)

func (s span) attribute(key string) string {
	for _, a := range s.Attributes {
		if a.Key == key {
			return fmt.Sprint(a.Value.Value)
		}
	}
	return ""
}

func (s span) took() time.Duration { return s.EndTime.Sub(s.StartTime) }

func (s span) process() string {
	if p := s.attribute("process"); p != "" {
		return p
	}
	return "gantryd"
}

// readSpans reads the trace file; the last line may still be on its way.
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

// requestsSince are the API's requests from then on, in order.
func requestsSince(all []span, then time.Time) (list []span) {
	for _, s := range all {
		method, _, _ := strings.Cut(s.Name, " ")
		if s.SpanKind == kindServer && strings.Trim(method, "ABCDEFGHIJKLMNOPQRSTUVWXYZ") == "" && !s.StartTime.Before(then) {
			list = append(list, s)
		}
	}
	slices.SortStableFunc(list, func(a, b span) int { return a.StartTime.Compare(b.StartTime) })
	return list
}

// node is a span and what it was made of, in order.
type node struct {
	span
	parts []*node
}

// tree is the trace that root is in. What a client and a server tell of one call is
// one node.
func tree(all []span, root span) *node {
	children := map[string][]span{}
	for _, s := range all {
		if s.SpanContext.TraceID == root.SpanContext.TraceID {
			children[s.Parent.SpanID] = append(children[s.Parent.SpanID], s)
		}
	}
	var grow func(s span) *node
	grow = func(s span) *node {
		n := &node{span: s}
		next := children[s.SpanContext.SpanID]
		if len(next) == 1 && s.SpanKind == kindClient && next[0].SpanKind == kindServer && next[0].Name == s.Name {
			next = children[next[0].SpanContext.SpanID]
		}
		slices.SortStableFunc(next, func(a, b span) int { return a.StartTime.Compare(b.StartTime) })
		for _, c := range next {
			n.parts = append(n.parts, grow(c))
		}
		return n
	}
	return grow(root)
}

// hop is what a line says of a node.
func (n *node) hop() string {
	switch {
	case n.SpanKind != kindClient:
		return n.Name
	case strings.HasPrefix(n.Name, "containerd.task."):
		return "ttrpc " + n.Name
	}
	return "gRPC " + n.Name
}

// calls counts the system calls of the container's first process.
func (n *node) calls() (count int) {
	if n.attribute("call") != "" {
		return 1
	}
	for _, p := range n.parts {
		count += p.calls()
	}
	return count
}

func (n *node) count() int {
	count := 1
	for _, p := range n.parts {
		count += p.count()
	}
	return count
}

// pids are those of the processes that the tree names.
func (n *node) pids(into map[string]string) {
	if pid := n.attribute("pid"); pid != "" {
		into[n.process()] = pid
	}
	for _, p := range n.parts {
		p.pids(into)
	}
}

// teller prints a tree: when each hop began, counted from the root's begin, how long
// it took, in which process, and what it was.
type teller struct {
	w     io.Writer
	begin time.Time
	all   bool                // every system call
	names func(string) string // makes names fit to read
}

// slowest is how many of the init's steps are shown, if not all.
const slowest = 10

func (t teller) tell(n *node) {
	fmt.Fprintf(t.w, "%9s %9s  %-8s %s\n", "at", "took", "process", "hop")
	t.begin = n.StartTime
	t.walk(n, 0)
}

func (t teller) walk(n *node, depth int) {
	name := t.names(n.hop())
	if call := n.attribute("call"); t.all && call != "" {
		name += "  " + t.names(call)
	} else if c := n.calls(); n.process() == "init" && c > 1 {
		name += fmt.Sprintf("  (%d calls)", c)
	}
	t.line(ms(n.StartTime.Sub(t.begin)), n.took(), n.process(), depth, name)
	if t.all || n.process() != "init" {
		for _, p := range n.parts {
			t.walk(p, depth+1)
		}
		return
	}
	if n.attribute("calls") == "" { // of a step with several calls the calls are not shown
		t.steps(n.parts, depth+1)
	}
}

// steps shows the slowest ones in their order and sums up the others.
func (t teller) steps(parts []*node, depth int) {
	shown := parts
	if len(parts) > slowest+1 {
		shown = slices.Clone(parts)
		slices.SortStableFunc(shown, func(a, b *node) int { return int(b.took() - a.took()) })
		shown = shown[:slowest]
	}
	calls, rest, left := 0, time.Duration(0), 0
	for _, p := range parts {
		if slices.Contains(shown, p) {
			t.walk(p, depth)
			continue
		}
		calls, rest, left = calls+p.calls(), rest+p.took(), left+1
	}
	if left > 0 {
		t.line("", rest, "init", depth, fmt.Sprintf("… %d more steps in between  (%d calls; ARGS=--all shows them)", left, calls))
	}
}

func (t teller) line(at string, took time.Duration, process string, depth int, name string) {
	fmt.Fprintf(t.w, "%9s %9s  %-8s %s%s\n", at, ms(took), process, strings.Repeat("  ", depth), name)
}

func ms(d time.Duration) string { return fmt.Sprintf("%.2f ms", float64(d.Microseconds())/1000) }
