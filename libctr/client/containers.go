package client

import (
	"context"
	"errors"
	"io"

	containersapi "github.com/containerd/containerd/api/services/containers/v1"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/fieldmaskpb"

	"gantry/libctr/core/container"
	"gantry/libctr/core/wire"
)

// Containers returns the core's container records.
func (c *Client) Containers() container.Store { return Containers(c.conn) }

// Containers is the same on a connection with this package's interceptors.
func Containers(conn grpc.ClientConnInterface) container.Store {
	return containers{containersapi.NewContainersClient(conn)}
}

type containers struct {
	rpc containersapi.ContainersClient
}

func (s containers) Get(ctx context.Context, id string) (container.Container, error) {
	r, err := s.rpc.Get(ctx, &containersapi.GetContainerRequest{ID: id})
	return wire.FromContainer(r.GetContainer()), err
}

// List streams, since all specs together may be more than a message can carry.
func (s containers) List(ctx context.Context, filters ...string) ([]container.Container, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := s.rpc.ListStream(ctx, &containersapi.ListContainersRequest{Filters: filters})
	if err != nil {
		return nil, err
	}
	var out []container.Container
	for {
		m, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return out, nil
		}
		if err != nil {
			return nil, err
		}
		out = append(out, wire.FromContainer(m.GetContainer()))
	}
}

func (s containers) Create(ctx context.Context, c container.Container) (container.Container, error) {
	r, err := s.rpc.Create(ctx, &containersapi.CreateContainerRequest{Container: wire.Container(c)})
	return wire.FromContainer(r.GetContainer()), err
}

func (s containers) Update(ctx context.Context, c container.Container, fieldpaths ...string) (container.Container, error) {
	r, err := s.rpc.Update(ctx, &containersapi.UpdateContainerRequest{Container: wire.Container(c), UpdateMask: mask(fieldpaths)})
	return wire.FromContainer(r.GetContainer()), err
}

func (s containers) Delete(ctx context.Context, id string) error {
	_, err := s.rpc.Delete(ctx, &containersapi.DeleteContainerRequest{ID: id})
	return err
}

// mask is nil for no paths: the whole object.
func mask(paths []string) *fieldmaskpb.FieldMask {
	if len(paths) == 0 {
		return nil
	}
	return &fieldmaskpb.FieldMask{Paths: paths}
}
