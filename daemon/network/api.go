package network

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/docker/docker/api/types/events"
	"github.com/docker/docker/api/types/filters"
	networktypes "github.com/docker/docker/api/types/network"

	"gantry/api/errdefs"
)

// Default returns what an empty network mode stands for in this engine.
func (s *Service) Default() string {
	if _, ok := s.networks[bridgeNetwork]; ok {
		return bridgeNetwork
	}
	return noneNetwork
}

var listFilters = map[string]bool{
	"dangling": true, "driver": true, "id": true, "label": true, "name": true, "scope": true, "type": true,
}

// List returns the networks that f matches, by name.
func (s *Service) List(_ context.Context, f filters.Args) ([]networktypes.Summary, error) {
	if err := f.Validate(listFilters); err != nil {
		return nil, errdefs.InvalidArgument("%w", err)
	}
	out := []networktypes.Summary{}
	for _, name := range slices.Sorted(maps.Keys(s.networks)) {
		if n := s.networks[name]; s.matches(n, f) {
			out = append(out, s.describe(n))
		}
	}
	return out, nil
}

// matches applies the filters to a predefined network: it has no labels and is never
// dangling or custom.
func (s *Service) matches(n record, f filters.Args) bool {
	if dangling, err := f.GetBoolOrDefault("dangling", false); err != nil || dangling {
		return false
	}
	return f.ExactMatch("driver", n.Driver) && prefixMatch(f, "id", n.ID) && f.Match("name", n.Name) &&
		f.MatchKVList("label", nil) && f.ExactMatch("scope", "local") && f.ExactMatch("type", "builtin")
}

func prefixMatch(f filters.Args, key, id string) bool {
	values := f.Get(key)
	return len(values) == 0 || slices.ContainsFunc(values, func(v string) bool { return strings.HasPrefix(id, v) })
}

// Inspect describes a network and who is in it.
func (s *Service) Inspect(_ context.Context, ref string, o networktypes.InspectOptions) (networktypes.Inspect, error) {
	n, err := s.find(ref)
	if err == nil && o.Scope != "" && o.Scope != "local" {
		err = errdefs.NotFound("network %s not found", ref)
	}
	if err != nil {
		return networktypes.Inspect{}, err
	}
	d := s.describe(n)
	s.mu.Lock()
	defer s.mu.Unlock()
	for id, e := range s.endpoints {
		if e.Network != n.Name {
			continue
		}
		r := networktypes.EndpointResource{Name: e.Name, EndpointID: e.ID, MacAddress: e.MAC}
		if e.Address.IsValid() {
			r.IPv4Address = e.Address.String()
		}
		d.Containers[id] = r
	}
	return d, nil
}

func (s *Service) describe(n record) networktypes.Inspect {
	d := networktypes.Inspect{
		Name: n.Name, ID: n.ID, Created: n.Created, Scope: "local", Driver: n.Driver,
		EnableIPv4: true, IPAM: networktypes.IPAM{Driver: "default", Config: []networktypes.IPAMConfig{}},
		Containers: map[string]networktypes.EndpointResource{}, Options: map[string]string{}, Labels: map[string]string{},
	}
	if n.Address.IsValid() {
		d.IPAM.Config = append(d.IPAM.Config, networktypes.IPAMConfig{Subnet: n.Address.Masked().String(), Gateway: n.Address.Addr().String()})
		d.Options = map[string]string{
			"com.docker.network.bridge.default_bridge":       "true",
			"com.docker.network.bridge.enable_icc":           "true",
			"com.docker.network.bridge.enable_ip_masquerade": strconv.FormatBool(s.cfg.Masquerade),
			"com.docker.network.bridge.host_binding_ipv4":    cmp.Or(addrText(s.cfg), "0.0.0.0"),
			"com.docker.network.bridge.name":                 s.cfg.Bridge,
			"com.docker.network.driver.mtu":                  strconv.Itoa(s.cfg.MTU),
		}
	}
	return d
}

func addrText(c Config) string {
	if !c.DefaultIP.IsValid() {
		return ""
	}
	return c.DefaultIP.String()
}

// Create is for user-defined networks, which this engine does not have yet.
func (s *Service) Create(_ context.Context, r networktypes.CreateRequest) (networktypes.CreateResponse, error) {
	if strings.TrimSpace(r.Name) == "" {
		return networktypes.CreateResponse{}, errdefs.InvalidArgument("invalid network name: name is empty")
	}
	if _, ok := s.networks[r.Name]; ok {
		return networktypes.CreateResponse{}, errdefs.PermissionDenied("operation is not permitted on predefined %s network ", r.Name)
	}
	return networktypes.CreateResponse{}, errdefs.NotImplemented("user-defined networks are not supported by this engine yet")
}

// Remove refuses the predefined networks; there are no others yet.
func (s *Service) Remove(_ context.Context, ref string) error {
	n, err := s.find(ref)
	if err != nil {
		return err
	}
	return errdefs.PermissionDenied("%s is a pre-defined network and cannot be removed", n.Name)
}

// Prune never removes a predefined network.
func (s *Service) Prune(_ context.Context, f filters.Args) (*networktypes.PruneReport, error) {
	if err := f.Validate(map[string]bool{"label": true, "label!": true, "until": true}); err != nil {
		return nil, errdefs.InvalidArgument("%w", err)
	}
	s.events.Publish(events.NetworkEventType, events.ActionPrune, events.Actor{Attributes: map[string]string{"reclaimed": "0"}})
	return &networktypes.PruneReport{}, nil
}

// Connect and Disconnect need user-defined networks.
func (s *Service) Connect(_ context.Context, ref string, _ networktypes.ConnectOptions) error {
	if _, err := s.find(ref); err != nil {
		return err
	}
	return errdefs.NotImplemented("connecting a container to a further network is not supported by this engine yet")
}

// Disconnect is Connect's counterpart.
func (s *Service) Disconnect(_ context.Context, ref string, _ networktypes.DisconnectOptions) error {
	if _, err := s.find(ref); err != nil {
		return err
	}
	return errdefs.NotImplemented("disconnecting a container from a network is not supported by this engine yet")
}
