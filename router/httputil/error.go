package httputil

import (
	"net/http"

	"github.com/docker/docker/api/types"

	"gantry/router/httpstatus"
)

// WriteError answers with the status and text of err. A 304 has no body.
func WriteError(w http.ResponseWriter, err error) {
	code := httpstatus.Of(err)
	w.Header().Del("Content-Encoding") // a handler may have set them for its own body
	w.Header().Del("Content-Length")
	if code == http.StatusNotModified {
		w.Header().Del("Content-Type")
		w.WriteHeader(code)
		return
	}
	_ = WriteJSON(w, code, types.ErrorResponse{Message: err.Error()}) // the client has gone: nobody to tell
}

// PageNotFound answers a path or method that no route has.
func PageNotFound(w http.ResponseWriter, _ *http.Request) {
	_ = WriteJSON(w, http.StatusNotFound, types.ErrorResponse{Message: "page not found"})
}
