package forward

import (
	"sync"

	"gantry/daemon/logger/target"
)

// A batch is bounded in bytes and entries; a target's options may make it smaller.
const (
	maxBatchBytes   = 64 << 10
	maxBatchEntries = 256
)

// batch is entries that wait to be sent together, with their bytes.
type batch struct {
	entries []target.Entry
	text    []byte
	parts   []target.Part
}

// batches lends them while there is something to send, so that a quiet container holds
// none.
var batches = sync.Pool{New: func() any {
	return &batch{
		entries: make([]target.Entry, 0, maxBatchEntries),
		text:    make([]byte, 0, maxBatchBytes),
		parts:   make([]target.Part, 0, maxBatchEntries),
	}
}}

// room says whether n bytes more fit, within limit bytes if that is positive. There is
// always room in an empty one.
func (b *batch) room(n, limit int) bool {
	if limit <= 0 || limit > maxBatchBytes {
		limit = maxBatchBytes
	}
	return len(b.entries) == 0 || len(b.entries) < maxBatchEntries && len(b.text)+n <= limit
}

// add appends a copy of e.
func (b *batch) add(e target.Entry) {
	at := len(b.text)
	b.text = append(b.text, e.Line...)
	e.Line = b.text[at:len(b.text):len(b.text)]
	if e.Part != nil {
		b.parts = append(b.parts, *e.Part)
		e.Part = &b.parts[len(b.parts)-1]
	}
	b.entries = append(b.entries, e)
}

func (f *forwarder) dropBatch() {
	if f.batch == nil {
		return
	}
	if cap(f.batch.text) <= 2*maxBatchBytes {
		clear(f.batch.entries)
		f.batch.entries, f.batch.text, f.batch.parts = f.batch.entries[:0], f.batch.text[:0], f.batch.parts[:0]
		batches.Put(f.batch)
	}
	f.batch = nil
}
