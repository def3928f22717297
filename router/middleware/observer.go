package middleware

import (
	"bufio"
	"net"
	"net/http"
)

// Observer is a ResponseWriter that knows how far its answer has come. It is used by
// the handler's goroutine alone.
type Observer struct {
	http.ResponseWriter
	status   int
	hijacked bool
}

// NewObserver watches w.
func NewObserver(w http.ResponseWriter) *Observer { return &Observer{ResponseWriter: w} }

// observed finds the observer that RequestID put around the answer.
func observed(w http.ResponseWriter) *Observer {
	for {
		switch v := w.(type) {
		case *Observer:
			return v
		case interface{ Unwrap() http.ResponseWriter }:
			w = v.Unwrap()
		default:
			return NewObserver(w)
		}
	}
}

// Observed is the observer of a request's answer.
func Observed(w http.ResponseWriter) *Observer { return observed(w) }

// Status is the status sent, 200 when the handler left it to net/http, 101 for a
// hijacked connection.
func (o *Observer) Status() int {
	switch {
	case o.status != 0:
		return o.status
	case o.hijacked:
		return http.StatusSwitchingProtocols
	}
	return http.StatusOK
}

// Committed says whether the answer has begun.
func (o *Observer) Committed() bool { return o.status != 0 || o.hijacked }

// Hijacked says whether the connection has left HTTP.
func (o *Observer) Hijacked() bool { return o.hijacked }

func (o *Observer) WriteHeader(code int) {
	if o.status == 0 && code >= 200 {
		o.status = code
	}
	o.ResponseWriter.WriteHeader(code)
}

func (o *Observer) Write(p []byte) (int, error) {
	if o.status == 0 {
		o.status = http.StatusOK
	}
	return o.ResponseWriter.Write(p)
}

// Unwrap serves http.ResponseController.
func (o *Observer) Unwrap() http.ResponseWriter { return o.ResponseWriter }

// FlushError sends what is there; it commits the answer.
func (o *Observer) FlushError() error {
	if o.status == 0 {
		o.status = http.StatusOK
	}
	return http.NewResponseController(o.ResponseWriter).Flush()
}

// Hijack takes the connection out of HTTP.
func (o *Observer) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	c, buf, err := http.NewResponseController(o.ResponseWriter).Hijack()
	if err == nil {
		o.hijacked = true
	}
	return c, buf, err
}
