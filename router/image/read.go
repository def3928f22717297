package image

import (
	"context"
	"net/http"
	"time"

	imagetypes "github.com/docker/docker/api/types/image"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"gantry/api/errdefs"
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
	if name := req.Form.Get("filter"); name != "" && !rest.NoImageFilterParam.In(ctx) {
		f.Add("reference", name)
	}
	list, err := r.backend.List(ctx, ListOptions{
		All:        httputil.Bool(req, "all"),
		Filters:    f,
		SharedSize: rest.SharedSize.In(ctx) && httputil.Bool(req, "shared-size"),
		Manifests:  rest.ListManifests.In(ctx) && httputil.Bool(req, "manifests"),
	})
	if err != nil {
		return err
	}
	out := make([]imagetypes.Summary, 0, len(list))
	for _, img := range list {
		out = append(out, summary(ctx, *img))
	}
	return httputil.WriteJSON(w, http.StatusOK, out)
}

// summary is img as the request's version shows it.
func summary(ctx context.Context, img imagetypes.Summary) imagetypes.Summary {
	if img.RepoTags == nil {
		img.RepoTags = []string{}
	}
	if img.RepoDigests == nil {
		img.RepoDigests = []string{}
	}
	if !rest.EmptyRepoTags.In(ctx) && len(img.RepoTags) == 0 && len(img.RepoDigests) == 0 {
		img.RepoTags, img.RepoDigests = []string{"<none>:<none>"}, []string{"<none>@<none>"}
	}
	if !rest.NoVirtualSize.In(ctx) {
		img.VirtualSize = img.Size //nolint:staticcheck // served to older versions
	}
	if !rest.Descriptors.In(ctx) {
		img.Descriptor = nil
	}
	if !rest.ImageContainers.In(ctx) {
		img.Containers = -1
	}
	return img
}

func (r *Router) getInspect(ctx context.Context, w http.ResponseWriter, req *http.Request) error {
	if err := httputil.ParseForm(req); err != nil {
		return err
	}
	var o InspectOptions
	o.Manifests = rest.InspectManifests.In(ctx) && httputil.Bool(req, "manifests")
	if rest.InspectPlatform.In(ctx) {
		var err error
		if o.Platform, err = httputil.Platform(req, "platform"); err != nil {
			return err
		}
	}
	if o.Manifests && o.Platform != nil {
		return errdefs.InvalidArgument("conflicting options: manifests and platform options cannot both be set")
	}
	img, err := r.backend.Inspect(ctx, route.Var(req, "name"), o)
	if err != nil {
		return err
	}
	body, err := inspectBody(ctx, *img)
	if err != nil {
		return err
	}
	return httputil.WriteJSON(w, http.StatusOK, body)
}

// inspected is img as the request's version shows it.
func inspected(ctx context.Context, img imagetypes.InspectResponse) imagetypes.InspectResponse {
	if img.RepoTags == nil {
		img.RepoTags = []string{}
	}
	if img.RepoDigests == nil {
		img.RepoDigests = []string{}
	}
	if !rest.NoVirtualSize.In(ctx) {
		img.VirtualSize = img.Size //nolint:staticcheck // served to older versions
	}
	if !rest.CreatedOmitted.In(ctx) && img.Created == "" {
		img.Created = time.Time{}.Format(time.RFC3339Nano)
	}
	if rest.NoContainerConfig.In(ctx) {
		img.Container = ""        //nolint:staticcheck // served to older versions
		img.ContainerConfig = nil //nolint:staticcheck // served to older versions
	}
	if !rest.Descriptors.In(ctx) {
		img.Descriptor = nil
	}
	return img
}

func (r *Router) getHistory(ctx context.Context, w http.ResponseWriter, req *http.Request) error {
	if err := httputil.ParseForm(req); err != nil {
		return err
	}
	var platform *ocispec.Platform
	if rest.ImagePlatform.In(ctx) {
		var err error
		if platform, err = httputil.Platform(req, "platform"); err != nil {
			return err
		}
	}
	history, err := r.backend.History(ctx, route.Var(req, "name"), platform)
	if err != nil {
		return err
	}
	return httputil.WriteJSON(w, http.StatusOK, history)
}
