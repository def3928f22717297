package stream

import (
	"errors"
	"io"
	"sync"

	"gantry/api/shimwire"
)

// Rest is what a process has left where that outlasts its shim: in the files of its log.
type Rest interface {
	// From says after which position to begin. It comes before the first Read.
	From(pos shimwire.Position)
	// Read is as that of Process.
	Read() (shimwire.Frame, error)
	// Close may be called while Read is at work.
	Close() error
}

const (
	// aheadLogged is how many bytes are read ahead for a client that is behind, of a
	// process whose log has them too: enough for one that is only just behind.
	aheadLogged = 128 << 10
	// aheadOnly is the bound without a log. It is above what a shim can hold together
	// with the socket: half a MiB and a quarter (see shim/output.Buffer).
	aheadOnly = 1 << 20
)

// Tail is a Process that a client may read as slowly as it likes: once the process is
// over (Over), what its shim still has is read ahead, and what the client has not got by
// the time the shim goes is read from the log (Inherit). So the shim waits for nobody.
//
// Read is for one goroutine; Over and Inherit are called once each, in this order.
type Tail struct {
	Process
	logged bool

	mu      sync.Mutex
	change  *sync.Cond
	reading bool              // Read is in that of Process; guarded by mu
	over    bool              // Read keeps off Process; guarded by mu
	closed  bool              // guarded by mu
	queue   []shimwire.Frame  // read ahead; guarded by mu
	held    int               // bytes of queue; guarded by mu
	pos     shimwire.Position // after what Process gave; guarded by mu
	cause   error             // why Process gives no more: io.EOF after the end; guarded by mu
	heir    bool              // Inherit has been called; guarded by mu
	rest    Rest              // guarded by mu
	begun   bool              // rest is being read; guarded by mu
}

// placed is a Process that knows where its stream began, and leaves what it gave last to
// its reader; *shimwire.Conn is one.
type placed interface {
	Start() shimwire.Position
	Keep()
}

// NewTail returns p as a Tail, which owns it; logged says that there will be a Rest.
func NewTail(p Process, logged bool) *Tail {
	t := &Tail{Process: p, logged: logged}
	t.change = sync.NewCond(&t.mu)
	if at, ok := p.(placed); ok {
		t.pos = at.Start()
	}
	return t
}

// Over tells that the process has ended: what is there of its output is read ahead, up
// to a bound, by a goroutine that ends with it.
func (t *Tail) Over() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.over || t.closed || t.cause != nil {
		return
	}
	t.over = true
	go t.ahead()
}

// errBehind says that the client is further behind than is read ahead.
var errBehind = errors.New("client is far behind")

func (t *Tail) ahead() {
	defer t.Process.Close()
	t.mu.Lock()
	defer t.mu.Unlock()
	for t.reading {
		t.change.Wait()
	}
	if p, ok := t.Process.(placed); ok {
		p.Keep()
	}
	for t.room() {
		t.mu.Unlock()
		f, err := t.Process.Read()
		t.mu.Lock()
		if t.note(f, err); err == nil {
			t.enqueue(f)
		}
	}
	if errors.Is(t.cause, io.EOF) && t.rest != nil && !t.begun {
		t.rest.Close()
		t.rest = nil
	}
	t.change.Broadcast()
}

// room says whether to read ahead, and waits for it where there is no other way. It is
// called under mu.
func (t *Tail) room() bool {
	for t.cause == nil && !t.closed {
		switch {
		case t.logged && t.held >= aheadLogged:
			t.cause = errBehind
			return false
		case t.held < aheadOnly:
			return true
		}
		t.change.Wait()
	}
	return false
}

// note keeps where Process is. It is called under mu.
func (t *Tail) note(f shimwire.Frame, err error) {
	switch {
	case err != nil:
		t.cause = err
	case f.Kind == shimwire.End:
		t.cause = io.EOF
		t.pos = f.Pos
	default:
		t.pos = f.Pos
	}
}

// most bytes of a frame that others are joined to.
const joined = 32 << 10

// enqueue takes a copy of f. It is called under mu.
func (t *Tail) enqueue(f shimwire.Frame) {
	t.held += len(f.Data)
	if n := len(t.queue); n > 0 && f.Kind == shimwire.Data {
		if last := &t.queue[n-1]; last.Kind == f.Kind && last.Stream == f.Stream && len(last.Data)+len(f.Data) <= joined {
			last.Data = append(last.Data, f.Data...)
			last.Time, last.Pos = f.Time, f.Pos
			t.change.Broadcast()
			return
		}
	}
	f.Data = append([]byte(nil), f.Data...)
	t.queue = append(t.queue, f)
	t.change.Broadcast()
}

// Inherit tells that the shim goes. open opens what comes after a position, nil where
// there is nothing; it is called unless the client has, or will get, everything anyway.
func (t *Tail) Inherit(open func(from shimwire.Position) (Rest, error)) (err error) {
	t.mu.Lock()
	needed, pos := t.needed(), t.pos
	t.mu.Unlock()
	var rest Rest
	if needed {
		rest, err = open(pos)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.heir = true
	if rest != nil {
		if t.needed() {
			t.rest = rest
		} else {
			rest.Close()
		}
	}
	t.change.Broadcast()
	return err
}

// needed is called under mu.
func (t *Tail) needed() bool { return t.logged && !t.closed && !errors.Is(t.cause, io.EOF) }

// Read implements Process.
func (t *Tail) Read() (shimwire.Frame, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.over && t.cause == nil {
		if f, err := t.direct(); err == nil || !t.over {
			return f, err
		}
	}
	for {
		switch {
		case len(t.queue) > 0:
			return t.pop(), nil
		case t.closed:
			return shimwire.Frame{}, io.ErrUnexpectedEOF
		case t.cause == nil || t.waits():
			t.change.Wait()
		case t.rest != nil:
			return t.fromRest()
		default:
			return shimwire.Frame{}, t.cause
		}
	}
}

// waits says that there will be a Rest. It is called under mu.
func (t *Tail) waits() bool {
	return t.over && t.logged && !t.heir && !errors.Is(t.cause, io.EOF)
}

// direct reads from Process. It is called under mu, which it gives up meanwhile.
func (t *Tail) direct() (shimwire.Frame, error) {
	t.reading = true
	t.mu.Unlock()
	f, err := t.Process.Read()
	t.mu.Lock()
	t.reading = false
	t.note(f, err)
	t.change.Broadcast()
	return f, err
}

// pop is called under mu.
func (t *Tail) pop() shimwire.Frame {
	f := t.queue[0]
	t.queue[0] = shimwire.Frame{}
	t.queue = t.queue[1:]
	t.held -= len(f.Data)
	t.change.Broadcast()
	return f
}

// fromRest is called under mu, which it gives up meanwhile.
func (t *Tail) fromRest() (shimwire.Frame, error) {
	rest, pos, begun := t.rest, t.pos, t.begun
	t.begun = true
	t.mu.Unlock()
	defer t.mu.Lock()
	if !begun {
		rest.From(pos)
	}
	return rest.Read()
}

// Close implements Process.
func (t *Tail) Close() error {
	t.mu.Lock()
	rest := t.rest
	t.closed, t.rest = true, nil
	t.queue, t.held = nil, 0
	t.change.Broadcast()
	t.mu.Unlock()
	err := t.Process.Close()
	if rest != nil {
		err = errors.Join(err, rest.Close())
	}
	return err
}

// Remains is a Rest from pos on, as a Process that takes no input.
func Remains(rest Rest, pos shimwire.Position) Process {
	rest.From(pos)
	return remains{rest}
}

type remains struct{ Rest }

func (remains) Write([]byte) (int, error) { return 0, io.ErrClosedPipe }
func (remains) CloseStdin() error         { return nil }
