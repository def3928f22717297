// Package httputil decodes requests and encodes answers for the routes: bounded JSON
// in Docker's words, query values by Docker's rules, progress streams and hijacked
// connections.
package httputil

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"

	"gantry/api/errdefs"
)

// MaxJSON bounds a JSON body in bytes. Nothing that Docker's clients send comes near.
const MaxJSON = 8 << 20

var errTooLarge = errors.New("http: request body too large")

// RequireJSON refuses a body whose Content-Type is not application/json. A request
// without a body needs no Content-Type.
func RequireJSON(r *http.Request) error {
	ct := r.Header.Get("Content-Type")
	if ct == "" && (r.Body == nil || r.ContentLength == 0) {
		return nil
	}
	kind, _, err := mime.ParseMediaType(ct)
	if err != nil {
		return errdefs.InvalidArgument("malformed Content-Type header (%s): %w", ct, err)
	}
	if kind != "application/json" {
		return errdefs.InvalidArgument("unsupported Content-Type header (%s): must be 'application/json'", ct)
	}
	return nil
}

// ReadJSON decodes the body into out; without a body out stays as it is. Unknown
// fields are ignored, a second value is refused; so is a query that is none.
func ReadJSON(r *http.Request, out any) error {
	if err := ParseForm(r); err != nil {
		return err
	}
	if err := RequireJSON(r); err != nil {
		return err
	}
	if r.Body == nil || r.ContentLength == 0 {
		return nil
	}
	return DecodeJSON(r, out)
}

// DecodeJSON is ReadJSON for a body that must be there, whatever its Content-Type.
// It reads the body to its end, so that the connection can be hijacked afterwards.
func DecodeJSON(r *http.Request, out any) error {
	if r.ContentLength > MaxJSON {
		return errdefs.InvalidArgument("invalid JSON: %w", errTooLarge)
	}
	dec := json.NewDecoder(&boundedReader{r: r.Body, left: MaxJSON})
	switch err := dec.Decode(out); {
	case err == io.EOF:
		return errdefs.InvalidArgument("invalid JSON: got EOF while reading request body")
	case err != nil:
		return errdefs.InvalidArgument("invalid JSON: %w", err)
	}
	switch _, err := dec.Token(); {
	case err == io.EOF:
		return nil
	case errors.Is(err, errTooLarge):
		return errdefs.InvalidArgument("invalid JSON: %w", err)
	}
	return errdefs.InvalidArgument("unexpected content after JSON")
}

// boundedReader fails, where io.LimitReader would end.
type boundedReader struct {
	r    io.Reader
	left int64
}

func (b *boundedReader) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, errTooLarge
	}
	if int64(len(p)) > b.left {
		p = p[:b.left]
	}
	n, err := b.r.Read(p)
	b.left -= int64(n)
	return n, err
}

// WriteJSON answers with v. HTML characters are left as they are.
func WriteJSON(w http.ResponseWriter, code int, v any) error {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return fmt.Errorf("write answer: %w", err)
	}
	return nil
}

// NoContent answers 204.
func NoContent(w http.ResponseWriter) error {
	w.WriteHeader(http.StatusNoContent)
	return nil
}
