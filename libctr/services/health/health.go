// Package health serves grpc.health.v1.Health for the core as a whole.
package health

import (
	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthapi "google.golang.org/grpc/health/grpc_health_v1"
)

// Service is the gRPC service; it says "not serving" until told otherwise.
type Service struct{ server *health.Server }

// New returns the service.
func New() *Service {
	s := &Service{server: health.NewServer()}
	s.Set(false)
	return s
}

// Register adds the service to a server.
func (s *Service) Register(r grpc.ServiceRegistrar) { healthapi.RegisterHealthServer(r, s.server) }

// Set says whether the core serves.
func (s *Service) Set(serving bool) {
	status := healthapi.HealthCheckResponse_NOT_SERVING
	if serving {
		status = healthapi.HealthCheckResponse_SERVING
	}
	s.server.SetServingStatus("", status)
}

// Stop says "not serving" to whoever watches, for good.
func (s *Service) Stop() { s.server.Shutdown() }
