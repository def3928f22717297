package system

import (
	"context"
	"encoding/json"
	"net/http"

	"github.com/docker/docker/api/types/registry"
	systemtypes "github.com/docker/docker/api/types/system"

	"gantry/api/rest"
	"gantry/router/httputil"
)

func (r *Router) getVersion(ctx context.Context, w http.ResponseWriter, _ *http.Request) error {
	v, err := r.backend.Version(ctx)
	if err != nil {
		return err
	}
	return httputil.WriteJSON(w, http.StatusOK, v)
}

func (r *Router) getInfo(ctx context.Context, w http.ResponseWriter, _ *http.Request) error {
	info, err := r.backend.Info(ctx)
	if err != nil {
		return err
	}
	old := older{Info: forVersion(ctx, *info)}
	if !rest.NoBridgeNf.In(ctx) {
		no := false // always, where they are shown at all
		old.BridgeNfIptables, old.BridgeNfIP6tables = &no, &no
	}
	return httputil.WriteJSON(w, http.StatusOK, old)
}

// older adds fields that Docker's type has no more.
type older struct {
	systemtypes.Info
	BridgeNfIptables  *bool `json:"BridgeNfIptables,omitempty"`
	BridgeNfIP6tables *bool `json:"BridgeNfIp6tables,omitempty"`
}

// forVersion is info as the request's version shows it. What info points to is
// shared, so it is replaced and not changed.
func forVersion(ctx context.Context, info systemtypes.Info) systemtypes.Info {
	if !rest.SecurityOptionPairs.In(ctx) {
		info.SecurityOptions = securityNames(&info)
	}
	if !rest.EmptyUnknown.In(ctx) {
		info.KernelVersion = orUnknown(info.KernelVersion)
		info.OperatingSystem = orUnknown(info.OperatingSystem)
	}
	if rest.NoKernelMemory.In(ctx) {
		info.KernelMemory = false //nolint:staticcheck // served to older versions
	}
	if !rest.RuntimeStatus.In(ctx) {
		info.Runtimes = withoutStatus(info.Runtimes)
	}
	if !rest.ContainerdInfo.In(ctx) {
		info.Containerd = nil
	}
	if !rest.NoNondistributable.In(ctx) && info.RegistryConfig != nil {
		info.RegistryConfig = withNondistributable(*info.RegistryConfig)
	}
	if !rest.FirewallBackend.In(ctx) {
		info.FirewallBackend = nil
	}
	if !rest.NoExpectedCommits.In(ctx) {
		for _, c := range []*systemtypes.Commit{&info.ContainerdCommit, &info.RuncCommit, &info.InitCommit} {
			c.Expected = c.ID //nolint:staticcheck // served to older versions
		}
	}
	if !rest.DiscoveredDevices.In(ctx) {
		info.DiscoveredDevices = nil
	}
	return info
}

func securityNames(info *systemtypes.Info) []string {
	opts, err := systemtypes.DecodeSecurityOptions(info.SecurityOptions)
	if err != nil {
		info.Warnings = append(info.Warnings[:len(info.Warnings):len(info.Warnings)], err.Error())
	}
	var names []string
	for _, o := range opts {
		names = append(names, o.Name)
	}
	return names
}

func orUnknown(s string) string {
	if s == "" {
		return "<unknown>"
	}
	return s
}

func withoutStatus(in map[string]systemtypes.RuntimeWithStatus) map[string]systemtypes.RuntimeWithStatus {
	out := make(map[string]systemtypes.RuntimeWithStatus, len(in))
	for name, rt := range in {
		out[name] = systemtypes.RuntimeWithStatus{Runtime: rt.Runtime}
	}
	return out
}

func withNondistributable(c registry.ServiceConfig) *registry.ServiceConfig {
	c.ExtraFields = map[string]any{
		"AllowNondistributableArtifactsCIDRs":     json.RawMessage(nil),
		"AllowNondistributableArtifactsHostnames": json.RawMessage(nil),
	}
	return &c
}
