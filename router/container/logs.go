package container

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/docker/docker/api/types"
	containertypes "github.com/docker/docker/api/types/container"

	apicontainer "gantry/api/container"
	"gantry/api/errdefs"
	"gantry/api/rest"
	"gantry/router/httputil"
	"gantry/router/route"
)

func (r *Router) getLogs(ctx context.Context, w http.ResponseWriter, req *http.Request) error {
	if err := httputil.ParseForm(req); err != nil {
		return err
	}
	o := containertypes.LogsOptions{
		ShowStdout: httputil.Bool(req, "stdout"),
		ShowStderr: httputil.Bool(req, "stderr"),
		Since:      req.Form.Get("since"),
		Until:      req.Form.Get("until"),
		Timestamps: httputil.Bool(req, "timestamps"),
		Follow:     httputil.Bool(req, "follow"),
		Tail:       req.Form.Get("tail"),
		Details:    httputil.Bool(req, "details"),
	}
	if !o.ShowStdout && !o.ShowStderr {
		return errdefs.InvalidArgument("Bad parameters: you must choose at least one stream")
	}
	out := &logStream{ctx: ctx, w: w, follow: o.Follow}
	return out.finish(r.backend.Logs(ctx, route.Var(req, "name"), apicontainer.LogsOptions{LogsOptions: o, Open: out.open}))
}

// logStream is the body of a logs answer.
type logStream struct {
	ctx    context.Context
	w      http.ResponseWriter
	follow bool      // flush each write; else when the buffer is full
	errors io.Writer // where errors go once the body has begun; nil before
}

// open commits the answer, so that a client that follows sees it at once.
func (s *logStream) open(tty bool) (stdout, stderr io.Writer, err error) {
	framed := !tty
	kind := types.MediaTypeRawStream
	if framed && rest.StreamMediaTypes.In(s.ctx) {
		kind = types.MediaTypeMultiplexedStream
	}
	s.w.Header().Set("Content-Type", kind)
	if err := httputil.Commit(s.w, http.StatusOK); err != nil {
		return nil, nil, err
	}
	body := io.Writer(s.w)
	if s.follow {
		body = httputil.Flushed(s.w)
	}
	if !framed {
		s.errors = body
		return body, body, nil
	}
	frames := rest.NewFramer(body)
	s.errors = frames.Stream(rest.SystemErr)
	return frames.Stream(rest.Stdout), frames.Stream(rest.Stderr), nil
}

// finish reports an error inside the body once that has begun.
func (s *logStream) finish(err error) error {
	if err == nil || s.errors == nil {
		return err
	}
	if s.ctx.Err() != nil || errors.Is(err, context.Canceled) {
		return nil
	}
	_, _ = fmt.Fprintf(s.errors, "Error grabbing logs: %v\n", err) // the client has gone: nobody to tell
	return nil
}
