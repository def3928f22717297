// Package wire turns the core's values into the protobuf messages of
// github.com/containerd/containerd/api and back. The clients, the services and
// the metadata store (which keeps these messages on disk) share it, so that a
// field is mapped in one place. All functions are pure; maps and slices are
// shared between the two sides, not copied.
package wire

import (
	"time"

	containersapi "github.com/containerd/containerd/api/services/containers/v1"
	contentapi "github.com/containerd/containerd/api/services/content/v1"
	imagesapi "github.com/containerd/containerd/api/services/images/v1"
	leasesapi "github.com/containerd/containerd/api/services/leases/v1"
	snapshotsapi "github.com/containerd/containerd/api/services/snapshots/v1"
	"github.com/containerd/containerd/api/types"
	"github.com/containerd/typeurl/v2"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"gantry/libctr/core/container"
	"gantry/libctr/core/content"
	"gantry/libctr/core/image"
	"gantry/libctr/core/lease"
	"gantry/libctr/core/mount"
	"gantry/libctr/core/snapshot"
)

// Timestamp is nil for the zero time.
func Timestamp(t time.Time) *timestamppb.Timestamp {
	if t.IsZero() {
		return nil
	}
	return timestamppb.New(t)
}

// Time is the zero time for nil, else in UTC.
func Time(t *timestamppb.Timestamp) time.Time {
	if t == nil {
		return time.Time{}
	}
	return t.AsTime()
}

// Any is nil for nil.
func Any(a typeurl.Any) *anypb.Any {
	if a == nil {
		return nil
	}
	if p, ok := a.(*anypb.Any); ok {
		return p
	}
	return &anypb.Any{TypeUrl: a.GetTypeUrl(), Value: a.GetValue()}
}

// FromAny decodes a message within a message; nil stays a nil interface.
func FromAny(a *anypb.Any) typeurl.Any {
	if a == nil {
		return nil
	}
	return a
}

func anys(in map[string]typeurl.Any) map[string]*anypb.Any {
	if in == nil {
		return nil
	}
	out := make(map[string]*anypb.Any, len(in))
	for k, v := range in {
		out[k] = Any(v)
	}
	return out
}

func fromAnys(in map[string]*anypb.Any) map[string]typeurl.Any {
	if in == nil {
		return nil
	}
	out := make(map[string]typeurl.Any, len(in))
	for k, v := range in {
		out[k] = FromAny(v)
	}
	return out
}

// Container encodes a container record.
func Container(c container.Container) *containersapi.Container {
	return &containersapi.Container{
		ID:          c.ID,
		Labels:      c.Labels,
		Image:       c.Image,
		Runtime:     &containersapi.Container_Runtime{Name: c.Runtime.Name, Options: Any(c.Runtime.Options)},
		Spec:        Any(c.Spec),
		Snapshotter: c.Snapshotter,
		SnapshotKey: c.SnapshotKey,
		CreatedAt:   Timestamp(c.CreatedAt),
		UpdatedAt:   Timestamp(c.UpdatedAt),
		Sandbox:     c.SandboxID,
		Extensions:  anys(c.Extensions),
	}
}

// FromContainer decodes a container record.
func FromContainer(c *containersapi.Container) container.Container {
	return container.Container{
		ID:          c.GetID(),
		Labels:      c.GetLabels(),
		Image:       c.GetImage(),
		Runtime:     container.Runtime{Name: c.GetRuntime().GetName(), Options: FromAny(c.GetRuntime().GetOptions())},
		Spec:        FromAny(c.GetSpec()),
		SnapshotKey: c.GetSnapshotKey(),
		Snapshotter: c.GetSnapshotter(),
		SandboxID:   c.GetSandbox(),
		CreatedAt:   Time(c.GetCreatedAt()),
		UpdatedAt:   Time(c.GetUpdatedAt()),
		Extensions:  fromAnys(c.GetExtensions()),
	}
}

// Descriptor encodes what containerd's API carries of a descriptor: media type,
// digest, size and annotations.
func Descriptor(d ocispec.Descriptor) *types.Descriptor {
	return &types.Descriptor{
		MediaType:   d.MediaType,
		Digest:      d.Digest.String(),
		Size:        d.Size,
		Annotations: d.Annotations,
	}
}

// FromDescriptor decodes a descriptor.
func FromDescriptor(d *types.Descriptor) ocispec.Descriptor {
	return ocispec.Descriptor{
		MediaType:   d.GetMediaType(),
		Digest:      digest.Digest(d.GetDigest()),
		Size:        d.GetSize(),
		Annotations: d.GetAnnotations(),
	}
}

// Image encodes an image record.
func Image(i image.Image) *imagesapi.Image {
	return &imagesapi.Image{
		Name:      i.Name,
		Labels:    i.Labels,
		Target:    Descriptor(i.Target),
		CreatedAt: Timestamp(i.CreatedAt),
		UpdatedAt: Timestamp(i.UpdatedAt),
	}
}

// FromImage decodes an image record.
func FromImage(i *imagesapi.Image) image.Image {
	return image.Image{
		Name:      i.GetName(),
		Labels:    i.GetLabels(),
		Target:    FromDescriptor(i.GetTarget()),
		CreatedAt: Time(i.GetCreatedAt()),
		UpdatedAt: Time(i.GetUpdatedAt()),
	}
}

// ContentInfo encodes what is known of a blob.
func ContentInfo(i content.Info) *contentapi.Info {
	return &contentapi.Info{
		Digest:    i.Digest.String(),
		Size:      i.Size,
		CreatedAt: Timestamp(i.CreatedAt),
		UpdatedAt: Timestamp(i.UpdatedAt),
		Labels:    i.Labels,
	}
}

// FromContentInfo decodes what is known of a blob.
func FromContentInfo(i *contentapi.Info) content.Info {
	return content.Info{
		Digest:    digest.Digest(i.GetDigest()),
		Size:      i.GetSize(),
		CreatedAt: Time(i.GetCreatedAt()),
		UpdatedAt: Time(i.GetUpdatedAt()),
		Labels:    i.GetLabels(),
	}
}

// ContentStatus encodes the state of an ingest.
func ContentStatus(s content.Status) *contentapi.Status {
	return &contentapi.Status{
		StartedAt: Timestamp(s.StartedAt),
		UpdatedAt: Timestamp(s.UpdatedAt),
		Ref:       s.Ref,
		Offset:    s.Offset,
		Total:     s.Total,
		Expected:  s.Expected.String(),
	}
}

// FromContentStatus decodes the state of an ingest.
func FromContentStatus(s *contentapi.Status) content.Status {
	return content.Status{
		Ref:       s.GetRef(),
		Offset:    s.GetOffset(),
		Total:     s.GetTotal(),
		Expected:  digest.Digest(s.GetExpected()),
		StartedAt: Time(s.GetStartedAt()),
		UpdatedAt: Time(s.GetUpdatedAt()),
	}
}

// Kind encodes a snapshot's kind; the two enums count alike.
func Kind(k snapshot.Kind) snapshotsapi.Kind { return snapshotsapi.Kind(k) }

// FromKind decodes a snapshot's kind.
func FromKind(k snapshotsapi.Kind) snapshot.Kind {
	if k < snapshotsapi.Kind_UNKNOWN || k > snapshotsapi.Kind_COMMITTED {
		return snapshot.KindUnknown
	}
	return snapshot.Kind(k)
}

// SnapshotInfo encodes what is known of a snapshot.
func SnapshotInfo(i snapshot.Info) *snapshotsapi.Info {
	return &snapshotsapi.Info{
		Name:      i.Name,
		Parent:    i.Parent,
		Kind:      Kind(i.Kind),
		CreatedAt: Timestamp(i.CreatedAt),
		UpdatedAt: Timestamp(i.UpdatedAt),
		Labels:    i.Labels,
	}
}

// FromSnapshotInfo decodes what is known of a snapshot.
func FromSnapshotInfo(i *snapshotsapi.Info) snapshot.Info {
	return snapshot.Info{
		Kind:      FromKind(i.GetKind()),
		Name:      i.GetName(),
		Parent:    i.GetParent(),
		Labels:    i.GetLabels(),
		CreatedAt: Time(i.GetCreatedAt()),
		UpdatedAt: Time(i.GetUpdatedAt()),
	}
}

// Mounts encodes mounts.
func Mounts(ms []mount.Mount) []*types.Mount {
	out := make([]*types.Mount, len(ms))
	for i, m := range ms {
		out[i] = &types.Mount{Type: m.Type, Source: m.Source, Target: m.Target, Options: m.Options}
	}
	return out
}

// FromMounts decodes mounts.
func FromMounts(ms []*types.Mount) []mount.Mount {
	out := make([]mount.Mount, len(ms))
	for i, m := range ms {
		out[i] = mount.Mount{Type: m.GetType(), Source: m.GetSource(), Target: m.GetTarget(), Options: m.GetOptions()}
	}
	return out
}

// Lease encodes a lease.
func Lease(l lease.Lease) *leasesapi.Lease {
	return &leasesapi.Lease{ID: l.ID, CreatedAt: Timestamp(l.CreatedAt), Labels: l.Labels}
}

// FromLease decodes a lease.
func FromLease(l *leasesapi.Lease) lease.Lease {
	return lease.Lease{ID: l.GetID(), CreatedAt: Time(l.GetCreatedAt()), Labels: l.GetLabels()}
}

// Resource encodes what a lease holds.
func Resource(r lease.Resource) *leasesapi.Resource {
	return &leasesapi.Resource{ID: r.ID, Type: r.Type}
}

// FromResource decodes what a lease holds.
func FromResource(r *leasesapi.Resource) lease.Resource {
	return lease.Resource{ID: r.GetID(), Type: r.GetType()}
}
