package notify

import (
	"context"

	containerdevents "github.com/containerd/containerd/api/events"
	"github.com/opencontainers/go-digest"

	"gantry/libctr/core/content"
	"gantry/libctr/core/image"
	"gantry/libctr/core/mount"
	"gantry/libctr/core/snapshot"
)

// Images publishes what is created and updated in s by the core itself, as the service
// does for clients.
func (p Publisher) Images(s image.Store) image.Store { return images{s, p} }

type images struct {
	image.Store
	p Publisher
}

// Create implements image.Store.
func (s images) Create(ctx context.Context, img image.Image) (image.Image, error) {
	out, err := s.Store.Create(ctx, img)
	if err == nil {
		s.p.Publish(ctx, "/images/create", &containerdevents.ImageCreate{Name: out.Name, Labels: out.Labels})
	}
	return out, err
}

// Update implements image.Store.
func (s images) Update(ctx context.Context, img image.Image, paths ...string) (image.Image, error) {
	out, err := s.Store.Update(ctx, img, paths...)
	if err == nil {
		s.p.Publish(ctx, "/images/update", &containerdevents.ImageUpdate{Name: out.Name, Labels: out.Labels})
	}
	return out, err
}

// Content publishes what is committed to s.
func (p Publisher) Content(s content.Store) content.Store { return blobs{s, p} }

type blobs struct {
	content.Store
	p Publisher
}

// Writer implements content.Store.
func (s blobs) Writer(ctx context.Context, o content.WriterOptions) (content.Writer, error) {
	w, err := s.Store.Writer(ctx, o)
	if err != nil {
		return nil, err
	}
	return blobWriter{w, s.p}, nil
}

type blobWriter struct {
	content.Writer
	p Publisher
}

// Commit implements content.Writer.
func (w blobWriter) Commit(ctx context.Context, size int64, expected digest.Digest, labels map[string]string) error {
	st, err := w.Status()
	if err != nil {
		return err
	}
	if err := w.Writer.Commit(ctx, size, expected, labels); err != nil {
		return err
	}
	if expected == "" {
		expected = w.Digest()
	}
	w.p.Publish(ctx, "/content/create", &containerdevents.ContentCreate{Digest: expected.String(), Size: st.Offset})
	return nil
}

// Snapshotter publishes what is prepared, committed and removed in s, the snapshotter of
// that name. It is a snapshot.Rebaser when s is one.
func (p Publisher) Snapshotter(name string, s snapshot.Snapshotter) snapshot.Snapshotter {
	told := snapshots{s, name, p}
	if r, ok := s.(snapshot.Rebaser); ok {
		return rebasing{told, r}
	}
	return told
}

type snapshots struct {
	snapshot.Snapshotter
	name string
	p    Publisher
}

// Prepare implements snapshot.Snapshotter.
func (s snapshots) Prepare(ctx context.Context, key, parent string, labels map[string]string) ([]mount.Mount, error) {
	mounts, err := s.Snapshotter.Prepare(ctx, key, parent, labels)
	if err == nil {
		s.p.Publish(ctx, "/snapshot/prepare", &containerdevents.SnapshotPrepare{Key: key, Parent: parent, Snapshotter: s.name})
	}
	return mounts, err
}

// Commit implements snapshot.Snapshotter.
func (s snapshots) Commit(ctx context.Context, name, key string, labels map[string]string) error {
	err := s.Snapshotter.Commit(ctx, name, key, labels)
	s.committed(ctx, name, key, err)
	return err
}

func (s snapshots) committed(ctx context.Context, name, key string, err error) {
	if err == nil {
		s.p.Publish(ctx, "/snapshot/commit", &containerdevents.SnapshotCommit{Key: key, Name: name, Snapshotter: s.name})
	}
}

// Remove implements snapshot.Snapshotter.
func (s snapshots) Remove(ctx context.Context, key string) error {
	err := s.Snapshotter.Remove(ctx, key)
	if err == nil {
		s.p.Publish(ctx, "/snapshot/remove", &containerdevents.SnapshotRemove{Key: key, Snapshotter: s.name})
	}
	return err
}

type rebasing struct {
	snapshots
	rebaser snapshot.Rebaser
}

// CommitOnto implements snapshot.Rebaser.
func (s rebasing) CommitOnto(ctx context.Context, name, key, parent string, labels map[string]string) error {
	err := s.rebaser.CommitOnto(ctx, name, key, parent, labels)
	s.committed(ctx, name, key, err)
	return err
}
