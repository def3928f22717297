package client

import (
	"context"

	imagesapi "github.com/containerd/containerd/api/services/images/v1"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"google.golang.org/grpc"

	"gantry/libctr/core/image"
	"gantry/libctr/core/wire"
)

// Images returns the core's image records.
func (c *Client) Images() image.Store { return Images(c.conn) }

// Images is the same on a connection with this package's interceptors.
func Images(conn grpc.ClientConnInterface) image.Store {
	return images{imagesapi.NewImagesClient(conn)}
}

type images struct{ rpc imagesapi.ImagesClient }

func (s images) Get(ctx context.Context, name string) (image.Image, error) {
	r, err := s.rpc.Get(ctx, &imagesapi.GetImageRequest{Name: name})
	return wire.FromImage(r.GetImage()), err
}

func (s images) List(ctx context.Context, filters ...string) ([]image.Image, error) {
	r, err := s.rpc.List(ctx, &imagesapi.ListImagesRequest{Filters: filters})
	if err != nil {
		return nil, err
	}
	out := make([]image.Image, len(r.GetImages()))
	for n, i := range r.GetImages() {
		out[n] = wire.FromImage(i)
	}
	return out, nil
}

func (s images) Create(ctx context.Context, i image.Image) (image.Image, error) {
	r, err := s.rpc.Create(ctx, &imagesapi.CreateImageRequest{Image: wire.Image(i)})
	return wire.FromImage(r.GetImage()), err
}

func (s images) Update(ctx context.Context, i image.Image, fieldpaths ...string) (image.Image, error) {
	r, err := s.rpc.Update(ctx, &imagesapi.UpdateImageRequest{Image: wire.Image(i), UpdateMask: mask(fieldpaths)})
	return wire.FromImage(r.GetImage()), err
}

func (s images) Delete(ctx context.Context, name string, sync bool, target *ocispec.Descriptor) error {
	req := &imagesapi.DeleteImageRequest{Name: name, Sync: sync}
	if target != nil {
		req.Target = wire.Descriptor(*target)
	}
	_, err := s.rpc.Delete(ctx, req)
	return err
}
