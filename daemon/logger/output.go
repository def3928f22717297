package logger

import (
	"encoding/json"
	"io"
	"net/url"
	"slices"
	"strings"

	"gantry/api/logfile"
)

// Docker's fixed-width form of RFC 3339.
const stampFormat = "2006-01-02T15:04:05.000000000Z07:00"

// most bytes gathered before they are written.
const gather = 32 << 10

// output filters, formats and gathers entries.
type output struct {
	o      Options
	to     [3]io.Writer // by logfile.Stream; nil drops
	buf    []byte
	stream logfile.Stream // of buf
}

func newOutput(o Options, stdout, stderr io.Writer) *output {
	w := &output{o: o, buf: make([]byte, 0, gather+logfile.MaxLine)}
	if o.Stdout {
		w.to[logfile.Stdout] = stdout
	}
	if o.Stderr {
		w.to[logfile.Stderr] = stderr
	}
	return w
}

// entry takes one entry; errStop says that it and all that follow are too late.
func (w *output) entry(e *logfile.Entry, _ logfile.Position) error {
	if !w.o.Until.IsZero() && e.Time.After(w.o.Until) {
		if err := w.flush(); err != nil {
			return err
		}
		return errStop
	}
	if w.to[e.Stream] == nil || e.Time.Before(w.o.Since) {
		return nil
	}
	if e.Stream != w.stream || len(w.buf) >= gather {
		if err := w.flush(); err != nil {
			return err
		}
		w.stream = e.Stream
	}
	if w.o.Timestamps {
		w.buf = append(e.Time.AppendFormat(w.buf, stampFormat), ' ')
	}
	if w.o.Details {
		w.buf = append(append(w.buf, details(e.Attrs)...), ' ')
	}
	w.buf = append(w.buf, e.Line...)
	return nil
}

func (w *output) flush() error {
	if len(w.buf) == 0 {
		return nil
	}
	_, err := w.to[w.stream].Write(w.buf)
	w.buf = w.buf[:0]
	return err
}

// details shows the attributes, a JSON object of strings, as "k=v,k=v".
func details(attrs []byte) string {
	if len(attrs) == 0 {
		return ""
	}
	var m map[string]string
	if json.Unmarshal(attrs, &m) != nil {
		return ""
	}
	return joinDetails(m)
}

func joinDetails(m map[string]string) string {
	pairs := make([]string, 0, len(m))
	for k, v := range m {
		pairs = append(pairs, url.QueryEscape(k)+"="+url.QueryEscape(v))
	}
	slices.Sort(pairs)
	return strings.Join(pairs, ",")
}
