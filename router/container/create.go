package container

import (
	"context"
	"encoding/json"
	"net/http"

	"github.com/containerd/platforms"
	containertypes "github.com/docker/docker/api/types/container"
	networktypes "github.com/docker/docker/api/types/network"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	apicontainer "gantry/api/container"
	"gantry/api/errdefs"
	"gantry/api/reqctx"
	"gantry/api/rest"
	"gantry/router/httputil"
)

func (r *Router) postCreate(ctx context.Context, w http.ResponseWriter, req *http.Request) error {
	body, err := decodeCreate(req)
	if err != nil {
		return err
	}
	warnings, platform, err := r.adjust(ctx, req, body)
	if err != nil {
		return err
	}
	resp, err := r.backend.Create(ctx, apicontainer.CreateOptions{
		Name:             req.Form.Get("name"),
		Platform:         platform,
		Config:           body.Config,
		HostConfig:       body.HostConfig,
		NetworkingConfig: body.NetworkingConfig,
		Version:          reqctx.Version(ctx),
		TopReadOnly:      !rest.ReadOnlyRecursive.In(ctx),
		Warnings:         warnings,
	})
	if err != nil {
		return err
	}
	if resp.Warnings == nil {
		resp.Warnings = []string{}
	}
	return httputil.WriteJSON(w, http.StatusCreated, resp)
}

// decodeCreate returns a request whose three parts are all there.
func decodeCreate(req *http.Request) (*containertypes.CreateRequest, error) {
	if err := httputil.ParseForm(req); err != nil {
		return nil, err
	}
	if err := httputil.RequireJSON(req); err != nil {
		return nil, err
	}
	var c containertypes.CreateRequest
	if err := decodeBody(req, &c); err != nil {
		return nil, err
	}
	if c.Config == nil {
		return nil, errdefs.InvalidArgument("config cannot be empty in order to create a container")
	}
	if c.HostConfig == nil {
		c.HostConfig = &containertypes.HostConfig{}
	}
	if c.NetworkingConfig == nil {
		c.NetworkingConfig = &networktypes.NetworkingConfig{}
	}
	if c.NetworkingConfig.EndpointsConfig == nil {
		c.NetworkingConfig.EndpointsConfig = map[string]*networktypes.EndpointSettings{}
	}
	for name, ep := range c.NetworkingConfig.EndpointsConfig {
		if ep == nil {
			c.NetworkingConfig.EndpointsConfig[name] = &networktypes.EndpointSettings{}
		}
	}
	nameDefaultNetwork(c.HostConfig, c.NetworkingConfig)
	return &c, nil
}

// decodeBody refuses what would be dropped in silence else, and change what a container
// may do.
func decodeBody(req *http.Request, c *containertypes.CreateRequest) error {
	if ctx := req.Context(); !rest.Capabilities.In(ctx) || rest.NoCapabilities.In(ctx) {
		return httputil.DecodeJSON(req, c)
	}
	var raw json.RawMessage
	if err := httputil.DecodeJSON(req, &raw); err != nil {
		return err
	}
	if err := json.Unmarshal(raw, c); err != nil {
		return errdefs.InvalidArgument("invalid JSON: %w", err)
	}
	var more struct {
		HostConfig struct{ Capabilities []string }
	}
	if err := json.Unmarshal(raw, &more); err == nil && len(more.HostConfig.Capabilities) > 0 {
		return errdefs.InvalidArgument("HostConfig.Capabilities is not supported: use CapAdd and CapDrop")
	}
	return nil
}

// nameDefaultNetwork replaces "default", which names the platform's default network,
// by the bridge.
func nameDefaultNetwork(hc *containertypes.HostConfig, nc *networktypes.NetworkingConfig) {
	if hc.NetworkMode != "" && !hc.NetworkMode.IsDefault() {
		return
	}
	hc.NetworkMode = networktypes.NetworkBridge
	if ep, ok := nc.EndpointsConfig[networktypes.NetworkDefault]; ok {
		nc.EndpointsConfig[networktypes.NetworkBridge] = ep
		delete(nc.EndpointsConfig, networktypes.NetworkDefault)
	}
}

// adjust makes the request mean what its API version says.
func (r *Router) adjust(ctx context.Context, req *http.Request, c *containertypes.CreateRequest) (warnings []string, p *ocispec.Platform, err error) {
	dropNewer(ctx, c, r.cfg.CgroupV1)
	if rest.CreatePlatform.In(ctx) {
		if p, err = createPlatform(req); err != nil {
			return nil, nil, err
		}
	}
	if err := checkByVersion(ctx, c); err != nil {
		return nil, nil, err
	}
	for _, migrate := range migrations {
		warning, err := migrate(ctx, c)
		if err != nil {
			return nil, nil, err
		}
		if warning != "" {
			warnings = append(warnings, warning)
		}
	}
	if limit := c.HostConfig.PidsLimit; limit != nil && *limit <= 0 {
		c.HostConfig.PidsLimit = nil // 0 and any negative number mean unlimited
	}
	return warnings, p, nil
}

func createPlatform(req *http.Request) (*ocispec.Platform, error) {
	v := req.Form.Get("platform")
	if v == "" {
		return nil, nil
	}
	p, err := platforms.Parse(v)
	if err != nil {
		return nil, errdefs.WithClass(errdefs.ErrInvalidArgument, err)
	}
	return &p, nil
}
