package client

import (
	"context"

	snapshotsapi "github.com/containerd/containerd/api/services/snapshots/v1"
	"google.golang.org/grpc"

	"gantry/libctr/core/mount"
	"gantry/libctr/core/snapshot"
	"gantry/libctr/core/wire"
)

// Snapshotter returns the core's snapshotter of that name.
func (c *Client) Snapshotter(name string) snapshot.Snapshotter { return Snapshotter(c.conn, name) }

// Snapshotter is the same on a connection with this package's interceptors.
func Snapshotter(conn grpc.ClientConnInterface, name string) snapshot.Snapshotter {
	return snapshotter{rpc: snapshotsapi.NewSnapshotsClient(conn), name: name}
}

type snapshotter struct {
	rpc  snapshotsapi.SnapshotsClient
	name string
}

func (s snapshotter) Stat(ctx context.Context, key string) (snapshot.Info, error) {
	r, err := s.rpc.Stat(ctx, &snapshotsapi.StatSnapshotRequest{Snapshotter: s.name, Key: key})
	return wire.FromSnapshotInfo(r.GetInfo()), err
}

func (s snapshotter) Update(ctx context.Context, info snapshot.Info, fieldpaths ...string) (snapshot.Info, error) {
	r, err := s.rpc.Update(ctx, &snapshotsapi.UpdateSnapshotRequest{
		Snapshotter: s.name, Info: wire.SnapshotInfo(info), UpdateMask: mask(fieldpaths),
	})
	return wire.FromSnapshotInfo(r.GetInfo()), err
}

func (s snapshotter) Usage(ctx context.Context, key string) (snapshot.Usage, error) {
	r, err := s.rpc.Usage(ctx, &snapshotsapi.UsageRequest{Snapshotter: s.name, Key: key})
	return snapshot.Usage{Inodes: r.GetInodes(), Size: r.GetSize()}, err
}

func (s snapshotter) Mounts(ctx context.Context, key string) ([]mount.Mount, error) {
	r, err := s.rpc.Mounts(ctx, &snapshotsapi.MountsRequest{Snapshotter: s.name, Key: key})
	if err != nil {
		return nil, err
	}
	return wire.FromMounts(r.GetMounts()), nil
}

func (s snapshotter) Prepare(ctx context.Context, key, parent string, labels map[string]string) ([]mount.Mount, error) {
	r, err := s.rpc.Prepare(ctx, &snapshotsapi.PrepareSnapshotRequest{
		Snapshotter: s.name, Key: key, Parent: parent, Labels: labels,
	})
	if err != nil {
		return nil, err
	}
	return wire.FromMounts(r.GetMounts()), nil
}

func (s snapshotter) View(ctx context.Context, key, parent string, labels map[string]string) ([]mount.Mount, error) {
	r, err := s.rpc.View(ctx, &snapshotsapi.ViewSnapshotRequest{
		Snapshotter: s.name, Key: key, Parent: parent, Labels: labels,
	})
	if err != nil {
		return nil, err
	}
	return wire.FromMounts(r.GetMounts()), nil
}

func (s snapshotter) Commit(ctx context.Context, name, key string, labels map[string]string) error {
	return s.CommitOnto(ctx, name, key, "", labels)
}

// CommitOnto implements snapshot.Rebaser. A core older than containerd 2.2 does not know
// the parent: ask for its snapshotter's capability first.
func (s snapshotter) CommitOnto(ctx context.Context, name, key, parent string, labels map[string]string) error {
	_, err := s.rpc.Commit(ctx, &snapshotsapi.CommitSnapshotRequest{
		Snapshotter: s.name, Name: name, Key: key, Parent: parent, Labels: labels,
	})
	return err
}

func (s snapshotter) Remove(ctx context.Context, key string) error {
	_, err := s.rpc.Remove(ctx, &snapshotsapi.RemoveSnapshotRequest{Snapshotter: s.name, Key: key})
	return err
}

func (s snapshotter) Walk(ctx context.Context, fn func(snapshot.Info) error, filters ...string) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // also when fn ends the walk
	stream, err := s.rpc.List(ctx, &snapshotsapi.ListSnapshotsRequest{Snapshotter: s.name, Filters: filters})
	if err != nil {
		return err
	}
	return receive(stream.Recv, func(m *snapshotsapi.ListSnapshotsResponse) error {
		for _, i := range m.GetInfo() {
			if err := fn(wire.FromSnapshotInfo(i)); err != nil {
				return err
			}
		}
		return nil
	})
}

func (s snapshotter) Cleanup(ctx context.Context) error {
	_, err := s.rpc.Cleanup(ctx, &snapshotsapi.CleanupRequest{Snapshotter: s.name})
	return err
}

// Close does nothing: the connection is its opener's.
func (s snapshotter) Close() error { return nil }
