// Package introspection serves containerd.services.introspection.v1.Introspection:
// what the core is and which plugins it has.
//
// The core's identity is a random UUID in the file <root>/<plugin>/uuid, text,
// made when first asked for.
package introspection

import (
	"context"

	introspectionapi "github.com/containerd/containerd/api/services/introspection/v1"
	"github.com/containerd/containerd/api/types"
	"github.com/containerd/plugin"
	"github.com/containerd/typeurl/v2"
	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"

	"gantry/api/errdefs"
	"gantry/api/rpcstatus"
	"gantry/libctr/core/wire"
	"gantry/libctr/filter"
)

// Runtimes tells about shim binaries.
type Runtimes interface {
	// Info answers what the shim of a runtime, a name or an absolute path, says
	// about itself.
	Info(ctx context.Context, runtime string, options typeurl.Any) (*types.RuntimeInfo, error)
}

// Config is what the service tells about.
type Config struct {
	// Dir is the service's own directory under the core's root.
	Dir string
	// Plugins lists the plugins in the order of their initialisation.
	Plugins func() []*plugin.Plugin
	// Runtimes answers PluginInfo for runtime plugins; nil when there are none.
	Runtimes Runtimes
}

// Service is the gRPC service. Safe for concurrent use.
type Service struct {
	introspectionapi.UnimplementedIntrospectionServer
	cfg      Config
	identity identity
}

// New returns the service.
func New(cfg Config) *Service { return &Service{cfg: cfg, identity: identity{dir: cfg.Dir}} }

// Register adds the service to a server.
func (s *Service) Register(r grpc.ServiceRegistrar) {
	introspectionapi.RegisterIntrospectionServer(r, s)
}

// Server answers who this is.
func (s *Service) Server(context.Context, *emptypb.Empty) (*introspectionapi.ServerResponse, error) {
	return s.identity.describe()
}

// Plugins lists the plugins that one of the filters matches, by type, id,
// platforms and capabilities, with the error of those that failed.
func (s *Service) Plugins(_ context.Context, r *introspectionapi.PluginsRequest) (*introspectionapi.PluginsResponse, error) {
	f, err := filter.Parse(r.GetFilters()...)
	if err != nil {
		return nil, err
	}
	resp := &introspectionapi.PluginsResponse{}
	for _, p := range s.cfg.Plugins() {
		if pb := pluginToProto(p); f.Match(pluginFields(pb)) {
			resp.Plugins = append(resp.Plugins, pb)
		}
	}
	return resp, nil
}

// PluginInfo describes one plugin; for the runtime plugin the options, a
// RuntimeRequest, name a runtime, and extra is what its shim says.
func (s *Service) PluginInfo(ctx context.Context, r *introspectionapi.PluginInfoRequest) (*introspectionapi.PluginInfoResponse, error) {
	p := s.find(r.GetType(), r.GetID())
	if p == nil {
		return nil, errdefs.NotFound("plugin %s.%s not found: not found", r.GetType(), r.GetID())
	}
	resp := &introspectionapi.PluginInfoResponse{Plugin: pluginToProto(p)}
	if r.GetOptions() == nil {
		return resp, nil
	}
	if s.cfg.Runtimes == nil || !typeurl.Is(r.GetOptions(), &types.RuntimeRequest{}) {
		return nil, errdefs.NotImplemented("plugin %s.%s takes no options", r.GetType(), r.GetID())
	}
	info, err := s.runtimeInfo(ctx, r.GetOptions())
	if err != nil {
		return nil, err
	}
	extra, err := typeurl.MarshalAny(info)
	if err != nil {
		return nil, err
	}
	resp.Extra = wire.Any(extra)
	return resp, nil
}

func (s *Service) runtimeInfo(ctx context.Context, options typeurl.Any) (*types.RuntimeInfo, error) {
	var req types.RuntimeRequest
	if err := typeurl.UnmarshalTo(options, &req); err != nil {
		return nil, errdefs.InvalidArgument("runtime request: %w", err)
	}
	var opts typeurl.Any
	if o := req.GetOptions(); o != nil {
		opts = o
	}
	return s.cfg.Runtimes.Info(ctx, req.GetRuntimePath(), opts)
}

func (s *Service) find(typ, id string) *plugin.Plugin {
	for _, p := range s.cfg.Plugins() {
		if p.Registration.Type.String() == typ && p.Registration.ID == id {
			return p
		}
	}
	return nil
}

func pluginToProto(p *plugin.Plugin) *introspectionapi.Plugin {
	pb := &introspectionapi.Plugin{
		Type:         p.Registration.Type.String(),
		ID:           p.Registration.ID,
		Exports:      p.Meta.Exports,
		Capabilities: p.Meta.Capabilities,
		InitErr:      initError(p),
	}
	for _, t := range p.Registration.Requires {
		pb.Requires = append(pb.Requires, t.String())
	}
	for _, pf := range p.Meta.Platforms {
		pb.Platforms = append(pb.Platforms, &types.Platform{
			OS: pf.OS, Architecture: pf.Architecture, Variant: pf.Variant, OSVersion: pf.OSVersion})
	}
	return pb
}

func initError(p *plugin.Plugin) *spb.Status {
	st, ok := status.FromError(rpcstatus.To(p.Err()))
	if !ok || p.Err() == nil {
		return nil
	}
	return st.Proto()
}

func pluginFields(p *introspectionapi.Plugin) filter.Fields {
	return func(path []string) (string, bool) {
		if len(path) == 0 {
			return "", false
		}
		switch path[0] {
		case "type":
			return p.GetType(), p.GetType() != ""
		case "id":
			return p.GetID(), p.GetID() != ""
		}
		return "", false
	}
}
