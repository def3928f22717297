package httputil

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/docker/docker/pkg/jsonmessage"
)

// ProgressStream answers with JSON objects, one after another, each flushed. Emit
// satisfies api/image.Progress. It is safe for concurrent use.
type ProgressStream struct {
	w    http.ResponseWriter
	body io.Reader

	mu      sync.Mutex
	started bool  // guarded by mu
	broken  error // guarded by mu; the first failed write
}

// NewProgressStream returns a stream on w, the answer to r. Nothing is written before the
// first Emit. The request's body may be read on while objects are written, until Finish:
// net/http would otherwise throw away what is not read yet at the first of them.
func NewProgressStream(w http.ResponseWriter, r *http.Request) *ProgressStream {
	_ = http.NewResponseController(w).EnableFullDuplex() // HTTP/2 is so anyway, and cannot be told
	return &ProgressStream{w: w, body: r.Body}
}

// What is left of a body when the work is done, as the padding of a tar, is read so far
// and so long.
const (
	maxRest  = 1 << 20
	restTime = time.Second
)

// drain reads the body to its end, since net/http, left to do so, breaks the connection
// off afterwards: it takes its own look at the connection for somebody else's.
func (p *ProgressStream) drain() {
	c := http.NewResponseController(p.w)
	if err := c.SetReadDeadline(time.Now().Add(restTime)); err != nil {
		return // no connection
	}
	_, _ = io.CopyN(io.Discard, p.body, maxRest) // however it ends, there is no more to do
	_ = c.SetReadDeadline(time.Time{})           // as above
}

// Emit writes one object; the first one commits the 200. Its error means that the
// client has gone.
func (p *ProgressStream) Emit(m jsonmessage.JSONMessage) error {
	if m.Progress != nil && m.ProgressMessage == "" { //nolint:staticcheck // deprecated, still served by the reference
		m.ProgressMessage = m.Progress.String() //nolint:staticcheck // see above
	}
	if m.Error != nil && m.ErrorMessage == "" { //nolint:staticcheck // see above
		m.ErrorMessage = m.Error.Message //nolint:staticcheck // see above
	}
	line, err := json.Marshal(m)
	if err != nil {
		return err
	}
	return p.write(append(line, '\r', '\n'))
}

func (p *ProgressStream) write(line []byte) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.broken != nil {
		return p.broken
	}
	if !p.started {
		p.w.Header().Set("Content-Type", "application/json")
		p.started = true
	}
	if _, err := p.w.Write(line); err != nil {
		p.broken = err
		return err
	}
	p.broken = http.NewResponseController(p.w).Flush()
	return p.broken
}

// Finish ends the stream with the result of the work: before the first object an
// error is returned, to become the status; after it, it becomes an errorDetail object.
func (p *ProgressStream) Finish(err error) error {
	if err != nil && !p.begun() {
		p.drain()
		return err
	}
	return p.FinishInBand(err)
}

// FinishInBand is Finish for the routes that report every error of the work inside
// the stream.
func (p *ProgressStream) FinishInBand(err error) error {
	defer p.drain()
	if err == nil {
		if !p.begun() {
			p.w.Header().Set("Content-Type", "application/json")
		}
		return nil
	}
	detail := &jsonmessage.JSONError{Message: err.Error()}
	var known *jsonmessage.JSONError
	if errors.As(err, &known) {
		detail = known
	}
	_ = p.Emit(jsonmessage.JSONMessage{Error: detail}) // the client has gone: nobody to tell
	return nil
}

func (p *ProgressStream) begun() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.started
}

// Flushed returns a writer to the answer that flushes after each write.
func Flushed(w http.ResponseWriter) io.Writer { return flushed{w, http.NewResponseController(w)} }

type flushed struct {
	w http.ResponseWriter
	c *http.ResponseController
}

func (f flushed) Write(p []byte) (int, error) {
	n, err := f.w.Write(p)
	if err != nil {
		return n, err
	}
	return n, f.c.Flush()
}

// Commit sends the status and headers of the answer at once, before any body.
func Commit(w http.ResponseWriter, code int) error {
	w.WriteHeader(code)
	return http.NewResponseController(w).Flush()
}
