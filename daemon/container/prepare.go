package container

import (
	"context"
	"fmt"
	"path/filepath"
	"strconv"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sync/errgroup"

	"gantry/api/errdefs"
	"gantry/api/failpoint"
	"gantry/api/undo"
	"gantry/daemon/logger"
	"gantry/daemon/network"
	"gantry/daemon/spec"
)

// prepare does what can be done side by side: the network, and the root with its user
// and mounts; the specification needs both.
func (s *Service) prepare(ctx context.Context, c *Snapshot, steps *undo.Stack) (_ *prepared, err error) {
	ctx, end := step(ctx, "prepare network, root and specification")
	defer end(&err)
	p := &prepared{sandbox: &network.Sandbox{}}
	in := spec.Input{
		Config: c.Config, HostConfig: c.Host, Path: c.Path, Args: c.Args,
		IDs:         c.IDs,
		CgroupsPath: s.cgroupsPath(c), Ulimits: s.cfg.Ulimits, Profile: s.cfg.SeccompProfile, Host: s.cfg.Host,
	}
	rt, _ := s.live.Load().find(c.Host.Runtime) // an unknown one ends the start later
	in.TopReadOnly = rt.TopReadOnly
	var netSteps, rootSteps undo.Stack
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() error { return s.connect(gctx, c, p, &netSteps) })
	g.Go(func() error { return s.readRoot(gctx, c, p, &in, &rootSteps) })
	err = g.Wait()
	steps.Add("release network", func(ctx context.Context) error { return back(ctx, &netSteps) })
	steps.Add("release mounts", func(ctx context.Context) error { return back(ctx, &rootSteps) })
	if err != nil {
		p.close(ctx)
		return nil, err
	}
	s.tellMounted(c, steps) // after the network's events, as in dockerd
	if err := s.complete(ctx, c, p, &in, steps); err != nil {
		p.close(ctx)
		return nil, errdefs.WithClass(errdefs.ErrInternal, err)
	}
	return p, nil
}

// back takes a side's steps back as one step of the whole.
func back(ctx context.Context, steps *undo.Stack) error {
	failed := error(errUndone)
	steps.OnError(ctx, undoTime, &failed)
	for _, err := range undo.Failures(failed) {
		return err
	}
	return nil
}

var errUndone = fmt.Errorf("undone")

// connect gives the container its network, or the one of another container.
func (s *Service) connect(ctx context.Context, c *Snapshot, p *prepared, steps *undo.Stack) error {
	if c.Host.NetworkMode.IsContainer() {
		return s.share(c, p)
	}
	sb, err := s.Networks.Allocate(ctx, s.networkRequest(c.Record))
	if err != nil {
		return err
	}
	failpoint.Hit("daemon/container.start.network")
	p.sandbox = sb
	steps.Add("release network", func(ctx context.Context) error { return s.Networks.Release(ctx, c.ID) })
	return s.tellHosts(c, networkOf(sb))
}

// share takes the namespace and the files of the container whose network is joined.
func (s *Service) share(c *Snapshot, p *prepared) error {
	ref := c.Host.NetworkMode.ConnectedContainer()
	e, err := s.find(ref)
	if err != nil {
		return errdefs.WithClass(errdefs.ErrInternal, fmt.Errorf("joining network namespace of container: %w", err))
	}
	donor := e.snapshot()
	switch {
	case e.id == c.ID:
		return errdefs.Internal("cannot join own network namespace")
	case !donor.Status.Up():
		return errdefs.Conflict("cannot join network namespace of a non running container: container %s is %s", donor.Name, donor.Status)
	case donor.Status == Restarting:
		return errdefs.Conflict("cannot join network namespace of container: %v", errRestarting(ref))
	}
	p.sandbox = &network.Sandbox{
		NetnsPath: procNS(donor.Pid, "net"),
		HostsPath: donor.Network.HostsPath, NamePath: donor.Network.NamePath, ResolvPath: donor.Network.ResolvPath,
	}
	if p.sandbox.UsernsPath, err = joinUser(c, donor); err != nil {
		return err
	}
	p.donor = donor.Config
	return nil
}

func procNS(pid int, kind string) string { return "/proc/" + strconv.Itoa(pid) + "/ns/" + kind }

func (s *Service) networkRequest(c *Record) network.Request {
	h := c.Host
	return network.Request{
		ContainerID: c.ID, Name: c.Name, Hostname: c.Config.Hostname, Domainname: c.Config.Domainname,
		Dir: s.dir(c.ID), Mode: h.NetworkMode, Endpoints: c.Endpoints, Disabled: c.Config.NetworkDisabled,
		PortBindings: h.PortBindings, Exposed: c.Config.ExposedPorts, PublishAll: h.PublishAllPorts,
		DNS: h.DNS, DNSSearch: h.DNSSearch, DNSOptions: h.DNSOptions, ExtraHosts: h.ExtraHosts,
		IDs: c.IDs,
	}
}

// readRoot gets the snapshot's mounts, looks the user up in them and mounts volumes.
func (s *Service) readRoot(ctx context.Context, c *Snapshot, p *prepared, in *spec.Input, steps *undo.Stack) (err error) {
	if p.rootfs, err = s.rootMounts(ctx, c); err != nil {
		return err
	}
	if err := s.lookUpUser(ctx, c, p, in); err != nil {
		return err
	}
	ctx, end := step(ctx, "mount volumes")
	defer end(&err)
	in.Mounts, err = s.mountAll(ctx, c, steps, &p.staged)
	return err
}

// lookUpUser looks into the container's root.
func (s *Service) lookUpUser(ctx context.Context, c *Snapshot, p *prepared, in *spec.Input) (err error) {
	_, end := step(ctx, "look up user in the root")
	defer end(&err)
	if in.User, in.Home, err = s.UserIn(p.rootfs, c.Config.User, c.Host.GroupAdd); err != nil {
		return errdefs.WithClass(errdefs.ErrInternal, err)
	}
	return nil
}

// complete adds what has to be looked up and builds the specification.
func (s *Service) complete(ctx context.Context, c *Snapshot, p *prepared, in *spec.Input, steps *undo.Stack) (err error) {
	_, end := step(ctx, "build specification")
	defer end(&err)
	if p.donor != nil { // one network, one name
		own := *c.Config
		own.Hostname, own.Domainname = p.donor.Hostname, p.donor.Domainname
		in.Config = &own
	}
	in.Mounts = append(in.Mounts, engineFiles(c, networkOf(p.sandbox))...)
	if in.LinkEnv, err = s.LinkEnv(c); err != nil {
		return err
	}
	if in.Security, err = spec.ParseSecurity(c.Host.SecurityOpt, s.cfg.NoNewPrivileges); err != nil {
		return err
	}
	if in.Namespaces, err = s.namespaces(c, p.sandbox); err != nil {
		return err
	}
	if err := s.shareShm(c, in, steps); err != nil {
		return err
	}
	if in.Devices, err = devices(ctx, c.Host); err != nil {
		return err
	}
	if c.Host.Privileged {
		if in.AllHost, err = hostDevices(); err != nil {
			return err
		}
	}
	if in.BlockDevs, err = blockNumbers(ctx, spec.BlockPaths(c.Host.Resources)); err != nil {
		return err
	}
	if s.wantsInit(c) {
		in.Init = s.cfg.InitPath
	}
	if len(c.Host.DeviceRequests) > 0 {
		in.Edit = func(sp *specs.Spec) error { return s.Devices.Edit(sp, c.Host.DeviceRequests) }
	}
	p.image = c.Config.Image
	p.spec, err = spec.Build(*in)
	return err
}

func (s *Service) wantsInit(c *Snapshot) bool {
	if c.Host.Init != nil {
		return *c.Host.Init
	}
	return s.cfg.Init
}

func (s *Service) cgroupsPath(c *Snapshot) string {
	parent := s.cfg.CgroupParent
	if c.Host.CgroupParent != "" {
		parent = c.Host.CgroupParent
	}
	if !s.cfg.SystemdCgroup {
		parent = filepath.Join("/", parent) // no way out of the hierarchy
	}
	return spec.CgroupsPath(parent, s.cfg.CgroupPrefix, c.ID, s.cfg.SystemdCgroup)
}

// namespaces resolves the modes that name other containers.
func (s *Service) namespaces(c *Snapshot, sb *network.Sandbox) (n spec.Namespaces, err error) {
	h := c.Host
	n.Net = spec.Namespace{Path: sb.NetnsPath, Host: h.NetworkMode.IsHost()}
	n.PID.Host, n.IPC.Host = h.PidMode.IsHost(), h.IpcMode.IsHost()
	n.User = spec.Namespace{Path: sb.UsernsPath}
	if h.PidMode.IsContainer() {
		donor, err := s.donor(h.PidMode.Container())
		if err != nil {
			return n, fmt.Errorf("failed to join PID namespace: %w", err)
		}
		if err := sameUser(c, donor, sb.UsernsPath); err != nil {
			return n, fmt.Errorf("failed to join PID namespace: %w", err)
		}
		n.PID.Path = procNS(donor.Pid, "pid")
	}
	if h.IpcMode.IsContainer() {
		donor, err := s.donor(h.IpcMode.Container())
		if err != nil {
			return n, fmt.Errorf("failed to join IPC namespace: %w", err)
		}
		if err := sameUser(c, donor, sb.UsernsPath); err != nil {
			return n, fmt.Errorf("failed to join IPC namespace: %w", err)
		}
		n.IPC.Path = procNS(donor.Pid, "ipc")
	}
	return n, nil
}

// donor is a running container whose namespace is joined.
func (s *Service) donor(ref string) (*Snapshot, error) {
	e, err := s.find(ref)
	if err != nil {
		return nil, err
	}
	d := e.snapshot()
	switch {
	case d.Status == Restarting:
		return nil, errRestarting(ref)
	case !d.Status.Up():
		return nil, errNotRunning(ref)
	}
	return d, nil
}

// logSubject is the container as its log's tag and attributes see it.
func logSubject(c *Snapshot) *logger.Subject {
	return &logger.Subject{
		Config: c.Host.LogConfig.Config, ContainerID: c.ID, ContainerName: "/" + c.Name,
		ContainerEntrypoint: c.Path, ContainerArgs: c.Args, ContainerImageID: c.Image.String(),
		ContainerImageName: c.Config.Image, ContainerCreated: c.Created, ContainerEnv: c.Config.Env,
		ContainerLabels: c.Config.Labels, LogPath: c.LogPath, DaemonName: logger.DaemonName,
	}
}

func logAttrs(c *Snapshot) map[string]string {
	if c.Host.LogConfig.Type != logger.JSONFile {
		return nil // the form of the others has no room for them
	}
	return logSubject(c).Attrs()
}
