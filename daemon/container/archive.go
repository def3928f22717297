package container

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	containertypes "github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/events"

	apicontainer "gantry/api/container"
	"gantry/api/errdefs"
	"gantry/daemon/archive"
)

// Export writes the tar of the container's root filesystem, without what is mounted in it.
func (s *Service) Export(ctx context.Context, ref string, w io.Writer) error {
	e, err := s.find(ref)
	if err != nil {
		return err
	}
	switch c := e.snapshot(); c.Status {
	case Dead:
		return errdefs.Conflict("You cannot export container %s which is Dead", c.ID)
	case Removing:
		return errdefs.Conflict("You cannot export container %s which is being removed", c.ID)
	}
	err = func() error {
		root, err := s.openRootOnly(ctx, e)
		if err != nil {
			return err
		}
		defer root.Close()
		return archive.PackAll(ctx, w, root)
	}()
	if err != nil {
		return errdefs.WithClass(errdefs.ErrInternal, fmt.Errorf("Error exporting container %s: %w", ref, err))
	}
	s.publish(e.snapshot(), events.ActionExport, nil)
	return nil
}

// StatPath describes a path of the container's; a link itself.
func (s *Service) StatPath(ctx context.Context, ref, path string) (containertypes.PathStat, error) {
	e, err := s.find(ref)
	if err != nil {
		return containertypes.PathStat{}, err
	}
	v, err := s.openView(ctx, e)
	if err != nil {
		return containertypes.PathStat{}, pathError(err, ref, path)
	}
	defer v.Close()
	stat, err := archive.Stat(v.Root, statPath(path))
	return stat, pathError(err, ref, path)
}

// statPath is what a HEAD request looks at: the path as it is, from the root.
func statPath(path string) string {
	if !strings.HasPrefix(path, "/") {
		return "/" + path
	}
	return path
}

// CopyFrom opens a file or directory of the container's to be read as a tar, which the
// caller closes.
func (s *Service) CopyFrom(ctx context.Context, ref, path string) (apicontainer.Archive, containertypes.PathStat, error) {
	fail := func(err error) (apicontainer.Archive, containertypes.PathStat, error) {
		return nil, containertypes.PathStat{}, pathError(err, ref, path)
	}
	e, err := s.find(ref)
	if err != nil {
		return nil, containertypes.PathStat{}, err
	}
	v, err := s.openView(ctx, e)
	if err != nil {
		return fail(err)
	}
	name := archive.Clean(path)
	stat, err := archive.Stat(v.Root, name)
	if err != nil {
		v.Close()
		return fail(err)
	}
	s.publish(e.snapshot(), events.ActionArchivePath, nil)
	return &packed{ctx: ctx, view: v, name: name}, stat, nil
}

// packed is a path that is read as a tar.
type packed struct {
	ctx  context.Context
	view *view
	name string
}

func (p *packed) Pack(w io.Writer) error { return archive.Pack(p.ctx, w, p.view.Root, p.name) }
func (p *packed) Close() error           { return p.view.Close() }

// CopyTo unpacks a tar into a directory of the container's.
func (s *Service) CopyTo(ctx context.Context, ref, path string, o containertypes.CopyToContainerOptions, content io.Reader) error {
	e, err := s.find(ref)
	if err != nil {
		return err
	}
	if err := s.copyTo(ctx, e, path, o, content); err != nil {
		return pathError(err, ref, path)
	}
	s.publish(e.snapshot(), events.ActionExtractToDir, nil)
	return nil
}

func (s *Service) copyTo(ctx context.Context, e *entry, path string, o containertypes.CopyToContainerOptions, content io.Reader) error {
	v, err := s.openWritable(ctx, e)
	if err != nil {
		return err
	}
	defer v.Close()
	dir, err := v.Resolve(filepath.Join("/", path))
	if err != nil {
		return err
	}
	stat, err := archive.Stat(v.Root, keepEnd(dir, path))
	if err != nil {
		return err
	}
	if !stat.Mode.IsDir() {
		return errdefs.InvalidArgument("extraction point is not a directory")
	}
	c := e.snapshot()
	if err := checkWritable(c, dir); err != nil {
		return err
	}
	target := archive.Target{Root: v.Root, Dir: dir, KeepKind: !o.AllowOverwriteDirWithFile, Go: v.goOn}
	if o.CopyUIDGID && c.Config.User != "" {
		uid, gid, err := v.LookupOwner(c.Config.User)
		if err != nil {
			return errdefs.WithClass(errdefs.ErrInvalidArgument, err)
		}
		target.Owner = &archive.Owner{UID: uid, GID: gid}
	}
	return archive.Unpack(ctx, content, target)
}

// keepEnd puts the "/" or "/." of a user's path at the end of where it leads.
func keepEnd(dir, path string) string {
	if end := strings.TrimPrefix(archive.Clean("/x/"+path), filepath.Join("/x", path)); end == "/" || end == "/." {
		return strings.TrimSuffix(dir, "/") + end
	}
	return dir
}

// checkWritable refuses what a process in the container could not write to either. Of
// mounts in mounts the deepest counts.
func checkWritable(c *Snapshot, dir string) error {
	depth, writable := -1, true
	for _, p := range c.Mounts {
		if p.Destination == dir || p.Destination == "/" || strings.HasPrefix(dir, p.Destination+"/") {
			if n := len(p.Destination); n > depth {
				depth, writable = n, p.RW
			}
		}
	}
	switch {
	case !writable:
		return errdefs.InvalidArgument("mounted volume is marked read-only")
	case depth < 0 && c.Host.ReadonlyRootfs:
		return errdefs.InvalidArgument("container rootfs is marked read-only")
	}
	return nil
}

// pathError is what dockerd makes of an error about a container's files.
func pathError(err error, ref, path string) error {
	switch {
	case err == nil:
		return nil
	case os.IsNotExist(err):
		return errdefs.NotFound("Could not find the file %s in container %s", path, ref)
	case errdefs.Class(err) != nil:
		return err
	}
	return errdefs.WithClass(errdefs.ErrInternal, err)
}
