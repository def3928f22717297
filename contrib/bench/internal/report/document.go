// Package report joins what the programs of a bench run measured into one document and
// renders it as Markdown, each row beside what is aimed at.
package report

import (
	"bufio"
	"fmt"
	"io"
	"strings"

	"bench/internal/stats"
)

// Document is the raw result of one run, results/NAME.json. A part that was not
// measured is nil.
type Document struct {
	Name    string        `json:"name"`
	Date    string        `json:"date"`
	Commit  string        `json:"commit"`
	Command string        `json:"command"`
	Engine  *stats.Report `json:"engine,omitempty"`
	Runtime *stats.Report `json:"runtime,omitempty"`
	Floor   []Step        `json:"floor,omitempty"`
	Core    *stats.Report `json:"core,omitempty"`
}

// Step is what the kernel alone needs for one step, in ms.
type Step struct {
	Name   string  `json:"name"`
	N      int     `json:"n"`
	Min    float64 `json:"min"`
	Median float64 `json:"median"`
	P95    float64 `json:"p95"`
	Max    float64 `json:"max"`
}

// ParseFloor reads the lines that floor prints; other lines are passed over.
func ParseFloor(r io.Reader) (steps []Step, err error) {
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		name, figures, ok := strings.Cut(lines.Text(), " n=")
		if !ok {
			continue
		}
		s := Step{Name: strings.TrimRight(name, " ")}
		if _, err := fmt.Sscanf(figures, "%d min %f median %f p95 %f max %f ms", &s.N, &s.Min, &s.Median, &s.P95, &s.Max); err != nil {
			return nil, fmt.Errorf("line %q: %w", lines.Text(), err)
		}
		steps = append(steps, s)
	}
	return steps, lines.Err()
}
