package server

import (
	"context"
	"net/http"

	"gantry/router/httpstatus"
	"gantry/router/httputil"
	"gantry/router/middleware"
)

// fail writes the error of a handler. An answer that has begun cannot become an error
// any more: its connection is broken off.
func (s *Server) fail(ctx context.Context, w http.ResponseWriter, r *http.Request, err error) {
	o := middleware.Observed(w)
	if o.Committed() {
		s.cfg.Log.DebugContext(ctx, "answer broken off", "method", r.Method, "uri", r.RequestURI, "err", err)
		if !o.Hijacked() {
			panic(http.ErrAbortHandler)
		}
		return
	}
	if httpstatus.Of(err) == http.StatusInternalServerError && !httpstatus.Cancelled(err) {
		s.cfg.Log.ErrorContext(ctx, "request failed", "method", r.Method, "uri", r.RequestURI, "err", err)
	}
	httputil.WriteError(w, err)
}
