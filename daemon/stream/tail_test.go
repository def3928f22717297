package stream

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"gantry/api/logfile"
	"gantry/api/shimwire"
)

// shim gives text in frames of any size, the position counting bytes, and reuses one
// buffer, as a connection does.
type shim struct {
	*process
	text []byte
	rand *rand.Rand
	cut  int // hangs up after so many bytes; negative: never
	buf  []byte
	off  int
	over bool
}

func (s *shim) Start() shimwire.Position { return shimwire.Position{Generation: 1} }
func (s *shim) Keep()                    { s.buf = nil }

func (s *shim) Read() (shimwire.Frame, error) {
	select {
	case <-s.closed:
		return shimwire.Frame{}, io.ErrUnexpectedEOF
	default:
	}
	switch {
	case s.over:
		return shimwire.Frame{}, io.EOF
	case s.cut >= 0 && s.off >= s.cut:
		return shimwire.Frame{}, io.ErrUnexpectedEOF
	case s.off == len(s.text):
		s.over = true
		return shimwire.Frame{Kind: shimwire.End, Pos: s.at()}, nil
	}
	n := min(1+s.rand.IntN(40<<10), len(s.text)-s.off)
	s.buf = append(s.buf[:0], s.text[s.off:s.off+n]...)
	s.off += n
	return shimwire.Frame{Kind: shimwire.Data, Stream: logfile.Stdout, Data: s.buf, Pos: s.at()}, nil
}

func (s *shim) at() shimwire.Position { return shimwire.Position{Generation: 1, Offset: int64(s.off)} }

// files is a Rest of the same text.
type files struct {
	text   []byte
	closed bool
}

func (f *files) From(pos shimwire.Position) { f.text = f.text[pos.Offset:] }
func (f *files) Close() error               { f.closed = true; return nil }
func (f *files) Read() (shimwire.Frame, error) {
	n := min(len(f.text), 10<<10)
	if n == 0 {
		return shimwire.Frame{Kind: shimwire.End}, nil
	}
	part := f.text[:n]
	f.text = f.text[n:]
	return shimwire.Frame{Kind: shimwire.Data, Stream: logfile.Stdout, Data: part}, nil
}

// TestTail: wherever the client is when the run ends, and wherever the shim hangs up, it
// gets every byte once, nobody waits for it, and what was opened for it is closed.
func TestTail(t *testing.T) {
	for seed := range uint64(60) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := rand.New(rand.NewPCG(seed, 1))
				text := make([]byte, r.IntN(600<<10))
				rand.NewChaCha8([32]byte{byte(seed)}).Read(text) //nolint:errcheck // never fails
				logged := seed%3 > 0
				p := &shim{process: newProcess(), text: text, rand: r, cut: -1}
				tail := NewTail(p, logged)
				before := r.IntN(20)
				rest := &files{text: text}
				opened := false
				end := func() {
					if logged && seed%2 == 0 {
						p.cut = r.IntN(len(text) + 1)
					}
					tail.Over()
					tail.Over()
					synctest.Wait()
					err := tail.Inherit(func(shimwire.Position) (Rest, error) { opened = true; return rest, nil })
					if err != nil {
						t.Error(err)
					}
					select {
					case <-p.closed:
					default:
						if !p.over {
							t.Error("the shim waits")
						}
					}
				}
				var got bytes.Buffer
				for n := 0; ; n++ {
					f, err := tail.Read()
					if n == before { // between the frame and its use, as where a client does not read
						end()
						time.Sleep(time.Minute)
					}
					if err != nil {
						t.Fatal(err)
					}
					if f.Kind == shimwire.End {
						break
					}
					got.Write(f.Data)
				}
				if !bytes.Equal(got.Bytes(), text) {
					t.Errorf("%d bytes of %d, or others", got.Len(), len(text))
				}
				tail.Close()
				if opened && !rest.closed {
					t.Error("files stay open")
				}
			})
		})
	}
}

// TestTailWaits: a client that waits for output when the run ends gets its end; one whose
// shim dies under a run that goes on is told, as is one that is closed meanwhile.
func TestTailWaits(t *testing.T) {
	const left = "and the rest"
	tests := []struct {
		name   string
		logged bool
		act    func(p *process, tail *Tail)
		text   string
		err    error
	}{
		{name: "end", act: func(p *process, tail *Tail) {
			tail.Over()
			p.frames <- data(logfile.Stdout, "text")
			p.frames <- shimwire.Frame{Kind: shimwire.End}
		}, text: "text", err: io.EOF},
		{name: "files", logged: true, act: func(p *process, tail *Tail) {
			p.frames <- data(logfile.Stdout, "text ")
			tail.Over()
			p.Close()
			synctest.Wait()
			tail.Inherit(func(shimwire.Position) (Rest, error) { return &files{text: []byte(left)}, nil })
		}, text: "text " + left, err: io.EOF},
		{name: "no files can be opened", logged: true, act: func(p *process, tail *Tail) {
			tail.Over()
			p.Close()
			tail.Inherit(func(shimwire.Position) (Rest, error) { return nil, io.ErrClosedPipe })
		}, err: io.ErrUnexpectedEOF},
		{name: "nothing but the shim", act: func(p *process, tail *Tail) {
			tail.Over()
			p.Close()
			tail.Inherit(nil)
		}, err: io.ErrUnexpectedEOF},
		{name: "death of the shim", logged: true, act: func(p *process, tail *Tail) { p.Close() }, err: io.ErrUnexpectedEOF},
		{name: "closed", logged: true, act: func(p *process, tail *Tail) {
			tail.Over()
			p.Close()
			synctest.Wait()
			tail.Close()
		}, err: io.ErrUnexpectedEOF},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newProcess()
				tail := NewTail(p, tt.logged)
				defer tail.Close()
				type result struct {
					text []byte
					err  error
				}
				done := make(chan result)
				go func() {
					var r result
					for {
						f, err := tail.Read()
						if r.text = append(r.text, f.Data...); err != nil || f.Kind == shimwire.End {
							if r.err = err; err == nil {
								r.err = io.EOF
							}
							done <- r
							return
						}
					}
				}()
				synctest.Wait()
				tt.act(p, tail)
				if r := <-done; string(r.text) != tt.text || r.err != tt.err {
					t.Errorf("%q, %v", r.text, r.err)
				}
			})
		})
	}
}
