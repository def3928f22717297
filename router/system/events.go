package system

import (
	"context"
	"encoding/json"
	"net/http"
	"time"

	"github.com/docker/docker/api/types/events"
	timetypes "github.com/docker/docker/api/types/time"

	"gantry/api/errdefs"
	"gantry/api/rest"
	"gantry/router/httputil"
)

func (r *Router) getEvents(ctx context.Context, w http.ResponseWriter, req *http.Request) error {
	if err := httputil.ParseForm(req); err != nil {
		return err
	}
	since, err := eventTime(req, "since")
	if err != nil {
		return err
	}
	until, err := eventTime(req, "until")
	if err != nil {
		return err
	}
	if !until.IsZero() && until.Before(since) {
		return errdefs.InvalidArgument("`since` time (%s) cannot be after `until` time (%s)", req.Form.Get("since"), req.Form.Get("until"))
	}
	f, err := httputil.Filters(req)
	if err != nil {
		return err
	}
	enc := json.NewEncoder(httputil.Flushed(w))
	open := func() error {
		w.Header().Set("Content-Type", "application/json")
		return httputil.Commit(w, http.StatusOK)
	}
	return r.backend.Events(ctx, since, until, f, open, func(ev events.Message) error {
		if ev.Type == events.ImageEventType && ev.Action == events.ActionCreate && !rest.ImageCreateEvents.In(ctx) {
			return nil
		}
		return enc.Encode(ev)
	})
}

// eventTime reads seconds since 1970 with an optional fraction; zero when absent.
func eventTime(req *http.Request, key string) (time.Time, error) {
	v := req.Form.Get(key)
	if v == "" {
		return time.Time{}, nil
	}
	sec, nano, err := timetypes.ParseTimestamps(v, -1)
	if err != nil {
		return time.Time{}, errdefs.WithClass(errdefs.ErrInvalidArgument, err)
	}
	return time.Unix(sec, nano), nil
}
