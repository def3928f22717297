package client

import (
	"context"

	mountsapi "github.com/containerd/containerd/api/services/mounts/v1"
	"google.golang.org/grpc"

	"gantry/libctr/core/activation"
	"gantry/libctr/core/mount"
	"gantry/libctr/core/wire"
)

// Mounts returns the core's activations of mounts.
func (c *Client) Mounts() activation.Manager { return Mounts(c.conn) }

// Mounts is the same on a connection with this package's interceptors.
func Mounts(conn grpc.ClientConnInterface) activation.Manager {
	return mounts{mountsapi.NewMountsClient(conn)}
}

type mounts struct{ rpc mountsapi.MountsClient }

// Activate has no way to say what the caller can mount itself: the core takes it that
// this is what the system can.
func (m mounts) Activate(ctx context.Context, name string, list []mount.Mount, o activation.Options) (activation.Activation, error) {
	r, err := m.rpc.Activate(ctx, &mountsapi.ActivateRequest{
		Name: name, Mounts: wire.Mounts(list), Labels: o.Labels, Temporary: o.Temporary})
	return wire.FromActivation(r.GetInfo()), err
}

func (m mounts) Deactivate(ctx context.Context, name string) error {
	_, err := m.rpc.Deactivate(ctx, &mountsapi.DeactivateRequest{Name: name})
	return err
}

func (m mounts) Info(ctx context.Context, name string) (activation.Activation, error) {
	r, err := m.rpc.Info(ctx, &mountsapi.InfoRequest{Name: name})
	return wire.FromActivation(r.GetInfo()), err
}

func (m mounts) Update(ctx context.Context, a activation.Activation, fieldpaths ...string) (activation.Activation, error) {
	r, err := m.rpc.Update(ctx, &mountsapi.UpdateRequest{Info: wire.Activation(a), UpdateMask: mask(fieldpaths)})
	return wire.FromActivation(r.GetInfo()), err
}

func (m mounts) List(ctx context.Context, filters ...string) ([]activation.Activation, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := m.rpc.List(ctx, &mountsapi.ListRequest{Filters: filters})
	if err != nil {
		return nil, err
	}
	var out []activation.Activation
	err = receive(stream.Recv, func(r *mountsapi.ListMessage) error {
		out = append(out, wire.FromActivation(r.GetInfo()))
		return nil
	})
	return out, err
}
