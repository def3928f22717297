package middleware

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"maps"
	"mime"
	"net"
	"net/http"
	"net/url"
	"strings"

	"gantry/api/authorization"
	"gantry/api/errdefs"
	"gantry/router/httputil"
	"gantry/router/route"
)

const (
	// maxShownRequest bounds the bodies of requests that need to be authorized: no
	// document that a handler takes is longer.
	maxShownRequest = httputil.MaxJSON
	// maxShownAnswer bounds the answers that are shown.
	maxShownAnswer = 32 << 20
	// maxHeld is how much of an answer that is not shown is held back until it is asked for.
	maxHeld = 64 << 10
)

// Authorized is the answer to a request that has been allowed. It is held back until it
// is allowed too: at its end, or where a handler sends what there is and a connection
// leaves HTTP, before which nothing has been sent. Streams are not looked into.
//
// It is used by the handler's goroutine alone.
type Authorized struct {
	w       http.ResponseWriter
	ask     func(code int, h http.Header, body []byte) error
	secret  bool // the body is not shown
	upgrade bool // the client asks for another protocol

	header http.Header
	code   int
	body   []byte
	sent   bool  // it is allowed, and what comes goes straight on
	denied error // it is not, and nothing goes on
}

// Authorize asks whether r may be done, and returns what takes its answer.
func Authorize(ctx context.Context, asker authorization.Asker, kind route.Body, w http.ResponseWriter, r *http.Request) (*Authorized, error) {
	about, err := question(ctx, kind, r)
	if err != nil {
		return nil, err
	}
	if err := asker.Request(ctx, about); err != nil {
		return nil, err
	}
	after := context.WithoutCancel(ctx) // what has been done is told of, also when nobody waits for it
	ask := func(code int, h http.Header, body []byte) error {
		q := *about
		q.ResponseStatusCode, q.ResponseHeaders, q.ResponseBody = code, shownHeaders(h), body
		return asker.Response(after, &q)
	}
	return &Authorized{
		w: w, ask: ask, secret: kind == route.Credentials, upgrade: r.Header.Get("Upgrade") != "", header: w.Header().Clone(),
	}, nil
}

// question is what is asked about r. The URI is the one that routes are matched by, so
// that no other spelling of it passes by a rule.
func question(ctx context.Context, kind route.Body, r *http.Request) (*authorization.Request, error) {
	body, err := shownBody(kind, r)
	if err != nil {
		return nil, err
	}
	u := url.URL{Path: r.URL.Path, RawQuery: r.URL.RawQuery}
	if v, _ := ctx.Value(pathVersion{}).(string); v != "" {
		u.Path = "/v" + v + u.Path
	}
	q := &authorization.Request{
		RequestMethod: r.Method, RequestURI: u.RequestURI(), RequestBody: body, RequestHeaders: shownHeaders(r.Header),
	}
	if r.TLS == nil {
		return q, nil
	}
	for i, c := range r.TLS.PeerCertificates {
		if i == 0 {
			q.User, q.UserAuthNMethod = c.Subject.CommonName, "TLS"
		}
		q.RequestPeerCertificates = append(q.RequestPeerCertificates, authorization.Certificate{Certificate: c})
	}
	return q, nil
}

// shownBody reads the body whole and leaves it to be read again. One that is too long is
// refused, whatever its Content-Type; PermissionDenied.
func shownBody(kind route.Body, r *http.Request) ([]byte, error) {
	form := mediaType(r.Header) == "application/x-www-form-urlencoded" // values that could as well be in the query
	if r.Body == nil || r.Body == http.NoBody || kind == route.Credentials || kind == route.Upload && !form {
		return nil, nil
	}
	tooLong := errdefs.PermissionDenied("authorization: a request body of more than %d bytes cannot be shown to plugins", maxShownRequest)
	if r.ContentLength > maxShownRequest {
		return nil, tooLong
	}
	body, err := io.ReadAll(io.LimitReader(r.Body, maxShownRequest+1))
	if err != nil {
		return nil, errdefs.InvalidArgument("read request body: %w", err)
	}
	if len(body) > maxShownRequest {
		return nil, tooLong
	}
	r.Body = readAgain{bytes.NewReader(body), r.Body}
	return body, nil
}

type readAgain struct {
	io.Reader
	io.Closer
}

func mediaType(h http.Header) string {
	kind, _, _ := mime.ParseMediaType(h.Get("Content-Type"))
	return kind
}

// shownHeaders leaves out what is secret. Values of the same name stand together:
// which of them counts is the handler's business.
func shownHeaders(h http.Header) map[string]string {
	out := make(map[string]string, len(h))
	for name, values := range h {
		switch name {
		case "Authorization", "X-Registry-Config", "X-Registry-Auth":
		default:
			out[name] = strings.Join(values, ", ")
		}
	}
	return out
}

// Header is the answer's own until it is sent.
func (a *Authorized) Header() http.Header {
	if a.sent {
		return a.w.Header()
	}
	return a.header
}

func (a *Authorized) WriteHeader(code int) {
	switch {
	case a.sent:
		a.w.WriteHeader(code)
	case a.code == 0 && (code >= 200 || code == http.StatusSwitchingProtocols):
		a.code = code
	}
}

func (a *Authorized) Write(p []byte) (int, error) {
	if a.denied != nil {
		return 0, a.denied
	}
	if a.sent {
		return a.w.Write(p)
	}
	if a.code == 0 {
		a.code = http.StatusOK
	}
	shown := a.shown()
	switch {
	case shown && len(a.body)+len(p) > maxShownAnswer:
		a.denied = errdefs.Internal("authorization: an answer of more than %d bytes cannot be shown to plugins", maxShownAnswer)
		return 0, a.denied
	case !shown && len(a.body)+len(p) > maxHeld:
		if err := a.send(); err != nil {
			return 0, err
		}
		return a.w.Write(p)
	}
	a.body = append(a.body, p...)
	return len(p), nil
}

// shown says whether plugins see the body: of documents, as with dockerd.
func (a *Authorized) shown() bool { return !a.secret && mediaType(a.header) == "application/json" }

// allow asks, once.
func (a *Authorized) allow(code int) error {
	if a.sent || a.denied != nil {
		return a.denied
	}
	var body []byte
	if a.shown() {
		body = a.body
	}
	a.denied = a.ask(code, a.header, body)
	return a.denied
}

// send lets go of what has been held back, if that is allowed.
func (a *Authorized) send() error {
	if a.sent || a.denied != nil {
		return a.denied
	}
	if err := a.allow(max(a.code, http.StatusOK)); err != nil {
		return err
	}
	a.release()
	if a.code != 0 {
		a.w.WriteHeader(a.code)
	}
	body := a.body
	a.body = nil
	if len(body) == 0 {
		return nil
	}
	_, err := a.w.Write(body)
	return err
}

func (a *Authorized) release() {
	a.sent = true
	h := a.w.Header()
	clear(h)
	maps.Copy(h, a.header)
}

// Fail forgets what a handler has written before it failed, so that its error can be the
// answer; it does nothing when that has been sent.
func (a *Authorized) Fail(standing http.Header) {
	if !a.sent && a.denied == nil {
		a.body, a.code, a.header = nil, 0, standing.Clone()
	}
}

// Finish ends the answer. Its error is the refusal, told to nobody yet.
func (a *Authorized) Finish() error {
	if a.sent || a.denied != nil {
		return a.denied
	}
	if err := a.send(); a.denied != nil || err != nil {
		return a.denied // a client that has gone is nobody's failure
	}
	return nil
}

// FlushError sends what there is.
func (a *Authorized) FlushError() error {
	if err := a.send(); err != nil {
		return err
	}
	return http.NewResponseController(a.w).Flush()
}

// Flush is for those who know nothing of errors.
func (a *Authorized) Flush() { _ = a.FlushError() }

// Hijack takes the connection out of HTTP.
func (a *Authorized) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	code := http.StatusOK
	if a.upgrade {
		code = http.StatusSwitchingProtocols
	}
	if err := a.allow(code); err != nil {
		return nil, nil, err
	}
	a.release()
	if a.code == http.StatusSwitchingProtocols { // else the head is the handler's to write
		a.w.WriteHeader(a.code)
	}
	return http.NewResponseController(a.w).Hijack()
}

// Unwrap serves http.ResponseController.
func (a *Authorized) Unwrap() http.ResponseWriter { return a.w }
