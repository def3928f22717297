package container

import (
	"context"
	"net/http"
	"slices"

	containertypes "github.com/docker/docker/api/types/container"

	"gantry/api/rest"
	"gantry/router/httputil"
	"gantry/router/route"
)

func (r *Router) getList(ctx context.Context, w http.ResponseWriter, req *http.Request) error {
	if err := httputil.ParseForm(req); err != nil {
		return err
	}
	f, err := httputil.Filters(req)
	if err != nil {
		return err
	}
	limit, _, err := httputil.Int(req, "limit")
	if err != nil {
		return err
	}
	list, err := r.backend.List(ctx, containertypes.ListOptions{
		All:     httputil.Bool(req, "all"),
		Size:    httputil.Bool(req, "size"),
		Since:   req.Form.Get("since"),
		Before:  req.Form.Get("before"),
		Limit:   limit,
		Filters: f,
	})
	if err != nil {
		return err
	}
	if list == nil {
		list = []containertypes.Summary{}
	}
	for i := range list {
		if !rest.ListAnnotations.In(ctx) {
			list[i].HostConfig.Annotations = nil
		}
		if !rest.Descriptors.In(ctx) {
			list[i].ImageManifestDescriptor = nil
		}
	}
	return httputil.WriteJSON(w, http.StatusOK, list)
}

func (r *Router) getInspect(ctx context.Context, w http.ResponseWriter, req *http.Request) error {
	if err := httputil.ParseForm(req); err != nil {
		return err
	}
	c, err := r.backend.Inspect(ctx, route.Var(req, "name"), httputil.Bool(req, "size"))
	if err != nil {
		return err
	}
	if !rest.PlainAliases.In(ctx) {
		addAliases(&c)
	}
	if !rest.Descriptors.In(ctx) {
		c.ImageManifestDescriptor = nil
	}
	return httputil.WriteJSON(w, http.StatusOK, c)
}

const shortID = 12

// addAliases gives the endpoints of user-defined networks the short id and the host
// name as aliases, on copies: what the backend returned is a shared snapshot.
func addAliases(c *containertypes.InspectResponse) {
	if c.NetworkSettings == nil || c.ContainerJSONBase == nil || c.Config == nil {
		return
	}
	settings := *c.NetworkSettings
	settings.Networks = cloneEndpoints(settings.Networks)
	for name, ep := range settings.Networks {
		if ep == nil || !containertypes.NetworkMode(name).IsUserDefined() {
			continue
		}
		aliases := slices.Clone(ep.Aliases)
		for _, a := range []string{c.ID[:min(shortID, len(c.ID))], c.Config.Hostname} {
			if !slices.Contains(aliases, a) {
				aliases = append(aliases, a)
			}
		}
		ep.Aliases = aliases
	}
	c.NetworkSettings = &settings
}

func (r *Router) getTop(ctx context.Context, w http.ResponseWriter, req *http.Request) error {
	if err := httputil.ParseForm(req); err != nil {
		return err
	}
	top, err := r.backend.Top(ctx, route.Var(req, "name"), req.Form.Get("ps_args"))
	if err != nil {
		return err
	}
	return httputil.WriteJSON(w, http.StatusOK, top)
}

func (r *Router) getChanges(ctx context.Context, w http.ResponseWriter, req *http.Request) error {
	changes, err := r.backend.Changes(ctx, route.Var(req, "name"))
	if err != nil {
		return err
	}
	return httputil.WriteJSON(w, http.StatusOK, changes)
}

func (r *Router) getStats(ctx context.Context, w http.ResponseWriter, req *http.Request) error {
	if err := httputil.ParseForm(req); err != nil {
		return err
	}
	stream := httputil.BoolOr(req, "stream", true)
	oneShot := rest.StatsOneShot.In(ctx) && httputil.Bool(req, "one-shot")
	return r.backend.Stats(ctx, route.Var(req, "name"), stream, oneShot, statsEmitter(w))
}
