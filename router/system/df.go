package system

import (
	"context"
	"net/http"
	"slices"

	"github.com/docker/docker/api/types"
	"github.com/docker/docker/api/types/build"
	imagetypes "github.com/docker/docker/api/types/image"

	"gantry/api/errdefs"
	"gantry/api/rest"
	"gantry/router/httputil"
)

var allKinds = []types.DiskUsageObject{types.ContainerObject, types.ImageObject, types.VolumeObject, types.BuildCacheObject}

func (r *Router) getDiskUsage(ctx context.Context, w http.ResponseWriter, req *http.Request) error {
	kinds, err := diskUsageKinds(ctx, req)
	if err != nil {
		return err
	}
	usage, err := r.backend.DiskUsage(ctx, kinds)
	if err != nil {
		return err
	}
	out := *usage
	if slices.Contains(kinds, types.BuildCacheObject) {
		out.BuildCache = buildCache(ctx, out.BuildCache)
		if !rest.BuildCacheParents.In(ctx) {
			for _, rec := range out.BuildCache {
				out.BuilderSize += rec.Size
			}
		}
	}
	if !rest.NoVirtualSize.In(ctx) {
		out.Images = withVirtualSize(out.Images)
	}
	return httputil.WriteJSON(w, http.StatusOK, out)
}

func diskUsageKinds(ctx context.Context, req *http.Request) ([]types.DiskUsageObject, error) {
	if err := httputil.ParseForm(req); err != nil {
		return nil, err
	}
	names, given := req.Form["type"]
	if !given || !rest.DiskUsageTypes.In(ctx) {
		return allKinds, nil
	}
	var kinds []types.DiskUsageObject
	for _, name := range names {
		kind := types.DiskUsageObject(name)
		if !slices.Contains(allKinds, kind) {
			return nil, errdefs.InvalidArgument("unknown object type: %s", name)
		}
		kinds = append(kinds, kind)
	}
	return kinds, nil
}

// buildCache shows the parent of a record in the field that the version has for it.
func buildCache(ctx context.Context, in []*build.CacheRecord) []*build.CacheRecord {
	out := make([]*build.CacheRecord, 0, len(in))
	for _, rec := range in {
		c := *rec
		if rest.BuildCacheParents.In(ctx) {
			c.Parent = "" //nolint:staticcheck // served to older versions
		} else {
			c.Parents = nil
		}
		out = append(out, &c)
	}
	return out
}

func withVirtualSize(in []*imagetypes.Summary) []*imagetypes.Summary {
	if in == nil {
		return nil
	}
	out := make([]*imagetypes.Summary, 0, len(in))
	for _, img := range in {
		c := *img
		c.VirtualSize = c.Size //nolint:staticcheck // served to older versions
		out = append(out, &c)
	}
	return out
}
