package server

import (
	"net/http"

	"gantry/api/authorization"
	"gantry/router/middleware"
	"gantry/router/route"
)

func (s *Server) asker() authorization.Asker {
	if s.cfg.Authorization == nil {
		return nil
	}
	return s.cfg.Authorization()
}

// authorized lets a request be done and answered if that is allowed. An error is an
// answer like any other.
func (s *Server) authorized(asker authorization.Asker, rt route.Route, w http.ResponseWriter, r *http.Request) {
	ctx, standing := r.Context(), w.Header().Clone()
	answer, err := middleware.Authorize(ctx, asker, rt.Body, w, r)
	if err != nil {
		s.fail(ctx, w, r, err)
		return
	}
	if err := rt.Handler(ctx, answer, r); err != nil {
		answer.Fail(standing)
		s.fail(ctx, answer, r, err)
	}
	if err := answer.Finish(); err != nil {
		s.fail(ctx, w, r, err)
	}
}
