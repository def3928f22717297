package container

import (
	"context"
	"errors"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/docker/docker/api/types/events"
	mounttypes "github.com/docker/docker/api/types/mount"
	volumetypes "github.com/docker/docker/api/types/volume"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"gantry/api/errdefs"
	"gantry/api/failpoint"
	"gantry/api/undo"
	"gantry/daemon/hostpath"
	"gantry/daemon/mountpoint"
	"gantry/daemon/source"
	"gantry/daemon/spec"
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
	points, err := s.inherited(c.Host.VolumesFrom)
	if err != nil {
		return nil, err
	}
	own := map[string]bool{}
	add := func(p mountpoint.Point, given string) error {
		if err := p.InDaemonRoot(s.cfg.DataRoot); err != nil {
			return invalid(err)
		}
		if topReadOnly {
			p.TopReadOnly()
		}
		if own[p.Destination] {
			return errdefs.InvalidArgument("Duplicate mount point: %s", given)
		}
		own[p.Destination] = true
		points = replace(points, p)
		return nil
	}
	for _, b := range c.Host.Binds {
		p, err := mountpoint.ParseBind(b, c.Host.VolumeDriver)
		if err != nil {
			return nil, invalid(err)
		}
		if _, tmpfs := c.Host.Tmpfs[p.Destination]; tmpfs {
			return nil, errdefs.InvalidArgument("Duplicate mount point: %s", p.Destination)
		}
		if err := add(p, p.Destination); err != nil {
			return nil, err
		}
	}
	for _, m := range c.Host.Mounts {
		if err := add(mountpoint.ParseMount(m), m.Target); err != nil {
			return nil, err
		}
	}
	for dst := range c.Config.Volumes {
		p, err := mountpoint.Anonymous(dst, c.Host.VolumeDriver)
		if err != nil {
			return nil, invalid(err)
		}
		if !mountedAt(points, p.Destination) {
			points = append(points, p)
		}
	}
	return points, nil
}

func replace(points []mountpoint.Point, p mountpoint.Point) []mountpoint.Point {
	points = slices.DeleteFunc(points, func(o mountpoint.Point) bool { return o.Destination == p.Destination })
	return append(points, p)
}

func mountedAt(points []mountpoint.Point, dst string) bool {
	return slices.ContainsFunc(points, func(p mountpoint.Point) bool { return p.Destination == dst })
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
			points = replace(points, p)
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

// mountAll gets a container's mounts ready for its start: volumes are mounted, missing
// sources of binds made.
//
// What goes into steps stays while the container runs, what goes into staged until its
// mounts are made.
func (s *Service) mountAll(ctx context.Context, c *Snapshot, steps, staged *undo.Stack) ([]spec.Mount, error) {
	var out []spec.Mount
	for dst, data := range c.Host.Tmpfs {
		out = append(out, spec.Mount{Destination: dst, Tmpfs: true, Data: data})
	}
	for _, p := range c.Mounts {
		if _, tmpfs := c.Host.Tmpfs[p.Destination]; tmpfs {
			continue
		}
		m, err := s.mountOne(ctx, c, p, steps, staged)
		if err != nil {
			return nil, err
		}
		out = append(out, m)
	}
	return out, nil
}

func (s *Service) mountOne(ctx context.Context, c *Snapshot, p mountpoint.Point, steps, staged *undo.Stack) (spec.Mount, error) {
	m := spec.Mount{Source: p.Source, Destination: p.Destination, Writable: p.RW, Propagation: string(p.Propagation)}
	switch p.Type {
	case mounttypes.TypeTmpfs:
		data, err := mountpoint.TmpfsData(p.Spec.TmpfsOptions, p.Spec.ReadOnly)
		return spec.Mount{Destination: p.Destination, Tmpfs: true, Data: data}, err
	case mounttypes.TypeVolume:
		return s.mountVolume(ctx, c, p, m, steps, staged)
	case mounttypes.TypeImage:
		return s.mountImage(ctx, p, m, c.IDs, staged)
	}
	if p.CreateSource {
		uid, gid := c.IDs.RootPair()
		if err := hostpath.MakeDir(ctx, p.Source, uid, gid); err != nil {
			return m, wrap("error while creating mount source path '"+p.Source+"'", err)
		}
	}
	if err := hostpath.Answers(ctx, p.Source); err != nil { // else the init would sleep in its mount
		return m, wrap("bind source", err)
	}
	if err := bindOptions(&m, p); err != nil {
		return m, err
	}
	if err := sourcePropagation(ctx, &m); err != nil {
		return m, err
	}
	// As dockerd's, the daemon's own choice gives way where the source's mount is private.
	m.AnySource = p.ShowsRoot(s.cfg.DataRoot) && !p.AskedPropagation()
	return m, nil
}

func bindOptions(m *spec.Mount, p mountpoint.Point) error {
	o := p.Spec.BindOptions
	if o == nil {
		return nil
	}
	switch {
	case !p.Spec.ReadOnly && o.ReadOnlyNonRecursive:
		return errors.New("mount options conflict: !ReadOnly && BindOptions.ReadOnlyNonRecursive")
	case !p.Spec.ReadOnly && o.ReadOnlyForceRecursive:
		return errors.New("mount options conflict: !ReadOnly && BindOptions.ReadOnlyForceRecursive")
	case o.ReadOnlyNonRecursive && o.ReadOnlyForceRecursive:
		return errors.New("mount options conflict: ReadOnlyNonRecursive && BindOptions.ReadOnlyForceRecursive")
	}
	m.NonRecursive, m.ReadOnlyNonRecursive, m.ReadOnlyForceRecursive = o.NonRecursive, o.ReadOnlyNonRecursive, o.ReadOnlyForceRecursive
	return nil
}

func (s *Service) mountVolume(ctx context.Context, c *Snapshot, p mountpoint.Point, m spec.Mount, steps, staged *undo.Stack) (spec.Mount, error) {
	dir, err := s.Volumes.Mount(ctx, p.Name, c.ID)
	if err != nil {
		return m, wrap("error while mounting volume '"+p.Source+"'", err)
	}
	failpoint.Hit("daemon/container.start.volume-mounted")
	steps.Add("unmount volume", func(ctx context.Context) error { return s.Volumes.Unmount(ctx, p.Name, c.ID) })
	if err := hostpath.Answers(ctx, dir); err != nil {
		return m, wrap("volume '"+p.Name+"'", err)
	}
	m.Source = dir
	if o := p.Spec.VolumeOptions; o != nil && o.Subpath != "" {
		m.Source, err = stage(staged, func() (*source.Source, error) { return s.sources.Part(dir, o.Subpath) })
	}
	return m, err
}

// usesVolume says that a start mounts p's volume: not where a tmpfs is in its place.
func usesVolume(c *Snapshot, p mountpoint.Point) bool {
	_, tmpfs := c.Host.Tmpfs[p.Destination]
	return p.Type == mounttypes.TypeVolume && !tmpfs
}

// tellMounted sends the events of mountAll, and registers those of its undoing.
func (s *Service) tellMounted(c *Snapshot, steps *undo.Stack) {
	for _, p := range c.Mounts {
		if !usesVolume(c, p) {
			continue
		}
		s.tellVolume(c, p, events.ActionMount, map[string]string{
			"destination": p.Destination, "read/write": strconv.FormatBool(p.RW), "propagation": string(p.Propagation),
		})
		steps.Add("tell unmount", func(context.Context) error { s.tellVolume(c, p, events.ActionUnmount, nil); return nil })
	}
}

func (s *Service) tellVolume(c *Snapshot, p mountpoint.Point, action events.Action, more map[string]string) {
	attrs := map[string]string{"driver": p.Driver, "container": c.ID}
	maps.Copy(attrs, more)
	s.Events.Publish(events.VolumeEventType, action, events.Actor{ID: p.Name, Attributes: attrs})
}

// unmountAll undoes mountAll after an exit; what fails is logged.
func (s *Service) unmountAll(ctx context.Context, c *Snapshot) {
	for _, p := range c.Mounts {
		if !usesVolume(c, p) {
			continue
		}
		if err := s.Volumes.Unmount(ctx, p.Name, c.ID); err != nil {
			s.log.WarnContext(ctx, "unmount volume", "container", c.ID, "volume", p.Name, "err", err)
			continue
		}
		s.tellVolume(c, p, events.ActionUnmount, nil)
	}
}

// engineFiles are the binds of /etc/resolv.conf, /etc/hostname and /etc/hosts. A user's
// mount of the same place wins: its own source is bound instead.
func engineFiles(c *Snapshot, n Network) (out []spec.Mount) {
	for _, f := range [][2]string{{n.ResolvPath, "/etc/resolv.conf"}, {n.NamePath, "/etc/hostname"}, {n.HostsPath, "/etc/hosts"}} {
		if f[0] == "" || mountedAt(c.Mounts, f[1]) {
			continue
		}
		if _, tmpfs := c.Host.Tmpfs[path.Clean(f[1])]; tmpfs {
			continue
		}
		out = append(out, spec.Mount{Source: f[0], Destination: f[1], Writable: !c.Host.ReadonlyRootfs, Propagation: "rprivate"})
	}
	return out
}
