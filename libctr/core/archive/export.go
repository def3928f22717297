package archive

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/containerd/platforms"
	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"gantry/api/errdefs"
	"gantry/libctr/core/content"
	"gantry/libctr/core/image"
	"gantry/libctr/core/manifest"
)

// ExportOptions say what goes into an archive.
type ExportOptions struct {
	// Images are written under their names; several with one target share its blobs. An
	// image without a name is an entry without one.
	Images []image.Image
	// Platform chooses among an index's manifests; nil takes all, and describes none in
	// Docker's manifest.json.
	Platform platforms.MatchComparer
	// AllPlatforms writes the others too, beside the one that Platform prefers.
	AllPlatforms bool
	// SkipDockerManifest leaves out manifest.json.
	SkipDockerManifest bool
	// SkipNonDistributable leaves out layers that are not to be moved with their image.
	SkipNonDistributable bool
	// SkipMissing leaves out what is below a manifest of which something is not in the
	// store, and an index's manifests that are not there. Otherwise it is NotFound.
	SkipMissing bool
}

// Export writes images as an OCI layout with Docker's manifest.json. Each blob is checked
// while it is written.
func Export(ctx context.Context, store content.Store, w io.Writer, o ExportOptions) error {
	e := &exporter{store: store, o: o, seen: map[digest.Digest]bool{}}
	for _, img := range o.Images {
		if err := e.add(ctx, img); err != nil {
			return fmt.Errorf("export %s: %w", cmp.Or(img.Name, img.Target.Digest.String()), err)
		}
	}
	if err := write(ctx, w, &storeSink{store: store}, e.saved, e.blobs, o.SkipDockerManifest); err != nil {
		return fmt.Errorf("export: %w", err)
	}
	return nil
}

// maxExported bounds how many blobs an export may name, and maxNested indexes in indexes.
const (
	maxExported = 1 << 17
	maxNested   = 8
)

// exporter is one Export.
type exporter struct {
	store content.Store
	o     ExportOptions
	seen  map[digest.Digest]bool
	blobs []ocispec.Descriptor
	saved []Saved
}

func (e *exporter) add(ctx context.Context, img image.Image) error {
	target, err := e.sourced(ctx, img.Target)
	if err != nil {
		return err
	}
	if !manifest.IsManifest(target.MediaType) && !manifest.IsIndex(target.MediaType) {
		return errdefs.InvalidArgument("only manifests may be exported: %s", target.MediaType)
	}
	if err := e.tree(ctx, target, 0); err != nil {
		return err
	}
	saved := Saved{Target: target}
	if saved.Docker, err = e.docker(ctx, target); err != nil {
		return err
	}
	if img.Name != "" {
		saved.Names = []Name{nameOfImage(img.Name)}
	}
	e.saved = append(e.saved, saved)
	return nil
}

func nameOfImage(name string) Name {
	n := Name{Full: name, Tag: objectOf(name)}
	ref, err := reference.ParseNormalizedNamed(name)
	if _, digested := ref.(reference.Digested); err == nil && !digested {
		n.Familiar = reference.FamiliarString(reference.TagNameOnly(ref))
	}
	return n
}

// objectOf is the tag of an image's name, with a digest that follows it; a name without a
// tag is taken whole.
func objectOf(name string) string {
	last := name[strings.LastIndexByte(name, '/')+1:]
	colon, at := strings.IndexByte(last, ':'), strings.IndexByte(last, '@')
	if colon < 0 || at >= 0 && at < colon {
		return name
	}
	return last[colon+1:]
}

// sourced adds to a descriptor where its blob came from.
func (e *exporter) sourced(ctx context.Context, d ocispec.Descriptor) (ocispec.Descriptor, error) {
	info, err := e.store.Info(ctx, d.Digest)
	if err != nil {
		return d, err
	}
	d.Annotations = maps.Clone(d.Annotations)
	for k, v := range info.Labels {
		if strings.HasPrefix(k, "containerd.io/distribution.source.") {
			if d.Annotations == nil {
				d.Annotations = make(map[string]string)
			}
			d.Annotations[k] = v
		}
	}
	return d, nil
}

// tree takes a blob and what is below it.
func (e *exporter) tree(ctx context.Context, d ocispec.Descriptor, depth int) error {
	if err := d.Digest.Validate(); err != nil {
		return errdefs.InvalidArgument("digest %q: %w", d.Digest, err)
	}
	if e.seen[d.Digest] || e.o.SkipNonDistributable && manifest.IsNonDistributable(d.MediaType) {
		return nil
	}
	if depth > maxNested || len(e.blobs) >= maxExported {
		return errdefs.InvalidArgument("more than %d blobs, or nested deeper than %d", maxExported, maxNested)
	}
	info, err := e.store.Info(ctx, d.Digest)
	if errdefs.IsNotFound(err) && e.o.SkipMissing {
		return nil
	}
	if err != nil {
		return err
	}
	d.Size = info.Size
	e.seen[d.Digest] = true
	e.blobs = append(e.blobs, d)
	children, err := manifest.ReadChildren(ctx, e.store, d)
	if err != nil {
		return err
	}
	if manifest.IsIndex(d.MediaType) {
		children = e.chosen(children)
	} else if there, err := e.complete(ctx, children); err != nil || !there {
		return err
	}
	for _, c := range children {
		if err := e.tree(ctx, c, depth+1); err != nil {
			return err
		}
	}
	return nil
}

// chosen are the manifests of an index that are wanted.
func (e *exporter) chosen(children []ocispec.Descriptor) []ocispec.Descriptor {
	if e.o.Platform == nil || e.o.AllPlatforms {
		return children
	}
	return slices.DeleteFunc(slices.Clone(children), func(d ocispec.Descriptor) bool {
		return d.Platform != nil && !e.o.Platform.Match(*d.Platform)
	})
}

// complete says whether a manifest's children are to be written: with SkipMissing, only
// when all are there.
func (e *exporter) complete(ctx context.Context, children []ocispec.Descriptor) (bool, error) {
	if !e.o.SkipMissing {
		return true, nil
	}
	for _, c := range children {
		_, err := e.store.Info(ctx, c.Digest)
		if errdefs.IsNotFound(err) {
			return false, nil
		}
		if err != nil {
			return false, err
		}
	}
	return true, nil
}

// docker is the platform of an image that manifest.json shows, nil for none.
func (e *exporter) docker(ctx context.Context, target ocispec.Descriptor) (*Docker, error) {
	best := target
	if manifest.IsIndex(target.MediaType) {
		if e.o.Platform == nil {
			return nil, nil
		}
		children, err := manifest.ReadChildren(ctx, e.store, target)
		if err != nil {
			return nil, err
		}
		found, ok := e.best(children)
		if !ok {
			return nil, errdefs.NotFound("no manifest found for platform")
		}
		best = found
	}
	children, err := manifest.ReadChildren(ctx, e.store, best)
	if err != nil || len(children) == 0 {
		if errdefs.IsNotFound(err) && e.o.SkipMissing {
			err = nil
		}
		return nil, err
	}
	return &Docker{Config: children[0], Layers: children[1:]}, nil
}

// best is the manifest of an index that Platform prefers, one without a platform at last.
func (e *exporter) best(children []ocispec.Descriptor) (ocispec.Descriptor, bool) {
	var fits []ocispec.Descriptor
	for _, d := range children {
		if manifest.IsManifest(d.MediaType) && (d.Platform == nil || e.o.Platform.Match(*d.Platform)) {
			fits = append(fits, d)
		}
	}
	if len(fits) == 0 {
		return ocispec.Descriptor{}, false
	}
	return slices.MinFunc(fits, manifest.ByPlatform(e.o.Platform)), true
}
