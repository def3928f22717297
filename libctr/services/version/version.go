// Package version serves containerd.services.version.v1.Version.
package version

import (
	"context"

	versionapi "github.com/containerd/containerd/api/services/version/v1"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/emptypb"
)

// Service is the gRPC service.
type Service struct {
	versionapi.UnimplementedVersionServer
	version, revision string
}

// serves is the containerd whose API the core has: clients compare it with what they need.
const serves = "2.4.2"

// New returns a service that answers the version and revision of a build, after that.
func New(version, revision string) *Service {
	return &Service{version: serves + "+gantry." + version, revision: revision}
}

// Register adds the service to a server.
func (s *Service) Register(r grpc.ServiceRegistrar) { versionapi.RegisterVersionServer(r, s) }

func (s *Service) Version(context.Context, *emptypb.Empty) (*versionapi.VersionResponse, error) {
	return &versionapi.VersionResponse{Version: s.version, Revision: s.revision}, nil
}
