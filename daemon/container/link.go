package container

import (
	"context"
	"fmt"
	"net/netip"
	"path"
	"slices"

	networktypes "github.com/docker/docker/api/types/network"

	"gantry/api/errdefs"
	"gantry/api/undo"
	"gantry/daemon/link"
	"gantry/daemon/network/hostfiles"
)

// linkAll ties a new container to those that HostConfig.Links names. Each link is a
// further name of the other one: "holder/alias".
func (s *Service) linkAll(c *Record, steps *undo.Stack) error {
	if c.Host.NetworkMode.IsUserDefined() {
		return nil
	}
	for _, l := range c.Host.Links {
		ref, alias, err := link.Parse(l)
		if err != nil {
			return invalid(err)
		}
		other, err := s.linked(ref)
		if err != nil {
			return err
		}
		full := linkName(c.Name, alias)
		if holder, ok := s.index.Reserve(full, other.ID); !ok {
			s.log.Warn("link is ignored, its name is taken", "container", c.ID, "link", full, "holder", holder)
			continue
		}
		steps.Add("release name of link", func(context.Context) error { s.index.Release(full, other.ID); return nil })
		if !slices.ContainsFunc(c.Links, func(l link.Link) bool { return l.Alias == alias }) {
			c.Links = append(c.Links, link.Link{ID: other.ID, Name: other.Name, Alias: alias})
		}
	}
	return nil
}

func linkName(holder, alias string) string { return path.Join(holder, alias) }

// linked is the container that a link to ref leads to: the one whose network that has.
func (s *Service) linked(ref string) (*Snapshot, error) {
	for range len(s.all()) + 1 { // no network of a container leads around for ever
		e, err := s.find(ref)
		if errdefs.IsNotFound(err) {
			err = errdefs.WithClass(errdefs.ErrInvalidArgument, err)
		}
		if err != nil {
			return nil, fmt.Errorf("could not get container for %s: %w", ref, err)
		}
		c := e.snapshot()
		mode := c.Host.NetworkMode
		switch {
		case mode.IsHost():
			return nil, errdefs.InvalidArgument("conflicting options: host type networking can't be used with links. This would result in undefined behavior")
		case !mode.IsContainer():
			return c, nil
		}
		ref = mode.ConnectedContainer()
	}
	return nil, errdefs.InvalidArgument("could not get container for %s", ref)
}

// other is the container at the end of a link; nil when it has gone.
func (s *Service) other(l link.Link) *Snapshot {
	if e := s.entry(l.ID); e != nil {
		return e.snapshot()
	}
	return nil
}

// shownLinks is HostConfig.Links as inspect shows it.
func (s *Service) shownLinks(c *Snapshot) (out []string) {
	for _, l := range c.Links {
		name := l.Name
		if o := s.other(l); o != nil {
			name = o.Name
		}
		out = append(out, "/"+name+":/"+linkName(c.Name, l.Alias))
	}
	return out
}

// linkNames are the names that links give to containers, by their ids.
func (s *Service) linkNames(all []*Snapshot) map[string][]string {
	var out map[string][]string
	for _, c := range all {
		for _, l := range c.Links {
			if out == nil {
				out = map[string][]string{}
			}
			out[l.ID] = append(out[l.ID], "/"+linkName(c.Name, l.Alias))
		}
	}
	return out
}

// reserveLinks takes the names of a container's links, and releaseLinks gives them up.
func (s *Service) reserveLinks(holder string, links []link.Link) {
	for _, l := range links {
		s.index.Reserve(linkName(holder, l.Alias), l.ID)
	}
}

func (s *Service) releaseLinks(holder string, links []link.Link) {
	for _, l := range links {
		s.index.Release(linkName(holder, l.Alias), l.ID)
	}
}

// forgetLinked releases the names that a container which goes has by others' links. The
// links stay and are dead.
func (s *Service) forgetLinked(id string) {
	for _, e := range s.all() {
		c := e.snapshot()
		for _, l := range c.Links {
			if l.ID == id {
				s.index.Release(linkName(c.Name, l.Alias), id)
			}
		}
	}
}

// LinkEnv is what the container's processes are told of those that it is linked to,
// which must be running.
func (s *Service) LinkEnv(c *Snapshot) (env []string, err error) {
	if c.Endpoints[networktypes.NetworkBridge] == nil {
		return nil, nil
	}
	for _, l := range c.Links {
		o := s.other(l)
		if o == nil || !o.Status.Up() {
			return nil, fmt.Errorf("Cannot link to a non running container: /%s AS /%s", l.Name, linkName(c.Name, l.Alias)) //nolint:staticcheck // Docker's words
		}
		ep := o.Network.Networks[networktypes.NetworkBridge]
		if ep == nil {
			return nil, fmt.Errorf("container %s not attached to default bridge network", o.ID)
		}
		env = append(env, link.Env(c.Name, l.Alias, ep.IPAddress, o.Config.Env, o.Config.ExposedPorts)...)
	}
	return env, nil
}

// tellHosts puts those that a container is linked to into its hosts file, and its own
// new address into the files of those that are linked to it.
func (s *Service) tellHosts(c *Snapshot, n Network) error {
	own := n.Networks[networktypes.NetworkBridge]
	if own == nil {
		return nil
	}
	var entries []hostfiles.Entry
	for _, l := range c.Links {
		o := s.other(l)
		if o == nil {
			continue // LinkEnv refuses it
		}
		if o.Endpoints[networktypes.NetworkBridge] == nil {
			return fmt.Errorf("Cannot link to /%s, as it does not belong to the default network", o.Name) //nolint:staticcheck // Docker's words
		}
		names := []string{l.Alias, o.Config.Hostname}
		if l.Alias != o.Name {
			names = append(names, o.Name)
		}
		for _, a := range addresses(o.Network.Networks[networktypes.NetworkBridge]) {
			entries = append(entries, hostfiles.Entry{Address: a, Names: names})
		}
	}
	if err := hostfiles.Add(n.HostsPath, entries); err != nil {
		return wrap("write links to hosts", err)
	}
	s.tellHolders(c, addresses(own))
	return nil
}

// tellHolders writes the addresses of a container that starts into the hosts files of
// the running ones that are linked to it. What fails is made good by their next start.
func (s *Service) tellHolders(c *Snapshot, now []netip.Addr) {
	for _, e := range s.all() {
		holder := e.snapshot()
		for _, l := range holder.Links {
			if l.ID != c.ID || !holder.Status.Up() || holder.Network.HostsPath == "" {
				continue
			}
			if err := hostfiles.Readdress(holder.Network.HostsPath, l.Alias, now); err != nil {
				s.log.Warn("update hosts of a linked container", "container", holder.ID, "link", l.Alias, "err", err)
			}
		}
	}
}

func addresses(ep *networktypes.EndpointSettings) (out []netip.Addr) {
	if ep == nil {
		return nil
	}
	for _, text := range []string{ep.IPAddress, ep.GlobalIPv6Address} {
		if a, err := netip.ParseAddr(text); err == nil {
			out = append(out, a)
		}
	}
	return out
}

// removeLink takes a link away, named "holder/alias" as ref; e is the container that it
// leads to. The holder's files keep it until its next start.
func (s *Service) removeLink(ctx context.Context, e *entry, ref string) error {
	holder, alias := path.Split(path.Clean("/" + ref))
	if holder == "/" {
		return errdefs.Internal("Conflict, cannot remove the default link name of the container")
	}
	holder = path.Clean(holder)
	h, err := s.find(holder)
	if err != nil {
		return errdefs.Internal("Cannot get parent %s for link name %s", holder, path.Join(holder, alias))
	}
	if err := h.lane.enter(ctx); err != nil {
		return err
	}
	defer h.lane.leave()
	err = s.commit(h, func(n *Snapshot) {
		r := *n.Record
		r.Links = slices.DeleteFunc(slices.Clone(r.Links), func(l link.Link) bool { return l.Alias == alias && l.ID == e.id })
		n.Record = &r
	})
	if err != nil {
		return err
	}
	s.index.Release(linkName(h.snapshot().Name, alias), e.id)
	return nil
}
