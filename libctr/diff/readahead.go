package diff

import (
	"io"
	"sync"
)

// Sizes of the read-ahead: enough to keep a decompressor and a writer busy on a
// processor each.
const (
	aheadChunk  = 256 << 10
	aheadChunks = 4
)

// readAhead reads its source in a goroutine of its own, which ends with the
// source or with Close.
type readAhead struct {
	full  chan piece
	empty chan []byte
	stop  chan struct{}
	done  chan struct{}
	once  sync.Once

	cur  []byte // what of the current piece is unread
	back []byte // the current piece's buffer
	err  error
}

type piece struct {
	buf []byte
	n   int
	err error
}

func newReadAhead(src io.ReadCloser) *readAhead {
	r := &readAhead{
		full: make(chan piece, aheadChunks), empty: make(chan []byte, aheadChunks),
		stop: make(chan struct{}), done: make(chan struct{}),
	}
	for range aheadChunks {
		r.empty <- make([]byte, aheadChunk)
	}
	go func() {
		defer close(r.done)
		defer src.Close()
		r.fill(src)
	}()
	return r
}

// fill reads pieces until the source ends; an error is passed on with what came before it.
func (r *readAhead) fill(src io.Reader) {
	for {
		var buf []byte
		select {
		case buf = <-r.empty:
		case <-r.stop:
			return
		}
		n, err := readFull(src, buf)
		select {
		case r.full <- piece{buf: buf, n: n, err: err}:
		case <-r.stop:
			return
		}
		if err != nil {
			return
		}
	}
}

// readFull is io.ReadFull with the source's own error, so that one that was cut off
// is told from one that ended.
func readFull(src io.Reader, buf []byte) (n int, err error) {
	for n < len(buf) && err == nil {
		var m int
		m, err = src.Read(buf[n:])
		n += m
	}
	return n, err
}

func (r *readAhead) Read(p []byte) (int, error) {
	for len(r.cur) == 0 {
		if r.err != nil {
			return 0, r.err
		}
		if r.back != nil {
			r.empty <- r.back // has room: there are only so many buffers
			r.back = nil
		}
		next := <-r.full
		r.cur, r.back, r.err = next.buf[:next.n], next.buf, next.err
	}
	n := copy(p, r.cur)
	r.cur = r.cur[n:]
	return n, nil
}

// Close ends the goroutine and waits for it; the source is closed then.
func (r *readAhead) Close() error {
	r.once.Do(func() { close(r.stop) })
	<-r.done
	return nil
}
