package image

import (
	"context"
	"crypto/rand"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/containerd/platforms"
	"github.com/distribution/reference"
	"github.com/docker/docker/api/types/events"
	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"gantry/api/errdefs"
	"gantry/api/failpoint"
	"gantry/libctr/core/diff"
	"gantry/libctr/core/image"
	coremanifest "gantry/libctr/core/manifest"
	"gantry/libctr/core/mount"
)

// Commit is what an image is to be made of a container.
type Commit struct {
	Container string // the key of its snapshot
	// Parent is the manifest that the container was made of, nil for none, and ParentID
	// the id of that image.
	Parent   *ocispec.Descriptor
	ParentID digest.Digest
	Platform ocispec.Platform // of an image without a parent
	Config   dockerspec.DockerOCIImageConfig

	Author, Comment string
	CreatedBy       string // the container's command
	// Name is the new image's, with a tag; nil for none.
	Name reference.Named
	// Check is asked when the files have been read: whether they were still the container's.
	Check func() error
}

// Commit makes an image of what a container has changed and returns its id. The layer is
// unpacked when the first container is made of the image. A container that has changed
// nothing gives an image with the layers of its parent.
func (s *Service) Commit(ctx context.Context, c Commit) (digest.Digest, error) {
	ctx, done, err := s.underLease(ctx, false)
	if err != nil {
		return "", err
	}
	defer done()
	parent := &manifest{}
	if c.Parent != nil {
		if err := s.holdImage(ctx, *c.Parent); err != nil {
			return "", err
		}
		if parent, err = s.readImage(ctx, *c.Parent); err != nil {
			return "", fmt.Errorf("read the container's image: %w", err)
		}
	}
	layer, diffID, err := s.diffLayer(ctx, c.Container)
	if err != nil {
		return "", fmt.Errorf("failed to export layer: %w", err)
	}
	if err := c.Check(); err != nil {
		return "", err
	}
	failpoint.Hit("daemon/image.commit.layer")
	m, err := s.commitManifest(ctx, parent, c, layer, diffID)
	if err != nil {
		return "", err
	}
	failpoint.Hit("daemon/image.commit.manifest")
	return m.desc.Digest, s.commitRecord(ctx, m, c)
}

// emptyDiff is the diff id of a layer that changes nothing: the end of a tar alone.
var emptyDiff = digest.FromBytes(make([]byte, 1024))

// diffLayer writes what a snapshot changes as a layer; nil when it is nothing.
func (s *Service) diffLayer(ctx context.Context, key string) (*ocispec.Descriptor, digest.Digest, error) {
	upper, err := s.Snapshots.Mounts(ctx, key)
	if err != nil {
		return nil, "", err
	}
	lower, ok := below(upper)
	if !ok {
		var drop func()
		if lower, drop, err = s.viewParent(ctx, key); err != nil {
			return nil, "", err
		}
		defer drop()
	}
	desc, err := s.Comparer.Compare(ctx, lower, upper, diff.CompareOptions{
		MediaType: ocispec.MediaTypeImageLayerGzip, Reference: oncePrefix + "commit-" + strings.ToLower(rand.Text()),
	})
	if err != nil {
		return nil, "", err
	}
	info, err := s.Content.Info(ctx, desc.Digest)
	if err != nil {
		return nil, "", err
	}
	diffID, err := digest.Parse(info.Labels[labelUncompressed])
	if err != nil {
		return nil, "", fmt.Errorf("diff id of layer %s: %w", desc.Digest, err)
	}
	if diffID == emptyDiff {
		return nil, "", nil
	}
	return &ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayerGzip, Digest: desc.Digest, Size: info.Size}, diffID, nil
}

// below is what an overlay lies on, without a further snapshot: the container keeps it.
func below(mounts []mount.Mount) ([]mount.Mount, bool) {
	if len(mounts) != 1 || mounts[0].Type != "overlay" || mounts[0].Target != "" {
		return nil, false
	}
	m, upper := mounts[0], false
	m.Options = slices.DeleteFunc(slices.Clone(m.Options), func(o string) bool {
		upper = upper || strings.HasPrefix(o, "upperdir=")
		return strings.HasPrefix(o, "upperdir=") || strings.HasPrefix(o, "workdir=")
	})
	i := slices.IndexFunc(m.Options, func(o string) bool { return strings.HasPrefix(o, "lowerdir=") })
	if i < 0 || !upper {
		return nil, false
	}
	if dirs := strings.TrimPrefix(m.Options[i], "lowerdir="); !strings.Contains(dirs, ":") { // overlayfs wants two
		m = mount.Mount{Type: "bind", Source: dirs, Options: []string{"ro", "rbind"}}
	}
	return []mount.Mount{m}, true
}

// commitManifest writes the new image's config and manifest.
func (s *Service) commitManifest(ctx context.Context, parent *manifest, c Commit, layer *ocispec.Descriptor, diffID digest.Digest) (*manifest, error) {
	now := time.Now().UTC()
	m := &manifest{config: commitConfig(parent, c, diffID, now)}
	configDesc, err := s.writeJSON(ctx, ocispec.MediaTypeImageConfig, m.config, nil)
	if err != nil {
		return nil, err
	}
	failpoint.Hit("daemon/image.commit.config")
	m.body = ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest,
		Config: configDesc, Layers: slices.Clone(parent.body.Layers),
	}
	if layer != nil {
		m.body.Layers = append(m.body.Layers, *layer)
	}
	m.desc, err = s.writeJSON(ctx, ocispec.MediaTypeImageManifest, m.body, coremanifest.Labels(manifestChildren(&m.body)))
	return m, err
}

func commitConfig(parent *manifest, c Commit, diffID digest.Digest, now time.Time) dockerspec.DockerOCIImage {
	base := parent.config
	out := dockerspec.DockerOCIImage{Image: ocispec.Image{
		Platform: base.Platform, Created: &now, Author: c.Author,
		RootFS:  ocispec.RootFS{Type: "layers", DiffIDs: slices.Clone(base.RootFS.DiffIDs)},
		History: slices.Clone(base.History),
	}, Config: c.Config}
	if out.Platform.OS == "" {
		out.Platform = c.Platform
	}
	if out.Platform.OS == "" {
		out.Platform = platforms.DefaultSpec()
	}
	if out.Author == "" {
		out.Author = base.Author
	}
	if diffID != "" {
		out.RootFS.DiffIDs = append(out.RootFS.DiffIDs, diffID)
	}
	out.History = append(out.History, ocispec.History{
		Created: &now, CreatedBy: c.CreatedBy, Author: out.Author, Comment: c.Comment, EmptyLayer: diffID == "",
	})
	return out
}

// commitRecord makes the image known.
func (s *Service) commitRecord(ctx context.Context, m *manifest, c Commit) error {
	name := danglingName(m.desc.Digest)
	if c.Name != nil {
		name = c.Name.String()
	}
	rec := image.Image{Name: name, Target: m.desc}
	if c.ParentID != "" {
		rec.Labels = map[string]string{labelParent: c.ParentID.String()}
	}
	img, _, err := s.put(ctx, rec)
	if err != nil {
		return err
	}
	id := m.desc.Digest.String()
	s.publishLabelled(ctx, events.ActionCreate, img, id, id)
	if c.Name != nil {
		s.publishLabelled(ctx, events.ActionTag, img, id, familiarName(img))
	}
	return nil
}

// CheckCommitName refuses what Tag refuses.
func CheckCommitName(named reference.Named) error {
	if _, ok := named.(reference.Digested); ok {
		return errdefs.InvalidArgument("refusing to create a tag with a digest reference")
	}
	_, err := checkName(named)
	return err
}
