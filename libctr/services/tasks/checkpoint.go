package tasks

import (
	"context"
	"fmt"
	"os"

	tasksapi "github.com/containerd/containerd/api/services/tasks/v1"
	"github.com/containerd/containerd/api/types"
	runcoptions "github.com/containerd/containerd/api/types/runc/options"
	"github.com/containerd/typeurl/v2"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"google.golang.org/protobuf/types/known/anypb"

	"gantry/api/errdefs"
	"gantry/libctr/core/wire"
)

// Archive keeps checkpoints in the content store.
type Archive interface {
	// Store writes the directory as a checkpoint of the container, with what is
	// needed to restore it, and returns the blobs.
	Store(ctx context.Context, containerID, dir string) ([]ocispec.Descriptor, error)
	// Load unpacks a checkpoint blob into the directory.
	Load(ctx context.Context, checkpoint ocispec.Descriptor, dir string) error
}

// Checkpoint dumps a task: into the directory that the runtime options name, or
// else into the content store.
func (s *Service) Checkpoint(ctx context.Context, r *tasksapi.CheckpointTaskRequest) (*tasksapi.CheckpointTaskResponse, error) {
	dir, err := imagePath(r.GetOptions())
	if err != nil {
		return nil, err
	}
	if dir != "" {
		return &tasksapi.CheckpointTaskResponse{}, s.tasks.Checkpoint(ctx, r.GetContainerID(), dir, anyOrNil(r.GetOptions()))
	}
	if s.archive == nil {
		return nil, errdefs.NotImplemented("checkpoint of %s: name an image path in the options", r.GetContainerID())
	}
	dir, err = s.unpacked.temp()
	if err != nil {
		return nil, fmt.Errorf("checkpoint of %s: %w", r.GetContainerID(), err)
	}
	defer os.RemoveAll(dir)
	if err := s.tasks.Checkpoint(ctx, r.GetContainerID(), dir, anyOrNil(r.GetOptions())); err != nil {
		return nil, err
	}
	blobs, err := s.archive.Store(ctx, r.GetContainerID(), dir)
	if err != nil {
		return nil, err
	}
	resp := &tasksapi.CheckpointTaskResponse{Descriptors: make([]*types.Descriptor, len(blobs))}
	for i, d := range blobs {
		resp.Descriptors[i] = wire.Descriptor(d)
	}
	return resp, nil
}

// imagePath is the directory in the runc shim's checkpoint options; options of
// another type have none.
func imagePath(options *anypb.Any) (string, error) {
	if options == nil || !typeurl.Is(options, &runcoptions.CheckpointOptions{}) {
		return "", nil
	}
	var o runcoptions.CheckpointOptions
	if err := typeurl.UnmarshalTo(options, &o); err != nil {
		return "", errdefs.InvalidArgument("checkpoint options: %w", err)
	}
	return o.GetImagePath(), nil
}

// restoreDir is the directory that a new task is restored from, "" for none: the
// one that the runtime options name, or one with the unpacked checkpoint blob.
func (s *Service) restoreDir(ctx context.Context, r *tasksapi.CreateTaskRequest) (dir string, err error) {
	if o := r.GetOptions(); o != nil && typeurl.Is(o, &runcoptions.Options{}) {
		var opts runcoptions.Options
		if err := typeurl.UnmarshalTo(o, &opts); err != nil {
			return "", errdefs.InvalidArgument("task options: %w", err)
		}
		if path := opts.GetCriuImagePath(); path != "" {
			return path, nil
		}
	}
	if r.GetCheckpoint() == nil {
		return "", nil
	}
	if s.archive == nil {
		return "", errdefs.NotImplemented("restore of %s: name an image path in the options", r.GetContainerID())
	}
	if dir, err = s.unpacked.make(ctx, r.GetContainerID()); err != nil {
		return "", fmt.Errorf("restore of %s: %w", r.GetContainerID(), err)
	}
	if err := s.archive.Load(ctx, wire.FromDescriptor(r.GetCheckpoint()), dir); err != nil {
		s.unpacked.drop(ctx, r.GetContainerID())
		return "", err
	}
	return dir, nil
}
