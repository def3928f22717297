// Package route is one row of the API: method, path, handler, and how long its work
// may last. Each resource states its rows in one table; router/server serves them.
package route

import (
	"context"
	"net/http"

	"github.com/gorilla/mux"
)

// Handler answers one request. An error becomes the answer's status and body; one
// returned after the answer has begun breaks the connection off, so that the client
// does not take a part for the whole.
type Handler func(ctx context.Context, w http.ResponseWriter, r *http.Request) error

// Life says what ends a handler's context.
type Life int

const (
	// Request ends when the client goes away.
	Request Life = iota
	// Detached goes on to its end: what changes state (start, stop, remove) is not
	// cancelled half way.
	Detached
	// Stream ends when the client goes away and when the server begins to stop.
	Stream
	// Hijack ends when the server begins to stop. Whether the client has gone is for
	// the upgraded stream to notice: to net/http a client that closes its half before
	// the answer, having nothing to send, looks gone.
	Hijack
)

// Body says what a request's body is, for those who are asked whether the request may
// be done.
type Body int

const (
	// Document is read whole by the handler, and shown whole.
	Document Body = iota
	// Upload is a stream of files, which is not shown.
	Upload
	// Credentials are not shown; nor is the answer to them.
	Credentials
)

// Route is one row. Path is a gorilla/mux template without the version; it is served
// with and without one.
type Route struct {
	Method  string
	Path    string
	Handler Handler
	Life    Life
	Body    Body
	// Experimental rows are served when the engine runs with its experimental features.
	Experimental bool
}

// Resource gives the rows of one resource.
type Resource interface {
	Routes() []Route
}

// Var returns a variable of the path, "" when the template has none of that name.
func Var(r *http.Request, name string) string { return mux.Vars(r)[name] }
