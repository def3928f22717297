// Package diff serves containerd.services.diff.v1 on a diff.Applier and a diff.Comparer.
package diff

import (
	"context"

	api "github.com/containerd/containerd/api/services/diff/v1"
	"google.golang.org/grpc"

	"gantry/api/rpcstatus"
	"gantry/libctr/core/diff"
	"gantry/libctr/core/wire"
)

// Service adapts the two.
type Service struct {
	api.UnimplementedDiffServer
	applier  diff.Applier
	comparer diff.Comparer
}

// New returns the service.
func New(a diff.Applier, c diff.Comparer) *Service { return &Service{applier: a, comparer: c} }

// Register adds the service to a server.
func (s *Service) Register(r grpc.ServiceRegistrar) { api.RegisterDiffServer(r, s) }

func (s *Service) Apply(ctx context.Context, r *api.ApplyRequest) (*api.ApplyResponse, error) {
	o := diff.ApplyOptions{SyncFS: r.GetSyncFs()}
	for id, p := range r.GetPayloads() {
		if o.Payloads == nil {
			o.Payloads = make(map[string]diff.Payload)
		}
		o.Payloads[id] = diff.Payload{TypeURL: p.GetTypeUrl(), Value: p.GetValue()}
	}
	applied, err := s.applier.Apply(ctx, wire.FromDescriptor(r.GetDiff()), wire.FromMounts(r.GetMounts()), o)
	if err != nil {
		return nil, rpcstatus.To(err)
	}
	return &api.ApplyResponse{Applied: wire.Descriptor(applied)}, nil
}

func (s *Service) Diff(ctx context.Context, r *api.DiffRequest) (*api.DiffResponse, error) {
	o := diff.CompareOptions{MediaType: r.GetMediaType(), Reference: r.GetRef(), Labels: r.GetLabels()}
	if e := r.GetSourceDateEpoch(); e != nil {
		t := e.AsTime()
		o.SourceDateEpoch = &t
	}
	d, err := s.comparer.Compare(ctx, wire.FromMounts(r.GetLeft()), wire.FromMounts(r.GetRight()), o)
	if err != nil {
		return nil, rpcstatus.To(err)
	}
	return &api.DiffResponse{Diff: wire.Descriptor(d)}, nil
}
