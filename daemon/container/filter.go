package container

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	containertypes "github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/filters"
	"github.com/docker/go-connections/nat"

	"gantry/api/errdefs"
	"gantry/daemon/health"
)

var listFilters = map[string]bool{
	"ancestor": true, "before": true, "exited": true, "id": true, "isolation": true, "label": true,
	"name": true, "status": true, "health": true, "since": true, "volume": true, "network": true,
	"is-task": true, "publish": true, "expose": true,
}

// verdict on one container of a list that goes from the newest to the oldest.
type verdict int

const (
	skip verdict = iota
	take
	stop // this one and all that follow are out
)

// filter is a checked set of filters. It is used for one list.
type filter struct {
	args          filters.Args
	all           bool
	limit         int
	taken         int
	ids           map[string]bool // nil: any; of the id filter
	exited        []int
	before, since string // ids
	ancestors     map[string]bool
	publish       map[nat.Port]bool
	expose        map[nat.Port]bool
	wantTask      *bool
}

func (s *Service) newFilter(ctx context.Context, o containertypes.ListOptions) (*filter, error) {
	if err := o.Filters.Validate(listFilters); err != nil {
		return nil, err
	}
	f := &filter{args: o.Filters, all: o.All, limit: o.Limit}
	if o.Latest {
		f.limit = 1
	}
	for _, fold := range []func() error{
		f.foldExited, f.foldStatus, f.foldTask, f.foldHealth,
		func() error { return s.foldNeighbours(f, o) },
		func() error { s.foldIDs(f); s.foldAncestors(ctx, f); return nil },
		func() (err error) { f.publish, err = foldPorts(f.args, "publish"); return err },
		func() (err error) { f.expose, err = foldPorts(f.args, "expose"); return err },
	} {
		if err := fold(); err != nil {
			return nil, err
		}
	}
	return f, nil
}

func (f *filter) foldExited() error {
	for _, v := range f.args.Get("exited") {
		code, err := strconv.Atoi(v)
		if err != nil {
			return errdefs.InvalidArgument("invalid filter 'exited=%s': %w", v, err)
		}
		f.exited = append(f.exited, code)
	}
	return nil
}

func (f *filter) foldStatus() error {
	for _, v := range f.args.Get("status") {
		if err := containertypes.ValidateContainerState(v); err != nil {
			return errdefs.InvalidArgument("invalid filter 'status=%s': %w", v, err)
		}
		f.all = true
	}
	return nil
}

// foldTask: no container here belongs to a swarm.
func (f *filter) foldTask() error {
	if !f.args.Contains("is-task") {
		return nil
	}
	want, err := f.args.GetBoolOrDefault("is-task", false)
	f.wantTask = &want
	return err
}

func (f *filter) foldHealth() error {
	for _, v := range f.args.Get("health") {
		if err := containertypes.ValidateHealthStatus(v); err != nil {
			return errdefs.InvalidArgument("invalid filter 'health=%s': %w", v, err)
		}
	}
	return nil
}

func (s *Service) foldNeighbours(f *filter, o containertypes.ListOptions) error {
	find := func(key, old string, id *string) error {
		values := f.args.Get(key)
		if old != "" {
			values = append(values, old)
		}
		for _, v := range values {
			e, err := s.find(v)
			if err != nil {
				return errNotFound(v)
			}
			*id = e.id
		}
		return nil
	}
	if err := find("before", o.Before, &f.before); err != nil {
		return err
	}
	return find("since", o.Since, &f.since)
}

// foldIDs: an id filter means the one container that each prefix names.
func (s *Service) foldIDs(f *filter) {
	if !f.args.Contains("id") {
		return
	}
	f.ids = map[string]bool{}
	for _, v := range f.args.Get("id") {
		if id, err := s.index.ByPrefix(v); err == nil {
			f.ids[id] = true
		}
	}
}

func (s *Service) foldAncestors(ctx context.Context, f *filter) {
	if !f.args.Contains("ancestor") {
		return
	}
	f.ancestors = map[string]bool{}
	for _, v := range f.args.Get("ancestor") {
		if img, err := s.Images.Resolve(ctx, v, nil); err == nil {
			f.ancestors[img.ID.String()] = true
		}
	}
}

func foldPorts(args filters.Args, key string) (map[nat.Port]bool, error) {
	out := map[nat.Port]bool{}
	for _, v := range args.Get(key) {
		if strings.Contains(v, ":") {
			return nil, errdefs.InvalidArgument("filter for '%s' should not contain ':': %s", key, v)
		}
		proto, port := nat.SplitProtoPort(v)
		first, last, err := nat.ParsePortRange(port)
		if err != nil {
			return nil, errdefs.InvalidArgument("error while looking up for %s %s: %w", key, v, err)
		}
		for n := first; n <= last; n++ {
			p, err := nat.NewPort(proto, strconv.FormatUint(n, 10))
			if err != nil {
				return nil, errdefs.InvalidArgument("error while looking up for %s %s: %w", key, v, err)
			}
			out[p] = true
		}
	}
	return out, nil
}

// match is called in order, newest first.
func (f *filter) match(c *Snapshot) verdict {
	if f.before != "" { // skips up to and with it
		if c.ID == f.before {
			f.before = ""
		}
		return skip
	}
	if f.since == c.ID {
		return stop
	}
	if !c.Status.Up() && !f.all && f.limit <= 0 {
		return skip
	}
	if !f.matchName(c) || !f.matchIdentity(c) {
		return skip
	}
	if f.limit > 0 && f.taken == f.limit {
		return stop
	}
	if f.matchState(c) && f.matchParts(c) {
		return take
	}
	return skip
}

// matchName: names that links give do not count, as with dockerd, though the list has them.
func (f *filter) matchName(c *Snapshot) bool {
	return f.args.Match("name", "/"+c.Name) || f.args.Match("name", c.Name)
}

func (f *filter) matchIdentity(c *Snapshot) bool {
	if f.ids != nil && !f.ids[c.ID] {
		return false
	}
	if f.wantTask != nil && *f.wantTask {
		return false
	}
	return f.args.MatchKVList("label", c.Config.Labels)
}

func (f *filter) matchState(c *Snapshot) bool {
	if len(f.exited) > 0 && (c.Status.Up() || c.StartedAt.IsZero() || !slices.Contains(f.exited, c.ExitCode)) {
		return false
	}
	return f.args.Match("status", string(c.Status)) && f.args.ExactMatch("health", health.Status(c.Health))
}

func (f *filter) matchParts(c *Snapshot) bool {
	if f.args.Contains("volume") && !slices.ContainsFunc(f.args.Get("volume"), func(v string) bool { return hasVolume(c, v) }) {
		return false
	}
	if f.ancestors != nil && !f.ancestors[c.Image.String()] {
		return false
	}
	if f.args.Contains("network") && !slices.ContainsFunc(f.args.Get("network"), func(v string) bool { return hasNetwork(c, v) }) {
		return false
	}
	return f.matchPorts(c)
}

func hasVolume(c *Snapshot, v string) bool {
	for _, m := range c.Mounts {
		if m.Destination == v || m.Name == v || m.Name == "" && m.Source == v {
			return true
		}
	}
	return false
}

func hasNetwork(c *Snapshot, v string) bool {
	for n, ep := range networks(c) {
		if n == v || ep.NetworkID != "" && strings.HasPrefix(ep.NetworkID, v) {
			return true
		}
	}
	return false
}

func (f *filter) matchPorts(c *Snapshot) bool {
	if len(f.publish) == 0 && len(f.expose) == 0 {
		return true
	}
	for _, p := range ports(c) {
		if f.publish[nat.Port(fmt.Sprintf("%d/%s", p.PublicPort, p.Type))] || f.expose[nat.Port(fmt.Sprintf("%d/%s", p.PrivatePort, p.Type))] {
			return true
		}
	}
	return false
}
