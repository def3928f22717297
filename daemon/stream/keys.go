// Package stream joins a client's connection with the stream of a process that its
// shim serves, until the process ends, the client leaves or its detach keys come.
package stream

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
)

// DefaultKeys is ctrl-p ctrl-q.
var DefaultKeys = []byte{16, 17}

// named are the words beside ctrl- and a letter.
var named = map[string]byte{
	"ctrl-@": 0, "ctrl-[": 27, "ctrl-\\": 28, "ctrl-]": 29, "ctrl-^": 30, "ctrl-_": 31, "DEL": 127,
}

// ParseKeys reads "ctrl-x,y,…": each word is one byte, DEL, or ctrl- and a small letter
// or one of @ [ \ ] ^ _. "" gives DefaultKeys.
func ParseKeys(s string) ([]byte, error) {
	if s == "" {
		return DefaultKeys, nil
	}
	var keys []byte
	for word := range strings.SplitSeq(s, ",") {
		k, err := parseKey(word)
		if err != nil {
			return nil, err
		}
		keys = append(keys, k)
	}
	return keys, nil
}

func parseKey(word string) (byte, error) {
	if len(word) == 1 {
		return word[0], nil
	}
	if k, ok := named[word]; ok {
		return k, nil
	}
	if l, ok := strings.CutPrefix(word, "ctrl-"); ok && len(l) == 1 && l[0] >= 'a' && l[0] <= 'z' {
		return l[0] - 'a' + 1, nil
	}
	return 0, fmt.Errorf("Unknown character: '%s'", word) //nolint:staticcheck // Docker's words
}

// errDetach ends a reading at the detach keys.
var errDetach = errors.New("detach keys")

// watcher looks for the detach keys in what it reads and keeps them from the process.
// Not safe for concurrent use.
type watcher struct {
	r    io.Reader
	keys []byte
	held []byte // bytes read that may be the start of keys
	out  []byte // bytes ready to be given
	err  error
}

func (w *watcher) Read(p []byte) (int, error) {
	for len(w.out) == 0 {
		if w.err != nil {
			return 0, w.err
		}
		w.fill(len(p))
	}
	n := copy(p, w.out)
	w.out = w.out[n:]
	return n, nil
}

func (w *watcher) fill(size int) {
	buf := make([]byte, max(size, 1))
	n, err := w.r.Read(buf)
	for _, b := range buf[:n] {
		if w.feed(b) {
			w.err = errDetach
			return
		}
	}
	if err != nil {
		w.out = append(w.out, w.held...)
		w.held, w.err = nil, err
	}
}

// feed takes one byte; true says that the keys are complete.
func (w *watcher) feed(b byte) bool {
	w.held = append(w.held, b)
	for len(w.held) > 0 && !bytes.HasPrefix(w.keys, w.held) {
		w.out = append(w.out, w.held[0])
		w.held = w.held[1:]
	}
	return len(w.held) == len(w.keys)
}
