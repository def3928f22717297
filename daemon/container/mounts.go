package container

import (
	"context"
	"errors"
	"maps"
	"path"
	"strconv"

	"github.com/docker/docker/api/types/events"
	mounttypes "github.com/docker/docker/api/types/mount"

	"gantry/api/failpoint"
	"gantry/api/undo"
	"gantry/daemon/hostpath"
	"gantry/daemon/mountpoint"
	"gantry/daemon/source"
	"gantry/daemon/spec"
)

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
		if f[0] == "" || mountpoint.At(c.Mounts, f[1]) {
			continue
		}
		if _, tmpfs := c.Host.Tmpfs[path.Clean(f[1])]; tmpfs {
			continue
		}
		out = append(out, spec.Mount{Source: f[0], Destination: f[1], Writable: !c.Host.ReadonlyRootfs, Propagation: "rprivate"})
	}
	return out
}
