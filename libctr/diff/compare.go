package diff

import (
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"gantry/api/errdefs"
	"gantry/libctr/core/content"
	"gantry/libctr/core/diff"
	coremount "gantry/libctr/core/mount"
	"gantry/libctr/layer"
	"gantry/libctr/mount"
	"gantry/libctr/snapshot/idmap"
)

// labelUncompressed is the diff id on a layer blob.
const labelUncompressed = "containerd.io/uncompressed"

// Compare implements diff.Comparer. The same trees give the same blob, but for a
// change of the compressor's version.
func (d *Differ) Compare(ctx context.Context, lower, upper []coremount.Mount, o diff.CompareOptions) (ocispec.Descriptor, error) {
	if o.MediaType == "" {
		o.MediaType = defaultMediaType
	}
	if o.Reference == "" {
		o.Reference = "layer-" + strings.ToLower(rand.Text())
	}
	var none ocispec.Descriptor
	if !isLayer(o.MediaType) {
		return none, errdefs.NotImplemented("unsupported diff media type: %s", o.MediaType)
	}
	w, err := d.store.Writer(ctx, content.WriterOptions{Ref: o.Reference})
	if err != nil {
		return none, fmt.Errorf("compare: %w", err)
	}
	defer w.Close()
	desc, err := d.compare(ctx, w, lower, upper, o)
	if err != nil {
		w.Close()
		d.store.Abort(context.WithoutCancel(ctx), o.Reference) //nolint:errcheck // what stays is dropped when it is old
		return none, fmt.Errorf("compare: %w", err)
	}
	return desc, nil
}

// compare writes the layer into w and commits it.
func (d *Differ) compare(ctx context.Context, w content.Writer, lower, upper []coremount.Mount, o diff.CompareOptions) (ocispec.Descriptor, error) {
	var none ocispec.Descriptor
	if err := w.Truncate(0); err != nil {
		return none, err
	}
	compressed, err := compressor(w, o.MediaType)
	if err != nil {
		return none, err
	}
	plain := digest.Canonical.Digester()
	behind := newStage(compressed)
	err = withSource(ctx, lower, upper, func(s layer.Source) error {
		s.Epoch = o.SourceDateEpoch
		return layer.Diff(ctx, io.MultiWriter(plain.Hash(), behind), s)
	})
	if passed := behind.Close(); err == nil {
		err = passed
	}
	if err != nil {
		return none, err
	}
	if err := compressed.Close(); err != nil {
		return none, err
	}
	st, err := w.Status()
	if err != nil {
		return none, err
	}
	labels := maps.Clone(o.Labels)
	if labels == nil {
		labels = make(map[string]string)
	}
	labels[labelUncompressed] = plain.Digest().String()
	desc := ocispec.Descriptor{MediaType: o.MediaType, Digest: w.Digest(), Size: st.Offset}
	err = w.Commit(ctx, desc.Size, desc.Digest, labels)
	if errdefs.IsAlreadyExists(err) {
		err = content.AddLabels(ctx, d.store, desc.Digest, labels)
	}
	return desc, err
}

// withSource calls fn with the directories to compare. When the upper mount is an
// overlay right above the lower, its upper directory is all there is to look at.
func withSource(ctx context.Context, lower, upper []coremount.Mount, fn func(layer.Source) error) error {
	var options []string
	for _, m := range upper {
		options = append(options, m.Options...)
	}
	inside, err := idmap.Inside(options)
	if err != nil {
		return err
	}
	return mount.WithDetached(ctx, mount.ReadOnly(lower), func(low string) error {
		if t, ok := overlayTarget(upper); ok && above(t.Lower, lower) && plainOverlay(upper[0].Options) {
			return fn(layer.Source{Lower: low, Upper: t.Dir, Overlay: true, UserXattr: t.UserXattr, Inside: inside})
		}
		if inside != nil && len(upper) == 1 && upper[0].Type == "overlay" {
			return errdefs.NotImplemented("overlay with mapped ids whose upper directory does not tell by itself what it changes")
		}
		return mount.WithDetached(ctx, mount.ReadOnly(upper), func(up string) error {
			return fn(layer.Source{Lower: low, Upper: up})
		})
	})
}

// above says whether the mounts show exactly these lower directories.
func above(lowers []string, mounts []coremount.Mount) bool {
	if dir, ok := mount.Directory(mounts); ok {
		return slices.Equal(lowers, []string{dir})
	}
	if len(mounts) != 1 || mounts[0].Type != "overlay" || mounts[0].Target != "" {
		return false
	}
	for _, o := range mounts[0].Options {
		key, value, _ := strings.Cut(o, "=")
		switch key {
		case "upperdir":
			return false
		case "lowerdir":
			if value != strings.Join(lowers, ":") {
				return false
			}
		}
	}
	return true
}

// plainOverlay says whether an upper directory tells all by itself: with redirects
// or metadata-only copies it refers to the lower ones.
func plainOverlay(options []string) bool {
	for _, feature := range []string{"redirect_dir", "metacopy"} {
		on := slices.Contains(options, feature+"=on")
		if b, err := os.ReadFile("/sys/module/overlay/parameters/" + feature); err == nil {
			on = on || strings.TrimSpace(string(b)) == "Y" && !slices.Contains(options, feature+"=off")
		}
		if on {
			return false
		}
	}
	return true
}
