package container

import (
	"context"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"strings"

	mounttypes "github.com/docker/docker/api/types/mount"
	volumetypes "github.com/docker/docker/api/types/volume"

	"gantry/api/errdefs"
	"gantry/api/failpoint"
	"gantry/api/undo"
	"gantry/daemon/mountpoint"
	"gantry/daemon/volume"
)

// mountPoints collects a new container's mounts: those of other containers, binds,
// structured mounts, and a volume for each path of Config.Volumes that has none of
// these. Volumes are made and referenced.
// With topReadOnly read-only binds are so at their top alone.
func (s *Service) mountPoints(ctx context.Context, c *Record, topReadOnly bool, steps *undo.Stack) error {
	points, err := s.wantedMounts(c, topReadOnly)
	if err != nil {
		return err
	}
	for i := range points {
		switch points[i].Type {
		case mounttypes.TypeVolume:
			err = s.ensureVolume(ctx, c.ID, &points[i], steps)
		case mounttypes.TypeImage:
			err = s.viewImage(ctx, c.ID, i, &points[i], steps)
		}
		if err != nil {
			return err
		}
	}
	c.Mounts = points
	return nil
}

func (s *Service) wantedMounts(c *Record, topReadOnly bool) ([]mountpoint.Point, error) {
	inherited, err := s.inherited(c.Host.VolumesFrom)
	if err != nil {
		return nil, err
	}
	points, err := mountpoint.Wanted{
		Inherited: inherited, Binds: c.Host.Binds, Mounts: c.Host.Mounts, Volumes: c.Config.Volumes,
		Tmpfs: c.Host.Tmpfs, Driver: c.Host.VolumeDriver, Root: s.cfg.DataRoot, TopReadOnly: topReadOnly,
	}.Points()
	if err != nil {
		return nil, invalid(err)
	}
	return points, nil
}

// inherited are the mounts of the containers in VolumesFrom.
func (s *Service) inherited(from []string) (points []mountpoint.Point, err error) {
	for _, f := range from {
		ref, rw, err := mountpoint.ParseVolumesFrom(f)
		if err != nil {
			return nil, invalid(err)
		}
		e, err := s.find(ref)
		if err != nil {
			return nil, errdefs.WithClass(errdefs.ErrInvalidArgument, err)
		}
		for _, p := range e.snapshot().Mounts {
			p.RW = p.RW && rw
			p.CopyData, p.Anonymous = false, false
			points = mountpoint.Put(points, p)
		}
	}
	return points, nil
}

func (s *Service) ensureVolume(ctx context.Context, id string, p *mountpoint.Point, steps *undo.Stack) error {
	o := volumetypes.CreateOptions{Name: p.Name, Driver: p.Driver}
	if v := p.Spec.VolumeOptions; v != nil {
		o.Labels = v.Labels
		if v.DriverConfig != nil {
			o.DriverOpts = v.DriverConfig.Options
		}
	}
	if o.Name == "" {
		o.Name = newID()
		o.Labels = maps.Clone(o.Labels)
		if o.Labels == nil {
			o.Labels = map[string]string{}
		}
		o.Labels[volume.AnonymousLabel] = ""
		if err := s.noteVolume(id, o.Name); err != nil {
			return err
		}
	}
	failpoint.Hit("daemon/container.create.volume-noted")
	v, err := s.Volumes.Ensure(ctx, o, id)
	if err != nil {
		return err
	}
	p.Name, p.Driver, p.Source = v.Name, v.Driver, v.Mountpoint
	if p.Mode == "" && p.Spec.Type != "" { // one of Config.Volumes shows none
		p.Mode = "z"
	}
	gone := *p
	steps.Add("release volume", func(ctx context.Context) error { return s.releaseVolume(ctx, id, gone, true) })
	return nil
}

// noteVolume puts down, in the container's directory, the name of a volume that is about
// to be made for it. While the container has no record, the volume is nobody's.
func (s *Service) noteVolume(id, name string) error {
	return appendLine(s.volumeNotes(id), name)
}

func appendLine(path, line string) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	_, err = f.WriteString(line + "\n")
	return errors.Join(err, f.Close())
}

func (s *Service) volumeNotes(id string) string { return filepath.Join(s.dir(id), "volumes") }

// removeNoted removes the volumes of a container that never got its record.
func (s *Service) removeNoted(ctx context.Context, id string) error {
	raw, err := os.ReadFile(s.volumeNotes(id))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	for name := range strings.FieldsSeq(string(raw)) {
		if err := ignoreNotFound(s.Volumes.Remove(ctx, name, false)); err != nil && !errdefs.IsConflict(err) {
			return err
		}
	}
	return nil
}

// releaseVolume drops a container's reference; with rm an anonymous volume goes unless
// another container has it.
func (s *Service) releaseVolume(ctx context.Context, id string, p mountpoint.Point, rm bool) error {
	if p.Type != mounttypes.TypeVolume {
		return nil
	}
	if err := s.Volumes.Release(ctx, p.Name, id); err != nil && !errdefs.IsNotFound(err) {
		return err
	}
	if !rm || !p.Anonymous {
		return nil
	}
	err := s.Volumes.Remove(ctx, p.Name, false)
	if errdefs.IsConflict(err) || errdefs.IsNotFound(err) {
		return nil
	}
	return err
}
