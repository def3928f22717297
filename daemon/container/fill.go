package container

import (
	"context"
	"errors"
	"slices"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"gantry/api/errdefs"
	"gantry/daemon/hostpath"
	"gantry/daemon/mountpoint"
)

// fillRoot makes the working directory and fills empty volumes from the image.
func (s *Service) fillRoot(ctx context.Context, c *Record) error {
	wd := c.Config.WorkingDir
	copies := slices.ContainsFunc(c.Mounts, func(p mountpoint.Point) bool { return p.CopyData })
	if (wd == "" || wd == "/") && !copies {
		return nil
	}
	mounts, err := s.Images.Mounts(ctx, c.ID)
	if err != nil {
		return err
	}
	r, err := s.OpenRoot(mounts)
	if err != nil {
		return err
	}
	defer func() { r.Close() }()
	if err := s.copyUp(ctx, c, r); err != nil {
		return err
	}
	if dir, found := r.IsDir(wd); wd == "" || wd == "/" || dir {
		return nil
	} else if found {
		return errdefs.InvalidArgument("Cannot mkdir: %s is not a directory", wd)
	}
	user, _, err := r.LookupUser(c.Config.User, nil)
	if err != nil {
		user = specs.User{} // the start will say so
	}
	r.Close()
	return makeDir(mounts, wd, user)
}

func (s *Service) copyUp(ctx context.Context, c *Record, r Root) error {
	for _, p := range c.Mounts {
		if !p.CopyData {
			continue
		}
		dir, found := r.IsDir(p.Destination)
		switch {
		case !found:
			continue
		case !dir && p.Anonymous:
			return errdefs.InvalidArgument("cannot mount volume over existing file, file exists %s", p.Destination)
		case !dir:
			continue
		}
		if err := s.fillVolume(ctx, c.ID, p, r); err != nil {
			return err
		}
	}
	return nil
}

func (s *Service) fillVolume(ctx context.Context, id string, p mountpoint.Point, r Root) (err error) {
	dir, err := s.Volumes.Mount(ctx, p.Name, id)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Volumes.Unmount(ctx, p.Name, id)) }()
	if err := hostpath.Answers(ctx, dir); err != nil {
		return err
	}
	return r.CopyUp(ctx, p.Destination, dir)
}
