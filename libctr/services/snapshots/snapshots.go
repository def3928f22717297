// Package snapshots serves containerd.services.snapshots.v1 on snapshotters by name.
package snapshots

import (
	"context"
	"log/slog"

	containerdevents "github.com/containerd/containerd/api/events"
	api "github.com/containerd/containerd/api/services/snapshots/v1"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/emptypb"

	"gantry/api/errdefs"
	"gantry/api/rpcstatus"
	"gantry/libctr/core/event"
	"gantry/libctr/core/snapshot"
	"gantry/libctr/core/wire"
	"gantry/libctr/services/notify"
)

// page is how many snapshots one message of List carries.
const page = 100

// Service adapts snapshotters. Events: /snapshot/prepare (not of views), commit, remove.
type Service struct {
	api.UnimplementedSnapshotsServer
	snapshotters map[string]snapshot.Snapshotter // not changed after New
	notify       notify.Publisher
}

// New returns the service; events and log may be nil.
func New(snapshotters map[string]snapshot.Snapshotter, events event.Publisher, log *slog.Logger) *Service {
	return &Service{snapshotters: snapshotters, notify: notify.Publisher{Events: events, Log: log}}
}

// Register adds the service to a server.
func (s *Service) Register(r grpc.ServiceRegistrar) { api.RegisterSnapshotsServer(r, s) }

func (s *Service) get(name string) (snapshot.Snapshotter, error) {
	if name == "" {
		return nil, rpcstatus.To(errdefs.InvalidArgument("snapshotter argument missing: invalid argument"))
	}
	sn := s.snapshotters[name]
	if sn == nil {
		return nil, rpcstatus.To(errdefs.InvalidArgument("snapshotter not loaded: %s: invalid argument", name))
	}
	return sn, nil
}

func (s *Service) Prepare(ctx context.Context, r *api.PrepareSnapshotRequest) (*api.PrepareSnapshotResponse, error) {
	sn, err := s.get(r.GetSnapshotter())
	if err != nil {
		return nil, err
	}
	mounts, err := sn.Prepare(ctx, r.GetKey(), r.GetParent(), r.GetLabels())
	if err != nil {
		return nil, rpcstatus.To(err)
	}
	s.notify.Publish(ctx, "/snapshot/prepare", &containerdevents.SnapshotPrepare{
		Key: r.GetKey(), Parent: r.GetParent(), Snapshotter: r.GetSnapshotter(),
	})
	return &api.PrepareSnapshotResponse{Mounts: wire.Mounts(mounts)}, nil
}

func (s *Service) View(ctx context.Context, r *api.ViewSnapshotRequest) (*api.ViewSnapshotResponse, error) {
	sn, err := s.get(r.GetSnapshotter())
	if err != nil {
		return nil, err
	}
	mounts, err := sn.View(ctx, r.GetKey(), r.GetParent(), r.GetLabels())
	if err != nil {
		return nil, rpcstatus.To(err)
	}
	return &api.ViewSnapshotResponse{Mounts: wire.Mounts(mounts)}, nil
}

func (s *Service) Mounts(ctx context.Context, r *api.MountsRequest) (*api.MountsResponse, error) {
	sn, err := s.get(r.GetSnapshotter())
	if err != nil {
		return nil, err
	}
	mounts, err := sn.Mounts(ctx, r.GetKey())
	if err != nil {
		return nil, rpcstatus.To(err)
	}
	return &api.MountsResponse{Mounts: wire.Mounts(mounts)}, nil
}

// Commit puts a snapshot without a parent onto the one that the request names.
func (s *Service) Commit(ctx context.Context, r *api.CommitSnapshotRequest) (*emptypb.Empty, error) {
	sn, err := s.get(r.GetSnapshotter())
	if err != nil {
		return nil, err
	}
	if err := commit(ctx, sn, r); err != nil {
		return nil, rpcstatus.To(err)
	}
	s.notify.Publish(ctx, "/snapshot/commit", &containerdevents.SnapshotCommit{
		Key: r.GetKey(), Name: r.GetName(), Snapshotter: r.GetSnapshotter(),
	})
	return &emptypb.Empty{}, nil
}

func commit(ctx context.Context, sn snapshot.Snapshotter, r *api.CommitSnapshotRequest) error {
	if r.GetParent() == "" {
		return sn.Commit(ctx, r.GetName(), r.GetKey(), r.GetLabels())
	}
	rebaser, ok := sn.(snapshot.Rebaser)
	if !ok {
		return errdefs.NotImplemented("snapshotter %s can't put a snapshot onto a parent when it is committed", r.GetSnapshotter())
	}
	return rebaser.CommitOnto(ctx, r.GetName(), r.GetKey(), r.GetParent(), r.GetLabels())
}

func (s *Service) Remove(ctx context.Context, r *api.RemoveSnapshotRequest) (*emptypb.Empty, error) {
	sn, err := s.get(r.GetSnapshotter())
	if err != nil {
		return nil, err
	}
	if err := sn.Remove(ctx, r.GetKey()); err != nil {
		return nil, rpcstatus.To(err)
	}
	s.notify.Publish(ctx, "/snapshot/remove", &containerdevents.SnapshotRemove{
		Key: r.GetKey(), Snapshotter: r.GetSnapshotter(),
	})
	return &emptypb.Empty{}, nil
}

func (s *Service) Stat(ctx context.Context, r *api.StatSnapshotRequest) (*api.StatSnapshotResponse, error) {
	sn, err := s.get(r.GetSnapshotter())
	if err != nil {
		return nil, err
	}
	info, err := sn.Stat(ctx, r.GetKey())
	if err != nil {
		return nil, rpcstatus.To(err)
	}
	return &api.StatSnapshotResponse{Info: wire.SnapshotInfo(info)}, nil
}

func (s *Service) Update(ctx context.Context, r *api.UpdateSnapshotRequest) (*api.UpdateSnapshotResponse, error) {
	sn, err := s.get(r.GetSnapshotter())
	if err != nil {
		return nil, err
	}
	info, err := sn.Update(ctx, wire.FromSnapshotInfo(r.GetInfo()), r.GetUpdateMask().GetPaths()...)
	if err != nil {
		return nil, rpcstatus.To(err)
	}
	return &api.UpdateSnapshotResponse{Info: wire.SnapshotInfo(info)}, nil
}

func (s *Service) List(r *api.ListSnapshotsRequest, stream api.Snapshots_ListServer) error {
	sn, err := s.get(r.GetSnapshotter())
	if err != nil {
		return err
	}
	var batch []*api.Info
	flush := func() error {
		if len(batch) == 0 {
			return nil
		}
		err := stream.Send(&api.ListSnapshotsResponse{Info: batch})
		batch = nil
		return err
	}
	err = sn.Walk(stream.Context(), func(i snapshot.Info) error {
		if batch = append(batch, wire.SnapshotInfo(i)); len(batch) < page {
			return nil
		}
		return flush()
	}, r.GetFilters()...)
	if err != nil {
		return rpcstatus.To(err)
	}
	return flush()
}

func (s *Service) Usage(ctx context.Context, r *api.UsageRequest) (*api.UsageResponse, error) {
	sn, err := s.get(r.GetSnapshotter())
	if err != nil {
		return nil, err
	}
	u, err := sn.Usage(ctx, r.GetKey())
	if err != nil {
		return nil, rpcstatus.To(err)
	}
	return &api.UsageResponse{Size: u.Size, Inodes: u.Inodes}, nil
}

func (s *Service) Cleanup(ctx context.Context, r *api.CleanupRequest) (*emptypb.Empty, error) {
	sn, err := s.get(r.GetSnapshotter())
	if err != nil {
		return nil, err
	}
	if err := sn.Cleanup(ctx); err != nil {
		return nil, rpcstatus.To(err)
	}
	return &emptypb.Empty{}, nil
}
