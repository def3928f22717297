package container

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	mounttypes "github.com/docker/docker/api/types/mount"
	"github.com/opencontainers/go-digest"

	"gantry/api/failpoint"
	"gantry/api/undo"
	"gantry/daemon/image"
	"gantry/daemon/mountpoint"
	"gantry/daemon/source"
	"gantry/daemon/spec"
	"gantry/daemon/userns"
)

// viewImage makes the view of an image that is mounted in a new container, the n-th of
// its mounts. It keeps the image's layers, whatever becomes of the image.
func (s *Service) viewImage(ctx context.Context, id string, n int, p *mountpoint.Point, steps *undo.Stack) error {
	img := &image.Image{ChainID: digest.Digest(p.Chain)}
	if p.Snapshot == "" { // else another container's, whose layers are held by that
		var err error
		if img, err = s.Images.Resolve(ctx, p.Name, nil); err != nil {
			return err
		}
		p.Source, p.Spec.Source, p.Chain = img.ID.String(), img.ID.String(), img.ChainID.String()
	}
	p.Snapshot = fmt.Sprintf("%s-image-%d", id, n)
	if err := appendLine(s.viewNotes(id), p.Snapshot); err != nil {
		return err
	}
	failpoint.Hit("daemon/container.create.view-noted")
	if err := s.Images.View(ctx, img, p.Snapshot); err != nil {
		return err
	}
	failpoint.Hit("daemon/container.create.view")
	key := p.Snapshot
	steps.Add("remove view of image", func(ctx context.Context) error { return s.Images.RemoveSnapshot(ctx, key) })
	return nil
}

// viewNotes names the views of images that were made for a container, one a line.
func (s *Service) viewNotes(id string) string { return filepath.Join(s.dir(id), "views") }

// removeViews removes the views that a container has of images.
func (s *Service) removeViews(ctx context.Context, id string) error {
	raw, err := os.ReadFile(s.viewNotes(id))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	keys := strings.Fields(string(raw))
	if e := s.entry(id); e != nil { // a power cut may have taken the notes
		for _, p := range e.snapshot().Mounts {
			if p.Type == mounttypes.TypeImage {
				keys = append(keys, p.Snapshot)
			}
		}
	}
	for _, key := range keys {
		if err := s.Images.RemoveSnapshot(ctx, key); err != nil {
			return err
		}
	}
	return nil
}

// mountImage gets an image, or a part of it, ready to be mounted.
func (s *Service) mountImage(ctx context.Context, p mountpoint.Point, m spec.Mount, ids userns.Mapping, staged *undo.Stack) (spec.Mount, error) {
	mounts, err := s.Images.Mounts(ctx, p.Snapshot)
	if err != nil {
		return m, err
	}
	path := ""
	if o := p.Spec.ImageOptions; o != nil {
		path = o.Subpath
	}
	m.Source, err = stage(staged, func() (*source.Source, error) { return s.sources.Image(withIDs(mounts, ids), p.Name, path) })
	return m, err
}

// stage makes a source, which goes again with staged.
func stage(staged *undo.Stack, make func() (*source.Source, error)) (path string, err error) {
	src, err := make()
	if err != nil {
		return "", err
	}
	failpoint.Hit("daemon/container.start.staged")
	staged.Add("unmount source", func(context.Context) error { return src.Close() })
	return src.Path, nil
}
